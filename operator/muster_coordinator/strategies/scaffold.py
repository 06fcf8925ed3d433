"""SCAFFOLD: control variates say how far each client's gradients lie from everybody's, and take that away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muster_coordinator.records import UsedUpdate
from muster_coordinator.strategies.base import Strategy
from muster_coordinator.strategies.optimizers import Kept, Optimizer, Wide


@dataclass(frozen=True, slots=True)
class Scaffold(Strategy):
    """Karimireddy et al., 2020, algorithm 1 with option II for the clients' variates.

    A client steps y ← y - η (g(y) - c_i + c), K times from the server's x, and then c_i⁺ = c_i - c + (x - y) / (K η).
    Over the clients S of a round, of N in all, with Δ_i = y_i - x:

        x ← x + η_g / |S| Σ Δ_i        c ← c + |S| / N · 1 / |S| Σ (c_i⁺ - c_i)

    From option II follows c_i⁺ - c_i = -c - Δ_i / (K_i η): what a client's variate changes by is in its update already.
    So clients send nothing more, the server adds up Δ_i / K_i beside the Δ_i, and

        c ← (1 - |S| / N) c - 1 / (N η) Σ Δ_i / K_i

    Clients take the Δ_i that the server decodes for their own c_i⁺, so c stays the mean of the c_i under any codec.
    Every client counts once, as there.
    """

    local_rate: float = 1.0  # η: the clients' learning rate; η_g is the optimiser's
    clients: int = 1  # N

    name = "Scaffold"
    needs_plaintext = needs_one_base = needs_all_values = needs_whole_model = True
    models_in_memory = 4  # two sums; once they are gone, a version with its variate, and what clients decode of it
    sums_beside = True

    @property
    def keeper(self) -> Optimizer:
        return ControlVariate(self.local_rate, clients=self.clients)

    def problem(self, steps: int, metrics: Mapping[str, float]) -> str | None:  # noqa: ARG002 -- steps are all it needs
        return None if steps >= 1 else "SCAFFOLD divides by local steps, and it says that it did none"

    def weights(self, used: Sequence[UsedUpdate], importances: Sequence[float]) -> Sequence[float]:  # noqa: ARG002 -- all alike
        return (1.0,) * len(used)

    def beside(self, update: UsedUpdate) -> float:
        return 1 / update.steps


@dataclass(frozen=True, slots=True)
class ControlVariate(Optimizer):
    """How c moves: `step` takes Σ Δ_i / K_i for its mean, of `taken` updates."""

    clients: int = 1
    taken: int = 0

    @property
    def keeps(self) -> tuple[str, ...]:
        return ("control",)

    def step(self, base: Wide, mean: Wide, kept: Kept) -> tuple[Wide, Kept]:
        moved = (1 - self.taken / self.clients) * kept[0] - mean / (self.clients * self.learning_rate)
        return base, (moved,)
