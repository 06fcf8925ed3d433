"""What it costs in accuracy that one in five trainings is lost with its worker: CIFAR-10 on sixty clients, simulated
time.

The same policy (fastest fourteen of twenty, 60 s at most) on the same machines with and without dropouts, at equal
rounds. The claim: less than 1.8 points. Beside it what a policy loses that waits for everybody until the deadline.

    benchmarks/dropouts.py --processes 2 --out benchmarks/results/dropouts.jsonl        five seeds; an hour
    benchmarks/dropouts.py --seeds 1000 --rounds 6                                      a trial
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
    ratio,
    round_seconds,
    table,
)
from evaluations.series import Arm, Series, run_series  # noqa: E402 -- likewise

FASTEST = {"spec.rounds.minUpdates": 14, "spec.rounds.deadlineSeconds": 60}
PATIENT = {"spec.rounds.deadlineSeconds": 60}
ADAPTIVE = FASTEST | {"spec.selection.type": "Adaptive"}

ARMS = tuple(
    Arm(f"{name}, {word}", settings, profile)
    for name, settings in (("fastest 14", FASTEST), ("all until 60 s", PATIENT), ("adaptive, fastest 14", ADAPTIVE))
    for word, profile in (("everybody stays", "tiers"), ("one in five drops out", "dropouts"))
)
CLAIMS = (
    Claim(
        "fastest 14 of 20: accuracy lost to one training in five that drops out, in points",
        lambda rows: difference(rows, ARMS[0].name, ARMS[1].name, level),
        "below",
        1.8,
    ),
)


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """Points lost, and how much longer rounds take, by policy."""
    there = {row["arm"] for row in rows}
    pairs = [(calm.name, rough.name) for calm, rough in zip(ARMS[::2], ARMS[1::2], strict=True)]
    both = [(calm, rough) for calm, rough in pairs if {calm, rough} <= there]
    return {
        "target": TARGET,
        "accuracy_points_lost": {rough: difference(rows, calm, rough, level) for calm, rough in both},
        "times_as_long_a_round": {rough: ratio(rows, calm, rough, round_seconds) for calm, rough in both},
        "arms": table(rows),
    }


SERIES = Series("dropouts", __doc__ or "", ARMS, figures, CLAIMS)

if __name__ == "__main__":
    sys.exit(run_series(SERIES))
