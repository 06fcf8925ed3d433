"""What a strategy is: a frozen value of a few pure functions that say how updates become the next model.

The sum (sums.py) does the work on megabytes, block by block, with one accumulator; a strategy only says what to do with
a block. So a strategy is a page with an equation on it, knows nothing of files or clients, and is tested with numbers.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from muster_coordinator.needs import Needs
from muster_coordinator.records import UsedUpdate
from muster_coordinator.strategies.optimizers import ADDED, Optimizer, Wide
from muster_wire.layout import Kind

Step = Callable[[Wide, Wide], Wide]  # base, mean update → next: elementwise, any shape


@dataclass(frozen=True, slots=True)
class Strategy(Needs, ABC):
    """How updates become the next model. Float buffers are averaged plainly and integers maximised in all of them."""

    optimizer: Optimizer = ADDED  # what is done with the weighted mean of the updates

    name: ClassVar[str]  # in the manifest: spec.strategy.type
    touches: ClassVar[frozenset[Kind]] = frozenset({Kind.TRAINABLE})  # kinds that the optimiser is for
    # Beyond idle: the sum; once it is gone, a version's bytes and what clients decode of them. Files are page cache,
    # and what an optimiser keeps lies in them.
    models_in_memory: ClassVar[int] = 3
    sums_beside: ClassVar[bool] = False  # whether another sum of the same updates is made, for what the keeper keeps
    waits: ClassVar[bool] = False  # whether an update's weight hangs on the others', so that it waits for them

    @property
    def keeper(self) -> Optimizer:
        """What says what the server keeps between rounds."""
        return self.optimizer

    def problem(self, steps: int, metrics: Mapping[str, float]) -> str | None:  # noqa: ARG002 -- an average needs neither
        """Why an update that says this of itself is of no use."""
        return None

    def weights(self, used: Sequence[UsedUpdate], importances: Sequence[float]) -> Sequence[float]:  # noqa: ARG002 -- as above
        """Each update's weight in the sum, in any unit, from how much its client counts."""
        return importances

    def scale(self, used: Sequence[UsedUpdate], importances: Sequence[float]) -> float:  # noqa: ARG002 -- as above
        """What the weighted mean is multiplied by before the optimiser steps with it."""
        return 1.0

    def beside(self, update: UsedUpdate) -> float:  # noqa: ARG002 -- most have no other sum
        """An update's weight in the other sum."""
        return 0.0
