"""What policies against slow clients save, in simulated time: CIFAR-10 on sixty clients in four tiers of machines.

The reference asks twenty at random and waits for all of them. Against it: adaptive selection; fastest-K; both; and a
deadline alone. The claims: adaptive selection shortens the mean round by at least 12 %, with accuracy no worse and
every client taking part; fastest-K, and a deadline, reach the target accuracy in at least 20 % less time.

A round with minUpdates closes with that many updates and fails with fewer, so no deadline, adaptive or not, can close
one: the 60 s of those arms only bound it. `closedByDeadline` counts a run's rounds that a deadline did close.

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

from evaluations.claims import Claim  # noqa: E402 -- after the path
from evaluations.figures import (  # noqa: E402 -- likewise
    TARGET,
    Row,
    difference,
    level,
    participation,
    round_seconds,
    saving,
    seconds_to_target,
    table,
)
from evaluations.series import Arm, Series, run_series  # noqa: E402 -- likewise

ADAPTIVE: dict[str, object] = {"spec.selection.type": "Adaptive"}
FASTEST: dict[str, object] = {"spec.rounds.minUpdates": 14, "spec.rounds.deadlineSeconds": 60}
# 26 steps take the profile's median client, one of hpc-cpu, 1.3 s: the next whole second. Without minUpdates a round
# that has half of its cohort by then goes on with what is in.
DEADLINE: dict[str, object] = {"spec.rounds.deadlineSeconds": 2}

REFERENCE = "random, all"
ARMS = (
    Arm(REFERENCE),
    Arm("adaptive, all", ADAPTIVE),
    Arm("random, fastest 14", FASTEST),
    Arm("adaptive, fastest 14", ADAPTIVE | FASTEST),
    Arm("random, deadline alone", DEADLINE),
)
CLAIMS = (
    Claim(
        "adaptive selection: the mean round is shorter, in percent",
        lambda rows: saving(rows, "adaptive, all", REFERENCE, round_seconds),
        "at least",
        12,
    ),
    Claim(
        "adaptive selection: accuracy is not shown to be worse, in points gained",
        lambda rows: difference(rows, "adaptive, all", REFERENCE, level),
        "at least",
        0,
        "upper end of ci95",
    ),
    Claim(
        "adaptive selection: every client takes part in every run, in percent of the clients",
        lambda rows: participation(rows, "adaptive, all"),
        "at least",
        100,
        "least",
    ),
    Claim(
        "fastest 14 of 20: less time to the target, in percent",
        lambda rows: saving(rows, "random, fastest 14", REFERENCE, seconds_to_target),
        "at least",
        20,
    ),
    Claim(
        "a deadline of 2 s alone: less time to the target, in percent",
        lambda rows: saving(rows, "random, deadline alone", REFERENCE, seconds_to_target),
        "at least",
        20,
    ),
)


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """What each policy saves and gains, and what that is held against."""
    others = [arm.name for arm in ARMS[1:] if any(row["arm"] == arm.name for row in rows)]
    return {
        "target": TARGET,
        "round_time_saved_percent": {arm: saving(rows, arm, REFERENCE, round_seconds) for arm in others},
        "time_to_target_saved_percent": {arm: saving(rows, arm, REFERENCE, seconds_to_target) for arm in others},
        "accuracy_points_gained": {arm: difference(rows, arm, REFERENCE, level) for arm in others},
        "arms": table(rows),
    }


SERIES = Series("stragglers", __doc__ or "", ARMS, figures, CLAIMS)

if __name__ == "__main__":
    sys.exit(run_series(SERIES))
