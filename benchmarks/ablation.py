"""What each component is worth: all of them together, and each switched off in turn. CIFAR-10, sixty clients, simulated
time.

Machines that come and go, with lines that are often slow (profile volatile), so that every component has something to
do.

    benchmarks/ablation.py --processes 2 --out benchmarks/results/ablation.jsonl        five seeds; two hours
    benchmarks/ablation.py --seeds 1000 --rounds 6                                      a trial
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
    seconds_in_all,
    seconds_to_target,
    table,
)
from evaluations.series import Arm, Series, run_series  # noqa: E402 -- likewise

PROFILE = "volatile"
ALL = {
    "spec.selection.type": "Adaptive",
    "spec.rounds.minUpdates": 14,
    "spec.rounds.deadlineSeconds": 60,
    "spec.rounds.overselect": 0.2,
    "spec.compression.preset": "balanced",
    "spec.strategy": {"type": "FedProx", "fedProx": {"mu": 0.01}},
}
OFF: dict[str, dict[str, object]] = {
    "selection": {"spec.selection.type": "Random"},
    "fastest-K": {"spec.rounds.minUpdates": 20},
    "deadline": {"spec.rounds.deadlineSeconds": 600},
    "over-selection": {"spec.rounds.overselect": 0},
    "compression": {"spec.compression.preset": "none"},
    "proximal term": {"spec.strategy": {"type": "FedAvg"}},
}
EVERYTHING = "everything"
WITH_OWN_DEADLINE = "everything, adaptive deadline"

ARMS = (
    Arm(EVERYTHING, ALL, PROFILE),
    Arm(WITH_OWN_DEADLINE, ALL | {"spec.rounds.deadlineControl.type": "Adaptive"}, PROFILE),
    *(Arm(f"without {name}", ALL | off, PROFILE) for name, off in OFF.items()),
    Arm("nothing", {path: value for off in OFF.values() for path, value in off.items()}, PROFILE),
)


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """What everything together has more, or saves, against each arm that lacks something."""
    others = [arm.name for arm in ARMS[1:] if any(row["arm"] == arm.name for row in rows)]
    return {
        "target": TARGET,
        "round_time_saved_percent": {arm: saving(rows, EVERYTHING, arm, round_seconds) for arm in others},
        "time_saved_percent": {arm: saving(rows, EVERYTHING, arm, seconds_in_all) for arm in others},
        "time_to_target_saved_percent": {arm: saving(rows, EVERYTHING, arm, seconds_to_target) for arm in others},
        "accuracy_points_gained": {arm: difference(rows, EVERYTHING, arm, level) for arm in others},
        "arms": table(rows),
    }


if __name__ == "__main__":
    sys.exit(run_series(Series("ablation", __doc__ or "", ARMS, figures)))
