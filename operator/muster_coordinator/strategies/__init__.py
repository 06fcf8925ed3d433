"""Strategies: how updates become the next model. The registry is closed against the schema by a test."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from muster_coordinator.strategies.base import Step, Strategy, Wide
from muster_coordinator.strategies.fedavg import FedAvg
from muster_coordinator.strategies.fedprox import FedProx
from muster_spec import types as spec

STRATEGIES: Final[Mapping[str, Strategy]] = MappingProxyType({each.name: each for each in (FedAvg(), FedProx())})


def strategy_of(chosen: spec.Strategy) -> Strategy:
    """The strategy that a resolved job asks for."""
    return STRATEGIES[chosen.type]


__all__ = ["STRATEGIES", "FedAvg", "FedProx", "Step", "Strategy", "Wide", "strategy_of"]
