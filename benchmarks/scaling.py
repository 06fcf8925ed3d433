"""How much faster the same data is trained on by more clients: 12,000 images of CIFAR-10 on 10 to 60 clients, simulated
time.

Everybody takes part in every round, and a round goes twice over all the data, whatever the number of clients. The
claim: from 10 to 60 clients that are all alike a round is at least 4.5 times as fast. Time to the target accuracy
stands beside it: more clients with fewer images each take more rounds. So does the same in tiers, where a round is as
slow as its slowest.

    benchmarks/scaling.py --processes 2 --out benchmarks/results/scaling.jsonl          five seeds; two hours
    benchmarks/scaling.py --seeds 1000 --rounds 2 --arms "even, 60" "even, 10"          a trial
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
    seconds_to_target,
    table,
)
from evaluations.series import Arm, Series, run_series  # noqa: E402 -- likewise

COUNTS = (10, 20, 40, 60)
PROFILES = ("even", "tiers")

ARMS = tuple(
    Arm(f"{profile}, {count}", {"spec.rounds.cohort": count}, profile, count)
    for profile in PROFILES
    for count in COUNTS
)
CLAIMS = (
    Claim(
        "profile even: how many times as fast a round is with 60 clients as with 10, on the same data",
        lambda rows: ratio(rows, "even, 60", "even, 10", round_seconds),
        "at least",
        4.5,
    ),
)


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """How many times as fast, against ten clients on the same machines."""
    there = {row["arm"] for row in rows}
    pairs = [(f"{p}, {n}", f"{p}, {COUNTS[0]}") for p in PROFILES for n in COUNTS[1:] if f"{p}, {n}" in there]
    return {
        "target": TARGET,
        "times_as_fast_a_round": {arm: ratio(rows, arm, ten, round_seconds) for arm, ten in pairs},
        "times_as_fast_to_target": {arm: ratio(rows, arm, ten, seconds_to_target) for arm, ten in pairs},
        "accuracy_points_gained": {arm: difference(rows, arm, ten, level) for arm, ten in pairs},
        "arms": table(rows),
    }


SERIES = Series("scaling", __doc__ or "", ARMS, figures, CLAIMS)

if __name__ == "__main__":
    sys.exit(run_series(SERIES))
