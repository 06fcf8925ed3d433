"""Rules that look at each value by itself: the middle one, or the mean without the ends."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from muster_coordinator.robust.base import Rule, Wide, columns_in_order, middle
from muster_wire.values import Floats

ROUNDING = 1e-9  # a tenth of 30 updates is 3 of them, though floating point says a little more


@dataclass(frozen=True, slots=True)
class Median(Rule):
    """Yin et al., 2018, definition 1: each value is the median of the updates' values. Bears fewer than half."""

    name = "Median"

    def combine(self, rows: Floats, shares: Wide) -> Wide:  # noqa: ARG002 -- everybody has one
        return middle(columns_in_order(rows))


@dataclass(frozen=True, slots=True)
class TrimmedMean(Rule):
    """Yin et al., 2018, definition 2: each value is the mean of what is left when a share β at each end is thrown away.

    Of n updates that is ⌈βn⌉ at each end, so that one hostile client in a small round is thrown away too, and at most
    so many that one or two are left, which is the median. Bears f hostile clients where f ≤ βn.
    """

    share: float

    name = "TrimmedMean"

    def combine(self, rows: Floats, shares: Wide) -> Wide:  # noqa: ARG002 -- everybody has one
        count = len(rows)
        thrown = min(math.ceil(self.share * count - ROUNDING), (count - 1) // 2)
        kept: Wide = columns_in_order(rows)[:, thrown : count - thrown].mean(axis=1, dtype=np.float64)
        return kept
