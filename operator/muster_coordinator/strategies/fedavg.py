"""Federated averaging: the next model is the mean of the clients' models, weighted by their examples."""

from __future__ import annotations

from dataclasses import dataclass

from muster_coordinator.strategies.base import Strategy


@dataclass(frozen=True, slots=True)
class FedAvg(Strategy):
    """McMahan et al., 2017, algorithm 1: w ← Σ n_k w_k / Σ n_k, here as w + Σ n_k Δ_k / Σ n_k with Δ_k = w_k - w.

    With a server optimiser that mean is what the optimiser takes for a negative gradient.
    """

    name = "FedAvg"
