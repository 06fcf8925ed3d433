"""What raw lines of simulations say: pure, from lines to figures. Every time is simulated time.

Single rounds swing by ten points where clients hold few classes, so a run's accuracy is the mean over its last ten
evaluations, and the target counts as reached with the first three evaluations whose mean is as high. Arms are compared
seed by seed: the mean of these paired differences, with a 95 % confidence interval by Student's t.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compressions.summary import interval

LAST, RUNNING = 10, 3
TARGET = 0.35

Row = Mapping[str, Any]
Measure = Callable[[Row], float | None]


def level(row: Row) -> float | None:
    """A run's accuracy, in points."""
    values = [value for _, _, value in row["measured"][-LAST:]]
    return 100 * statistics.fmean(values) if values else None


def round_seconds(row: Row) -> float | None:
    """A round, in the mean."""
    return statistics.fmean(row["roundSeconds"]) if row["roundSeconds"] else None


def seconds_in_all(row: Row) -> float | None:
    """From the first round to the end of the last, failed attempts included."""
    return row["seconds"] or None


def seconds_to_target(row: Row) -> float | None:
    """Until the target was reached, without the time that measuring took; None where it never was."""
    values = row["measured"]
    for end in range(RUNNING, len(values) + 1):
        if statistics.fmean(value for _, _, value in values[end - RUNNING : end]) >= TARGET:
            return float(values[end - 1][1])
    return None


def runs_of(rows: Sequence[Row], arm: str) -> dict[int, Row]:
    """By seed. Of two lengths the longer: a trial's lines may stand in the same file."""
    found: dict[int, Row] = {}
    for row in sorted(rows, key=lambda each: each["rounds"]):
        if row["arm"] == arm:
            found[row["seed"]] = row
    return found


def table(rows: Sequence[Row]) -> dict[str, Any]:
    """Each arm by itself."""
    return {arm: _alone(list(runs_of(rows, arm).values())) for arm in dict.fromkeys(row["arm"] for row in rows)}


def _alone(runs: Sequence[Row]) -> dict[str, Any]:
    reached = [seconds for run in runs if (seconds := seconds_to_target(run)) is not None]
    return {
        "runs": len(runs),
        "accuracy": _mean(runs, level),
        "round_seconds": _mean(runs, round_seconds),
        "seconds_to_target": round(statistics.fmean(reached), 2) if reached else None,
        "reached_target": len(reached),
        "mb_up": round(statistics.fmean(run["bytesUp"] for run in runs) / 1e6, 2),
        "took_part": min(sum(count > 0 for count in run["participation"]) for run in runs),
        "clients": runs[0]["clients"],
        "incomplete": sum(run["outcome"] != "Complete" for run in runs),
    }


def _mean(runs: Sequence[Row], measure: Measure) -> float | None:
    values = [value for run in runs if (value := measure(run)) is not None]
    return round(statistics.fmean(values), 3) if values else None


def difference(rows: Sequence[Row], arm: str, reference: str, measure: Measure) -> dict[str, Any] | None:
    """How much more the arm has than the reference, seed by seed."""
    return _stated([one - other for one, other in _pairs(rows, arm, reference, measure)], reference)


def saving(rows: Sequence[Row], arm: str, reference: str, measure: Measure) -> dict[str, Any] | None:
    """Which part of the reference's time the arm saves, seed by seed, in percent."""
    return _stated([100 * (1 - one / other) for one, other in _pairs(rows, arm, reference, measure)], reference)


def ratio(rows: Sequence[Row], arm: str, reference: str, measure: Measure) -> dict[str, Any] | None:
    """How many times as fast the arm is as the reference, seed by seed."""
    return _stated([other / one for one, other in _pairs(rows, arm, reference, measure)], reference)


def _pairs(rows: Sequence[Row], arm: str, reference: str, measure: Measure) -> list[tuple[float, float]]:
    ours, theirs = runs_of(rows, arm), runs_of(rows, reference)
    both = [(measure(ours[seed]), measure(theirs[seed])) for seed in sorted(ours.keys() & theirs.keys())]
    return [(one, other) for one, other in both if one is not None and other is not None]


def _stated(values: list[float], reference: str) -> dict[str, Any] | None:
    if not values:
        return None
    low, high = interval(values)
    known = len(values) > 1
    return {
        "mean": round(statistics.fmean(values), 3),
        "ci95": [round(low, 3), round(high, 3)] if known else None,
        "pairs": len(values),
        "against": reference,
    }
