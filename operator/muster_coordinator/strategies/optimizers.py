"""Server optimisers: what is done with the mean of the updates, and what is kept of it from round to round.

The mean update Δ takes the place of a negative gradient. An optimiser is a pure function of values: the model, the mean
and what was kept, block by block and elementwise, to the next model and what to keep. serverstate.py holds the buffers
and makes them durable with the model; an optimiser knows nothing of that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Wide = NDArray[np.float64]
Kept = tuple[Wide, ...]


@dataclass(frozen=True, slots=True)
class Optimizer(ABC):
    """One way to take a step. Only trainable values are its business."""

    learning_rate: float

    @property
    @abstractmethod
    def keeps(self) -> tuple[str, ...]:
        """Names of the buffers that are kept between rounds, each as long as the model's trainable values."""

    @property
    def first(self) -> tuple[float, ...]:
        """The value that fills each of them before the first round."""
        return (0.0,) * len(self.keeps)

    @abstractmethod
    def step(self, base: Wide, mean: Wide, kept: Kept) -> tuple[Wide, Kept]:
        """The next model, and what to keep, from the base, the mean update Δ and what was kept."""


@dataclass(frozen=True, slots=True)
class ServerSGD(Optimizer):
    """x ← x + η m with m ← β m + Δ: server momentum (Hsu et al., 2019, section 4.3: v ← βv + Δw, w ← w - v).

    Without momentum nothing is kept: x ← x + η Δ, which at η 1 adds the mean as it is.
    """

    momentum: float = 0.0

    @property
    def keeps(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def step(self, base: Wide, mean: Wide, kept: Kept) -> tuple[Wide, Kept]:
        moved = mean
        if kept:
            moved = self.momentum * kept[0] + mean
            kept = (moved,)
        return base + self.learning_rate * moved, kept


ADDED: Final = ServerSGD(1.0)


@dataclass(frozen=True, slots=True)
class _Adaptive(Optimizer):
    """Reddi et al., 2021, algorithm 2: x ← x + η m / (√v + τ), with m ← β₁ m + (1 - β₁) Δ and v as each class says.

    As there, m begins at 0 and v at τ², and neither is corrected for its beginning.
    """

    tau: float
    beta1: float = 0.0

    @property
    def keeps(self) -> tuple[str, ...]:
        return ("momentum", "variance") if self.beta1 else ("variance",)

    @property
    def first(self) -> tuple[float, ...]:
        return (0.0, self.tau**2) if self.beta1 else (self.tau**2,)

    def step(self, base: Wide, mean: Wide, kept: Kept) -> tuple[Wide, Kept]:
        variance = self.second_moment(kept[-1], mean * mean)
        momentum = self.beta1 * kept[0] + (1 - self.beta1) * mean if self.beta1 else mean
        moved = base + self.learning_rate * momentum / (np.sqrt(variance) + self.tau)
        return moved, (momentum, variance) if self.beta1 else (variance,)

    @abstractmethod
    def second_moment(self, before: Wide, squares: Wide) -> Wide:
        """v from the last one and Δ²."""


@dataclass(frozen=True, slots=True)
class ServerAdagrad(_Adaptive):
    """v ← v + Δ². With β₁ 0, as in the paper's experiments, m is Δ and only v is kept."""

    def second_moment(self, before: Wide, squares: Wide) -> Wide:
        return before + squares


@dataclass(frozen=True, slots=True)
class ServerAdam(_Adaptive):
    """v ← β₂ v + (1 - β₂) Δ²."""

    beta2: float = 0.99

    def second_moment(self, before: Wide, squares: Wide) -> Wide:
        return self.beta2 * before + (1 - self.beta2) * squares


@dataclass(frozen=True, slots=True)
class ServerYogi(ServerAdam):
    """v ← v - (1 - β₂) Δ² sign(v - Δ²)."""

    def second_moment(self, before: Wide, squares: Wide) -> Wide:
        moved: Wide = before - (1 - self.beta2) * squares * np.sign(before - squares)
        return moved


@dataclass(frozen=True, slots=True)
class Remembering(Optimizer):
    """Another optimiser, with the mean that it has stepped with kept beside what it keeps itself.

    A robust rule may start from that in the next round.
    """

    inner: Optimizer

    @property
    def keeps(self) -> tuple[str, ...]:
        return (*self.inner.keeps, "mean")

    @property
    def first(self) -> tuple[float, ...]:
        return (*self.inner.first, 0.0)

    def step(self, base: Wide, mean: Wide, kept: Kept) -> tuple[Wide, Kept]:
        moved, after = self.inner.step(base, mean, kept[:-1])
        return moved, (*after, mean)


def remembering(optimizer: Optimizer) -> Remembering:
    """The same optimiser, which keeps the mean too."""
    return Remembering(optimizer.learning_rate, optimizer)


def add(base: Wide, mean: Wide) -> Wide:
    """The step of `ADDED`, for a sum by itself."""
    return base + mean
