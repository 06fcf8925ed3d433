"""What a series of simulations is held against: a figure, a bound, and what of the figure decides. Pure.

A claim holds on the figure's mean unless it says otherwise; the interval stands beside it. Where a seed has no value,
such as a time to a target that was never reached, the others would be survivors: then it does not hold.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evaluations.figures import Figure, Row

IS_WITHIN: dict[str, Callable[[float, float], bool]] = {
    "at least": operator.ge,
    "at most": operator.le,
    "above": operator.gt,
    "below": operator.lt,
}


@dataclass(frozen=True, slots=True)
class Claim:
    """`least` is that of the run with the least, where a figure has it."""

    name: str
    figure: Callable[[Sequence[Row]], Figure | None]
    side: Literal["at least", "at most", "above", "below"]
    bound: float
    decided_on: Literal["mean", "lower end of ci95", "upper end of ci95", "least"] = "mean"


def judged(claim: Claim, rows: Sequence[Row]) -> dict[str, Any]:
    """The claim as one object. `holds` is None where too little was measured to decide."""
    figure = claim.figure(rows)
    return {
        "name": claim.name,
        "figure": figure,
        "bound": {claim.side: claim.bound},
        "decided_on": claim.decided_on,
        "holds": _holds(claim, figure) if figure else None,
    }


def _holds(claim: Claim, figure: Figure) -> bool | None:
    if figure["pairs"] < figure["seeds"]:
        return False
    value = _decisive(claim, figure)
    return None if value is None else IS_WITHIN[claim.side](value, claim.bound)


def _decisive(claim: Claim, figure: Figure) -> float | None:
    if claim.decided_on in {"mean", "least"}:
        return float(figure[claim.decided_on])
    return figure["ci95"][claim.decided_on == "upper end of ci95"] if figure["ci95"] else None
