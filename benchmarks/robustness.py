"""Where robust rules hold and where they break: digits on twenty clients, some of them hostile, simulated time.

Shares of each digit are drawn from Dirichlet(1.0). Every client is asked in every round, so each cohort has exactly f
hostile ones (evaluations/hostile.py), which send their update times -10, or noise a hundred times as long as it. A rule
is told f as far as it may be told, and measured without hostile clients with the very same settings. The claim: with 4
of 20, the robust rules stay within 3 points of what they reach without, and FedAvg breaks: either with the whole of the
confidence interval. With more, each rule's breaking point is found, by the mean. A run that ends because honest
clients' training diverged counts as guessing.

    benchmarks/robustness.py --processes 2 --out benchmarks/results/robustness.jsonl    five seeds; an hour
    benchmarks/robustness.py --seeds 1000 --rounds 6                                    a trial
    benchmarks/robustness.py --summary benchmarks/results/robustness.jsonl              its figures
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from evaluations.claims import Claim  # noqa: E402 -- after the path
from evaluations.figures import Figure, Row, difference, level, runs_of, table  # noqa: E402 -- likewise
from evaluations.series import Arm, Series, run_series  # noqa: E402 -- likewise

CLIENTS, CLAIMED = 20, 4
BYZANTINE = (CLAIMED, 6, 8, 10)
ATTACKS: dict[str, dict[str, object]] = {
    "times -10": {"attack": "Reversed", "factor": 10.0},
    "noise": {"attack": "Noise", "factor": 100.0},
}
GUESSING, WITHIN = 10.0, 3.0  # points


def aggregation(rule: str, hostile: int) -> dict[str, Any]:
    """The rule's settings against so many hostile clients, or as many as it can be told of."""
    match rule:
        case "TrimmedMean":
            return {"type": rule, "trimmedMean": {"share": min(hostile / CLIENTS, 0.45)}}
        case "MultiKrum":
            return {"type": rule, "multiKrum": {"byzantine": min(hostile, (CLIENTS - 3) // 2)}}
        case "Bulyan":
            return {"type": rule, "bulyan": {"byzantine": min(hostile, (CLIENTS - 3) // 4)}}
        case _:
            return {"type": rule}


RULES = ("Mean", "Median", "TrimmedMean", "MultiKrum", "Bulyan", "GeometricMedian", "CenteredClipping")
ROBUST = RULES[1:]


def clean(rule: str, hostile: int) -> str:
    """The name of the arm without hostile clients whose rule is told of so many."""
    told = next(each for each in BYZANTINE if aggregation(rule, each) == aggregation(rule, hostile))
    return f"{rule}, nobody hostile" if told == CLAIMED else f"{rule} told {told}, nobody hostile"


def attacked(rule: str, attack: str, hostile: int) -> str:
    """The name of the arm with so many."""
    return f"{rule}, {hostile} hostile, {attack}"


def _arms() -> tuple[Arm, ...]:
    """What the claim is about first, so that a series that is stopped has that."""
    arms: dict[str, Arm] = {}
    for hostile in BYZANTINE:
        for rule in RULES:
            settings = {"spec.robustness": {"aggregation": aggregation(rule, hostile)}}
            arms.setdefault(clean(rule, hostile), Arm(clean(rule, hostile), settings, "even", CLIENTS))
            for word, attack in ATTACKS.items():
                name = attacked(rule, word, hostile)
                task = {f"spec.task.config.{option}": value for option, value in attack.items()}
                task |= {"spec.task.config.hostile": hostile}
                arms[name] = Arm(name, settings | task, "even", CLIENTS)
    return tuple(arms.values())


ARMS = _arms()


def standing(row: Row) -> float | None:
    """A run's accuracy in points; of one that did not get to its end, that of guessing."""
    return level(row) if row["outcome"] == "Complete" else GUESSING


def figures(rows: Sequence[Row]) -> dict[str, Any]:
    """What so many hostile clients cost each rule, in points of its accuracy without them, and where it breaks."""
    lost = {rule: {word: _lost(rows, rule, word) for word in ATTACKS} for rule in RULES}
    return {
        "clients": CLIENTS,
        "hostile": CLAIMED,
        "within_points": WITHIN,
        "breaks_from": {
            rule: {word: _breaking(by_number) for word, by_number in by_attack.items() if by_number}
            for rule, by_attack in lost.items()
        },
        "points_lost": lost,
        "arms": {name: of | {"standing": _standing(rows, name)} for name, of in table(rows).items()},
    }


def points_lost(rows: Sequence[Row], rule: str, word: str, hostile: int) -> Figure | None:
    """Against itself with nobody hostile, under the same settings."""
    return difference(rows, clean(rule, hostile), attacked(rule, word, hostile), standing)


def _lost(rows: Sequence[Row], rule: str, word: str) -> dict[int, Figure]:
    found = {hostile: points_lost(rows, rule, word, hostile) for hostile in BYZANTINE}
    return {hostile: one for hostile, one in found.items() if one is not None and one["mean"] is not None}


def _breaking(lost: dict[int, Figure]) -> int | None:
    """The least number of hostile clients, of those measured, that costs more than it may; None: none of them did."""
    return next((hostile for hostile, one in lost.items() if one["mean"] > WITHIN), None)


def _standing(rows: Sequence[Row], arm: str) -> float:
    values = [value for run in runs_of(rows, arm).values() if (value := standing(run)) is not None]
    return round(sum(values) / len(values), 3)


def _claim(rule: str, word: str) -> Claim:
    """Decided by the interval, for the losses of one rule differ much from seed to seed."""
    name = f"{rule}, {CLAIMED} of {CLIENTS} hostile, {word}: points lost"
    figure = partial(points_lost, rule=rule, word=word, hostile=CLAIMED)
    if rule in ROBUST:
        return Claim(name, figure, "at most", WITHIN, "upper end of ci95")
    return Claim(name, figure, "above", WITHIN, "lower end of ci95")


SERIES = Series(
    "robustness",
    __doc__ or "",
    ARMS,
    figures,
    tuple(_claim(rule, word) for rule in RULES for word in ATTACKS),
    manifest=HERE / "evaluations" / "hostile.yaml",
    rounds=60,
    wants_cifar10=False,
)

if __name__ == "__main__":
    sys.exit(run_series(SERIES))
