"""Strategies: how updates become the next model. The registry is closed against the schema by a test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from muster_coordinator.strategies.base import Step, Strategy, Wide
from muster_coordinator.strategies.fedavg import FedAvg
from muster_coordinator.strategies.fedprox import FedProx
from muster_spec import types as spec


def _fed_prox(chosen: spec.Strategy) -> FedProx:
    if chosen.fed_prox is None:
        raise ValueError("spec.strategy.fedProx is missing: resolving a job spells the parameters of its choices out")
    return FedProx(chosen.fed_prox.mu)


STRATEGIES: Final[Mapping[str, Callable[[spec.Strategy], Strategy]]] = MappingProxyType(
    {FedAvg.name: lambda _: FedAvg(), FedProx.name: _fed_prox}
)


def strategy_of(chosen: spec.Strategy) -> Strategy:
    """The strategy that a resolved job asks for."""
    return STRATEGIES[chosen.type](chosen)


__all__ = ["STRATEGIES", "FedAvg", "FedProx", "Step", "Strategy", "Wide", "strategy_of"]
