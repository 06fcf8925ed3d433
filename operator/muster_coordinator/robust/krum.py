"""Rules that trust the updates which have the most company: Krum, Multi-Krum, and Bulyan on top of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_coordinator.robust.base import Rule, Wide, columns_in_order, middle, squared_distances
from muster_wire.values import Floats


def krum_scores(distances: Wide, hostile: int) -> Wide:
    """Blanchard et al., 2017, section 4: s(i) = Σ ‖x_i - x_j‖² over the n - f - 2 updates x_j nearest to x_i."""
    neighbours = max(len(distances) - hostile - 2, 0)
    others = distances.copy()
    np.fill_diagonal(others, np.inf)
    nearest = np.partition(others, max(neighbours - 1, 0), axis=1)[:, :neighbours]
    scores: Wide = nearest.sum(axis=1)
    return scores


def _chosen(count: int, indices: NDArray[np.intp]) -> Wide:
    shares = np.zeros(count)
    shares[indices] = 1
    return shares


@dataclass(frozen=True, slots=True)
class Krum(Rule):
    """Blanchard et al., 2017, section 4: the update with the smallest score; of equals the one that came first.

    Bears f hostile clients among n ≥ 2f + 3, each round's model being one client's: it learns slowly where clients hold
    different data.
    """

    byzantine: int

    name = "Krum"
    needs_products = True

    @property
    def least(self) -> int:
        return 2 * self.byzantine + 3

    def shares(self, products: Wide) -> Wide:
        scores = krum_scores(squared_distances(products), self.byzantine)
        return _chosen(len(products), np.argsort(scores, kind="stable")[:1])

    def combine(self, rows: Floats, shares: Wide) -> Wide:  # noqa: ARG002 -- chosen or not
        mean: Wide = rows.mean(axis=0, dtype=np.float64)
        return mean


@dataclass(frozen=True, slots=True)
class MultiKrum(Krum):
    """Blanchard et al., 2017, section 4 (Multi-Krum): the mean of the m updates with the smallest scores.

    m is `selected`, at most n - f - 2, and that where nothing is said.
    """

    selected: int | None = None

    name = "MultiKrum"

    @property
    def least(self) -> int:
        return max(2 * self.byzantine + 3, (self.selected or 1) + self.byzantine + 2)

    def shares(self, products: Wide) -> Wide:
        scores = krum_scores(squared_distances(products), self.byzantine)
        selected = self.selected or len(products) - self.byzantine - 2
        return _chosen(len(products), np.argsort(scores, kind="stable")[:selected])


@dataclass(frozen=True, slots=True)
class Bulyan(Rule):
    """El Mhamdi et al., 2018, section 4: Krum picks θ = n - 2f updates, one after another from those that are left; of
    these each value is the mean of the β = θ - 2f that are nearest to their median.

    Bears f hostile clients among n ≥ 4f + 3, also where they hide a large change in one value, which distances miss.
    """

    byzantine: int

    name = "Bulyan"
    needs_products = True

    @property
    def least(self) -> int:
        return 4 * self.byzantine + 3

    def shares(self, products: Wide) -> Wide:
        distances, left = squared_distances(products), np.arange(len(products))
        picked = []
        for _ in range(len(products) - 2 * self.byzantine):
            scores = krum_scores(distances[np.ix_(left, left)], self.byzantine)
            best = int(np.argmin(scores))
            picked.append(left[best])
            left = np.delete(left, best)
        return _chosen(len(products), np.array(picked))

    def combine(self, rows: Floats, shares: Wide) -> Wide:  # noqa: ARG002 -- picked or not
        ordered = columns_in_order(rows)
        return _mean_of_nearest(np.ascontiguousarray(ordered.T), middle(ordered), len(rows) - 2 * self.byzantine)


def _mean_of_nearest(ordered: Floats, medians: Wide, kept: int) -> Wide:
    """Of each column's ascending values [k, w], the mean of the `kept` that are nearest to its median.

    In order they lie side by side, so there are only k - kept + 1 places where they may begin. Each run is added up by
    itself: taken out of a running sum, a value that is far away would leave its rounding behind.
    """
    best, means = np.full_like(medians, np.inf), np.empty_like(medians)
    for start in range(len(ordered) - kept + 1):
        run = ordered[start : start + kept]
        reach = np.maximum(medians - run[0], run[-1] - medians)
        np.copyto(means, run.mean(axis=0, dtype=np.float64), where=reach < best)
        np.minimum(best, reach, out=best)
    return means
