"""What a robust rule is: a frozen value of two pure functions over all updates of a round.

`shares` looks at the updates as a whole, through nothing but their inner products, and says how much of each goes on;
`combine` then makes the values, block by block, from the updates that have a share. So a rule is a page with an
equation on it, and compared.py does the reading for all of them: once for the products, where a rule asks for them,
and once for the values.

A rule counts every client once. Numbers of examples are a client's own claim, and a hostile one would claim many.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from muster_coordinator.needs import Needs
from muster_wire.layout import Kind
from muster_wire.values import Floats

Wide = NDArray[np.float64]

A_MAJORITY = 3  # of two updates nobody can say which one is the hostile one


@dataclass(frozen=True, slots=True)
class Rule(Needs, ABC):
    """One way to make one update of many, some of which may be anything.

    Every rule needs all updates of the round at once, in plain text; they lie in a file, and `models_in_memory` holds
    whatever their number. Float buffers and integers are not `combine`'s: they become the middle value of all updates,
    which no minority can move beyond what the others say.
    """

    name: ClassVar[str]  # in the manifest: spec.robustness.aggregation.type
    touches: ClassVar[frozenset[Kind]] = frozenset({Kind.TRAINABLE})
    models_in_memory: ClassVar[int] = 3  # as a strategy's, with the result in the sum's place; buffers come on top
    needs_plaintext = needs_one_base = needs_all_values = needs_whole_model = True
    needs_products: ClassVar[bool] = False
    starts_from_last: ClassVar[bool] = False  # whether what the last round came to is one more row, after the updates'

    @property
    def least(self) -> int:
        """Updates without which the rule can't keep what it promises."""
        return A_MAJORITY

    def shares(self, products: Wide) -> Wide:
        """One number for each update, zero for those that `combine` shall not see.

        `products` are the inner products of the updates' trainable values, [n, n]; zeros where the rule has no need of
        them. A rule that starts from the last round's result has n + 1 of everything.
        """
        return np.ones(len(products))

    @abstractmethod
    def combine(self, rows: Floats, shares: Wide) -> Wide:
        """The values [w] of one block from those of the updates with a share, [k, w], which may be overwritten."""


def squared_distances(products: Wide) -> Wide:
    """‖x_i - x_j‖² from the inner products: exact to about 1e-16 of the larger ‖x‖²."""
    squares = np.diag(products)
    distances: Wide = np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    np.fill_diagonal(distances, 0)
    return distances


def columns_in_order(rows: Floats) -> Floats:
    """The values of each place in ascending order, [w, k]: short sorts of what lies together are the quickest."""
    return np.sort(np.ascontiguousarray(rows.T), axis=1)


def middle(ordered: Floats) -> Wide:
    """The medians of values in ascending order; of an even number, the mean of the two in the middle."""
    count = ordered.shape[1]
    medians: Wide = ordered[:, (count - 1) // 2].astype(np.float64)
    medians += ordered[:, count // 2]
    medians /= 2
    return medians
