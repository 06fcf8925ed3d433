"""Rules that look for the middle of all updates as vectors: the geometric median, and centered clipping.

Both move a centre in steps, and every centre is a weighted sum of rows, v = Σ c_j x_j: the updates, and for clipping
one more, where it started. Then all that a step needs follows from the inner products G:
‖x_i - v‖² = G_ii - 2 (G c)_i + cᵀ G c. So the steps cost nothing, whatever the model's size, and the values are read
once, when the weights stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from muster_coordinator.robust.base import Rule, Wide, squared_distances
from muster_wire.values import Floats


def distances_to(centre: Wide, products: Wide) -> Wide:
    """Of each update to Σ c_j x_j."""
    towards = products @ centre
    distances: Wide = np.sqrt(np.maximum(np.diag(products) - 2 * towards + centre @ towards, 0))
    return distances


class _Centre(Rule):
    """The weighted sum of all updates."""

    __slots__ = ()
    needs_products = True

    def combine(self, rows: Floats, shares: Wide) -> Wide:
        total: Wide = shares @ rows.astype(np.float64)
        return total


@dataclass(frozen=True, slots=True)
class GeometricMedian(_Centre):
    """Pillutla et al., 2022 (RFA): the smoothed Weiszfeld algorithm, with a weight of one for every client.

    v ← Σ β_i x_i / Σ β_i with β_i = 1 / max(ν, ‖v - x_i‖), which tends to argmin_v Σ ‖v - x_i‖. It begins with the mean
    of the half of the updates nearest to the one that is nearest to all: from the mean of all, an update a million
    times too long would take most of the steps to walk away from. Bears fewer than half.
    """

    iterations: int
    smoothing: float

    name = "GeometricMedian"

    def shares(self, products: Wide) -> Wide:
        centre = _inner_half(products)
        for _ in range(self.iterations):
            weights = 1 / np.maximum(distances_to(centre, products), self.smoothing)
            centre = weights / weights.sum()
        return centre


def _inner_half(products: Wide) -> Wide:
    distances = np.sqrt(squared_distances(products))
    most_central = int(np.argmin(distances.sum(axis=1)))
    half = np.argsort(distances[most_central], kind="stable")[: len(products) // 2 + 1]
    centre = np.zeros(len(products))
    centre[half] = 1 / len(half)
    return centre


_SMALLEST: Final = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True, slots=True)
class CenteredClipping(_Centre):
    """Karimireddy et al., 2021, algorithm 1: v ← v + (1/n) Σ (x_i - v) min(1, τ / ‖x_i - v‖).

    v begins with what the last round came to, before any server optimiser; with 0 where there was none. So a hostile
    client moves it by at most τ/n in each step, whatever it sends, and honest updates count in full once v is within τ
    of them. That honest clients send momentum, as there, is theirs to do.

    Ours: without a radius, τ is the median of all ‖x_i - v‖, anew in each step. While most clients are honest it is no
    longer than an honest update is away, and it shrinks as v comes near; a fixed one has to suit the task.
    """

    radius: float | None
    iterations: int

    name = "CenteredClipping"
    starts_from_last = True

    def shares(self, products: Wide) -> Wide:
        centre = np.zeros(len(products))
        centre[-1] = 1
        for _ in range(self.iterations):
            distances = distances_to(centre, products)[:-1]
            radius = np.median(distances) if self.radius is None else self.radius
            pulls = radius / np.maximum(distances, max(radius, _SMALLEST)) / len(distances)
            centre *= 1 - pulls.sum()
            centre[:-1] += pulls
        return centre
