"""FedNova: updates are normalised by how far their clients went before they are averaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from muster_coordinator.records import UsedUpdate
from muster_coordinator.strategies.base import Strategy


@dataclass(frozen=True, slots=True)
class FedNova(Strategy):
    """Wang et al., 2020, "Tackling the objective inconsistency problem", section 4.

    Client i's update is Δ_i = -η G_i a_i, with its stochastic gradients as G_i's columns and a_i how often each of them
    went into the model. FedAvg so minimises Σ p_i ‖a_i‖₁ F_i, not Σ p_i F_i. FedNova averages d_i = Δ_i / ‖a_i‖₁:

        x ← x + τ_eff Σ p_i Δ_i / ‖a_i‖₁        τ_eff = Σ p_i ‖a_i‖₁        p_i the clients' importance, of sum 1

    For τ steps of plain SGD ‖a‖₁ is τ; with momentum ρ it is (τ - ρ (1 - ρ^τ) / (1 - ρ)) / (1 - ρ). As a sum: weights
    p_i / ‖a_i‖₁, and their mean times Σ(p_i / ‖a_i‖₁) · Σ(p_i ‖a_i‖₁) / (Σ p_i)².
    """

    momentum: float = 0.0  # of the clients' SGD, which starts afresh each round

    name = "FedNova"
    needs_all_values = needs_whole_model = True

    def problem(self, steps: int, metrics: Mapping[str, float]) -> str | None:  # noqa: ARG002 -- steps are all it needs
        return None if steps >= 1 else "FedNova divides by local steps, and it says that it did none"

    def weights(self, used: Sequence[UsedUpdate], importances: Sequence[float]) -> tuple[float, ...]:
        return tuple(p / self.reach(update.steps) for update, p in zip(used, importances, strict=True))

    def scale(self, used: Sequence[UsedUpdate], importances: Sequence[float]) -> float:
        reaches = [self.reach(update.steps) for update in used]
        inverse = sum(p / reach for p, reach in zip(importances, reaches, strict=True))
        direct = sum(p * reach for p, reach in zip(importances, reaches, strict=True))
        return inverse * direct / sum(importances) ** 2

    def reach(self, steps: int) -> float:
        """‖a‖₁ of so many local steps."""
        rho = self.momentum
        return (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho)
