"""What the raw results of the compression benchmark say: pure, from lines to figures.

Single rounds swing by ten points under label skew, so a run's accuracy is the mean over its last ten evaluations, and a
preset is compared with `none` seed by seed: the mean of these paired differences, with a confidence interval by
Student's t.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from scipy import stats

LAST = 10
Row = Mapping[str, Any]


def level(row: Row) -> float:
    """A run's accuracy."""
    return statistics.fmean(value for _, value in row["accuracies"][-LAST:])


def summarise(rows: Iterable[Row], targets: Mapping[str, float]) -> dict[str, Any]:
    """Figures by data set and preset; and by preset, the worse of all data sets."""
    table: dict[tuple[str, str], dict[int, Row]] = {}
    for row in rows:
        table.setdefault((row["dataset"], row["preset"]), {})[row["seed"]] = row
    figures: dict[str, Any] = {}
    for (dataset, preset), runs in table.items():
        reference = table.get((dataset, "none"), {})
        figures.setdefault(dataset, {})[preset] = _figures(runs, reference, targets[dataset])
    worst = {
        preset: _worse([of[preset] for of in figures.values() if "saved" in of.get(preset, {})])
        for preset in sorted({preset for _, preset in table} - {"none"})
    }
    return {**{preset: of for preset, of in worst.items() if of}, "datasets": figures}


def _figures(runs: Mapping[int, Row], reference: Mapping[int, Row], target: float) -> dict[str, Any]:
    reached = [_rounds_to(row, target) for row in runs.values()]
    in_time = sorted(number for number in reached if number is not None)
    figures: dict[str, Any] = {
        "runs": len(runs),
        "accuracy": round(statistics.fmean(map(level, runs.values())), 4),
        "mb": round(statistics.fmean(_wire(row) for row in runs.values()) / 1e6, 2),
        "overhead": round(1 - statistics.fmean(_payload(row) / _wire(row) for row in runs.values()), 4),
        "rounds_to_target": in_time[len(in_time) // 2] if len(in_time) > len(reached) / 2 else None,
        "reached_target": len(in_time),
    }
    pairs = [(runs[seed], reference[seed]) for seed in sorted(runs.keys() & reference.keys())]
    return figures | (_compared(pairs) if pairs and runs is not reference else {})


def _compared(pairs: list[tuple[Row, Row]]) -> dict[str, Any]:
    lost = [100 * (level(plain) - level(packed)) for packed, plain in pairs]
    saved = [1 - _wire(packed) / _wire(plain) for packed, plain in pairs]
    return {
        "saved": round(statistics.fmean(saved), 4),
        "saved_payload": round(statistics.fmean(1 - _payload(packed) / _payload(plain) for packed, plain in pairs), 4),
        "points_lost": round(statistics.fmean(lost), 3),
        "points_lost_ci95": [round(bound, 3) for bound in interval(lost)],
        "pairs": len(pairs),
    }


def interval(values: list[float]) -> tuple[float, float]:
    """The mean's 95 % confidence interval; of a single value, nothing is known."""
    if len(values) < 2:
        return float("-inf"), float("inf")
    margin = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.fmean(values) - margin, statistics.fmean(values) + margin


def _worse(figures: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The least saved and the most lost."""
    if not figures:
        return None
    costly = max(figures, key=lambda of: of["points_lost"])
    return {
        "saved": min(of["saved"] for of in figures),
        "points_lost": costly["points_lost"],
        "points_lost_ci95": costly["points_lost_ci95"],
    }


def _rounds_to(row: Row, target: float) -> int | None:
    return next((number for number, value in row["accuracies"] if value >= target), None)


def _wire(row: Row) -> float:
    return float(row["wireUp"] + row["wireDown"])


def _payload(row: Row) -> float:
    return float(row["payloadUp"] + row["payloadDown"])
