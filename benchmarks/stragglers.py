"""What policies against slow clients save, in simulated time: CIFAR-10 on sixty clients in four tiers of machines.

The reference asks twenty at random and waits for all of them. Against it: adaptive selection; deadlines with
fastest-K; and both. The claims: adaptive selection shortens the mean round by at least 12 %, with accuracy no worse
and every client taking part; deadlines with fastest-K reach the target accuracy in at least 20 % less time.

    benchmarks/stragglers.py --processes 2 --out benchmarks/results/stragglers.jsonl      five seeds; an hour or two
    benchmarks/stragglers.py --seeds 1000 --rounds 6                                      a trial
    benchmarks/stragglers.py --summary benchmarks/results/stragglers.jsonl                its figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from evaluations.figures import (  # noqa: E402 -- after the path
    TARGET,
    Row,
    difference,
    level,
    round_seconds,
    saving,
    seconds_to_target,
    table,
)
from evaluations.series import Arm, Series, run_series  # noqa: E402 -- likewise

ADAPTIVE = {"spec.selection.type": "Adaptive"}
FASTEST = {"spec.rounds.minUpdates": 14, "spec.rounds.deadlineSeconds": 60}

ARMS = (
    Arm("random, all"),
    Arm("adaptive, all", ADAPTIVE),
    Arm("random, fastest 14", FASTEST),
    Arm("adaptive, fastest 14", ADAPTIVE | FASTEST),
)


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Each claim's figure and what it was held against."""
    reference = ARMS[0].name
    others = [arm.name for arm in ARMS[1:] if any(row["arm"] == arm.name for row in rows)]
    return {
        "target": TARGET,
        "round_time_saved_percent": {arm: saving(rows, arm, reference, round_seconds) for arm in others},
        "time_to_target_saved_percent": {arm: saving(rows, arm, reference, seconds_to_target) for arm in others},
        "accuracy_points_gained": {arm: difference(rows, arm, reference, level) for arm in others},
        "arms": table(rows),
    }


if __name__ == "__main__":
    sys.exit(run_series(Series("stragglers", __doc__ or "", ARMS, figures)))
