"""What raw lines of simulations say: pure, from lines to figures. Every time is simulated time.

Single rounds swing by ten points where clients hold few classes, so a run's accuracy is the mean over its last ten
evaluations, and the target counts as reached with the first three evaluations whose mean is as high. Arms are compared
seed by seed: the mean of these paired differences, with a 95 % confidence interval by Student's t. A pair of which one
never reached the target has no difference: a figure says in how many of how many seeds each arm has a value.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compressions.summary import interval

LAST, RUNNING = 10, 3
TARGET = 0.35

Row = Mapping[str, Any]
Figure = Mapping[str, Any]  # a mean with its interval, and what it is against
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
        "closed_by_deadline": _rounds_closed_by_deadline(runs),
        "failed_attempts": sum(run["failedAttempts"] for run in runs),
    }


def _rounds_closed_by_deadline(runs: Sequence[Row]) -> int | None:
    """Of all runs; None where older lines don't say it."""
    counts = [run.get("closedByDeadline") for run in runs]
    return None if None in counts else sum(count for count in counts if count)


def _mean(runs: Sequence[Row], measure: Measure) -> float | None:
    values = [value for run in runs if (value := measure(run)) is not None]
    return round(statistics.fmean(values), 3) if values else None


def difference(rows: Sequence[Row], arm: str, reference: str, measure: Measure) -> Figure | None:
    """How much more the arm has than the reference, seed by seed."""
    return _compared(rows, arm, reference, measure, lambda one, other: one - other)


def saving(rows: Sequence[Row], arm: str, reference: str, measure: Measure) -> Figure | None:
    """Which part of the reference's time the arm saves, seed by seed, in percent."""
    return _compared(rows, arm, reference, measure, lambda one, other: 100 * (1 - one / other))


def ratio(rows: Sequence[Row], arm: str, reference: str, measure: Measure) -> Figure | None:
    """How many times as fast the arm is as the reference, seed by seed."""
    return _compared(rows, arm, reference, measure, lambda one, other: other / one)


def participation(rows: Sequence[Row], arm: str) -> Figure | None:
    """How many clients took part at all, in percent of all there are; `least` is of the run with the fewest."""
    runs = runs_of(rows, arm).values()
    shares = [100 * sum(count > 0 for count in run["participation"]) / run["clients"] for run in runs]
    if not shares:
        return None
    return _stated(shares, len(shares)) | {"least": round(min(shares), 3), "against": "all clients"}


def _compared(
    rows: Sequence[Row], arm: str, reference: str, measure: Measure, compare: Callable[[float, float], float]
) -> Figure | None:
    """Of the seeds that both have run; None without any."""
    ours, theirs = runs_of(rows, arm), runs_of(rows, reference)
    pairs = [(measure(ours[seed]), measure(theirs[seed])) for seed in sorted(ours.keys() & theirs.keys())]
    if not pairs:
        return None
    values = [compare(one, other) for one, other in pairs if one is not None and other is not None]
    having = {arm: sum(one is not None for one, _ in pairs), reference: sum(other is not None for _, other in pairs)}
    return _stated(values, len(pairs)) | {"seeds_with_a_value": having, "against": reference}


def _stated(values: Sequence[float], seeds: int) -> dict[str, Any]:
    mean = round(statistics.fmean(values), 3) if values else None
    return {"mean": mean, "ci95": ci95(values), "pairs": len(values), "seeds": seeds}


def ci95(values: Sequence[float]) -> list[float] | None:
    """The mean's 95 % confidence interval; of less than two values, nothing is known."""
    return [round(float(end), 3) for end in interval(list(values))] if len(values) > 1 else None
