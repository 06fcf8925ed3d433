"""Who does each step of a training: one process, or several that average their gradients.

The ready local loop asks its team for everything in which the two differ. A task with a loop of its own, in a pool of
data-parallel sites, does the same: `wrap` the model, take its `part` of each batch, `agree` before each step.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

Batch = tuple[Tensor, Tensor]


class Team(Protocol):
    """The processes that train one model together, step by step."""

    @property
    def rank(self) -> int: ...

    def wrap(self, model: nn.Module) -> nn.Module:
        """What to call in the model's place, so that its gradients become those of the team's whole batch."""

    def part(self, batch: Batch) -> tuple[Batch, float]:
        """This process's part of a batch, and what the mean loss of the part has to be multiplied by."""

    def agree(self, *, may: bool) -> bool:
        """Whether to take another step: as the first of them says."""

    def mean(self, value: Tensor) -> Tensor:
        """The mean over the team of a number."""


class Alone:
    """One process."""

    rank = 0

    def wrap(self, model: nn.Module) -> nn.Module:
        return model

    def part(self, batch: Batch) -> tuple[Batch, float]:
        return batch, 1.0

    def agree(self, *, may: bool) -> bool:
        return may

    def mean(self, value: Tensor) -> Tensor:
        return value


ALONE = Alone()
