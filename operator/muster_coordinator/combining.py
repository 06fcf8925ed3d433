"""How the updates of a round are combined, as a job asks for it: a running sum, or all of them compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from muster_coordinator.compared import Compared
from muster_coordinator.controlled import ControlledSum
from muster_coordinator.layered import LayeredSum
from muster_coordinator.matching.assignment import Matching
from muster_coordinator.matching.phases import Phase
from muster_coordinator.matching.rows import MatchedRows
from muster_coordinator.partial import PartialSum
from muster_coordinator.robust import Rule, rule_of
from muster_coordinator.sums import Sum
from muster_spec.strategy_types import FedMA, Robustness
from muster_wire.layout import Layout
from muster_wire.payload import MAX_NORM


@dataclass(frozen=True, slots=True)
class Combining:
    """`rule` is None for the weighted mean; the norms bound each update by itself. Updates of parts are averaged,
    and so are those of some layers.

    `matching` is for layers that are matched. `beside` makes another sum of the same updates, for control variates.
    """

    rule: Rule | None = None
    clip_norm: float | None = None
    max_norm: float = MAX_NORM
    of_parts: bool = False
    beside: bool = False
    of_layers: bool = False
    matching: Matching | None = None

    def open(self, layout: Layout, folder: Path, phase: Phase | None = None) -> Sum | Compared | MatchedRows:
        """An empty one, for a round. What must be kept until the round closes lies in the folder."""
        if self.matching is not None and phase is not None:
            return MatchedRows(layout, phase, self.matching, folder)
        if self.beside:
            return ControlledSum(layout)
        if self.of_layers:
            return LayeredSum(layout, self.clip_norm)
        if self.of_parts:
            return PartialSum(layout, self.clip_norm)
        if self.rule is None:
            return Sum(layout, self.clip_norm)
        return Compared(layout, self.rule, self.clip_norm, folder)


MEAN: Final = Combining()


def matching_of(asked: FedMA) -> Matching:
    """How a resolved job's layers are matched."""
    return Matching(asked.sigma, asked.prior_sigma, asked.gamma, asked.sweeps, asked.max_growth)


def combining_of(
    robustness: Robustness | None, *, of_parts: bool = False, beside: bool = False, of_layers: bool = False
) -> Combining:
    """What a resolved job asks for; `of_parts` where clients train parts of the model, `beside` for a second sum,
    `of_layers` where they may send some layers only.
    """
    if robustness is None:
        return Combining(of_parts=of_parts, beside=beside, of_layers=of_layers)
    rule, max_norm = rule_of(robustness.aggregation), robustness.max_norm or MAX_NORM
    return Combining(rule, robustness.clip_norm, max_norm, of_parts, beside, of_layers)
