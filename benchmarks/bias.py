"""What fastest-K loses of what slow clients alone have, and what inclusionCorrection wins back: CIFAR-10 on sixty
clients, simulated time.

The last eighteen clients are always the slow ones (profile biased), and they alone hold ships and trucks. Twenty are
asked in a round. One arm waits for all of them; the others close with the fastest fourteen, one of these with weights
inverse to how often each client was counted. Figures are the accuracy on the two classes by themselves, and on all ten.
The claims: fastest-K loses points on the two classes, and the correction wins some of them back; either with the whole
of the confidence interval.

    benchmarks/bias.py --processes 2 --out benchmarks/results/bias.jsonl                five seeds; an hour
    benchmarks/bias.py --seeds 1000 --rounds 6                                          a trial
    benchmarks/bias.py --summary benchmarks/results/bias.jsonl                          its figures
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from evaluations.claims import Claim  # noqa: E402 -- after the path
from evaluations.figures import (  # noqa: E402 -- likewise
    Figure,
    Row,
    difference,
    level,
    round_seconds,
    runs_of,
    saving,
    table,
)
from evaluations.series import METRIC, Arm, Series, run_series  # noqa: E402 -- likewise

PROFILE, SLOW_TIER = "biased", "cloud-cpu"
SLOW_CLIENTS, SLOW_CLASSES = range(42, 60), (8, 9)  # the last three in ten; ships and trucks
SLOW_METRICS = tuple(f"{METRIC}/{label}" for label in SLOW_CLASSES)
RESERVED = {"classes": list(SLOW_CLASSES), "clients": list(SLOW_CLIENTS)}
PARTITION = {"type": "labels", "classesPerClient": 3, "reserved": RESERVED}
TASK: dict[str, object] = {"spec.task.config": {"partition": PARTITION, "perClass": True}}
FASTEST = TASK | {"spec.rounds.minUpdates": 14}

ALL, BIASED, CORRECTED = ARMS = (
    Arm("all", TASK, PROFILE),
    Arm("fastest 14", FASTEST, PROFILE),
    Arm("fastest 14, corrected", FASTEST | {"spec.rounds.inclusionCorrection": {"maxFactor": 3}}, PROFILE),
)


def slow_level(row: Row) -> float | None:
    """A run's accuracy on the classes of the slow clients, in points."""
    levels = [found for name in SLOW_METRICS if (found := level({"measured": row["metrics"][name]})) is not None]
    return statistics.fmean(levels) if levels else None


def slow_points_lost(rows: Sequence[Row]) -> Figure | None:
    """By not waiting for the slow clients, on their classes."""
    return difference(rows, ALL.name, BIASED.name, slow_level)


def slow_points_won_back(rows: Sequence[Row]) -> Figure | None:
    """By the correction, of these."""
    return difference(rows, CORRECTED.name, BIASED.name, slow_level)


CLAIMS = (
    Claim(
        "fastest 14 of 20: points lost on the slow clients' classes", slow_points_lost, "above", 0, "lower end of ci95"
    ),
    Claim("inclusionCorrection: points won back on them", slow_points_won_back, "above", 0, "lower end of ci95"),
)


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """The two classes and all ten, what is lost beside waiting for all, and what the correction wins back of it."""
    quick = [arm.name for arm in (BIASED, CORRECTED)]
    return {
        "slow_classes": {arm.name: _slow_classes(rows, arm.name) for arm in ARMS},
        "slow_classes_points_lost": {arm: difference(rows, ALL.name, arm, slow_level) for arm in quick},
        "slow_classes_points_won_back": slow_points_won_back(rows),
        "accuracy_points_lost": {arm: difference(rows, ALL.name, arm, level) for arm in quick},
        "accuracy_points_won_back": difference(rows, CORRECTED.name, BIASED.name, level),
        "round_time_saved_percent": {arm: saving(rows, arm, ALL.name, round_seconds) for arm in quick},
        "arms": table(rows),
    }


def _slow_classes(rows: Sequence[Row], arm: str) -> dict[str, float] | None:
    """The accuracy on them, in points, and which part of all updates came from the clients that hold them."""
    runs = list(runs_of(rows, arm).values())
    levels = [found for run in runs if (found := slow_level(run)) is not None]
    if not levels:
        return None
    shares = [run["tiers"][SLOW_TIER] for run in runs]
    return {"accuracy": round(statistics.fmean(levels), 3), "share_of_updates": round(statistics.fmean(shares), 3)}


SERIES = Series("bias", __doc__ or "", ARMS, figures, CLAIMS, metrics=SLOW_METRICS)

if __name__ == "__main__":
    sys.exit(run_series(SERIES))
