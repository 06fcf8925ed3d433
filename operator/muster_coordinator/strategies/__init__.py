"""Strategies: how updates become the next model. The registry is closed against the schema by a test."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from muster_coordinator.strategies.base import Step, Strategy
from muster_coordinator.strategies.fedavg import FedAvg
from muster_coordinator.strategies.fedma import FedMA
from muster_coordinator.strategies.fednova import FedNova
from muster_coordinator.strategies.fedopt import FedAdagrad, FedAdam, FedAvgM, FedYogi
from muster_coordinator.strategies.fedpa import FedPA
from muster_coordinator.strategies.fedprox import FedProx
from muster_coordinator.strategies.optimizers import (
    ADDED,
    Kept,
    Optimizer,
    ServerAdagrad,
    ServerAdam,
    ServerSGD,
    ServerYogi,
    Wide,
    add,
    remembering,
)
from muster_coordinator.strategies.qfedavg import QFedAvg
from muster_coordinator.strategies.scaffold import Scaffold
from muster_spec import strategy_types as spec
from muster_spec.rounds_types import Local

STRATEGIES: Final[Mapping[str, type[Strategy]]] = MappingProxyType(
    {
        each.name: each
        for each in (FedAvg, FedProx, FedAvgM, FedAdam, FedYogi, FedAdagrad, FedNova, FedPA, FedMA, QFedAvg, Scaffold)
    }
)


def strategy_of(chosen: spec.Strategy, local: Local, clients: int = 1) -> Strategy:
    """The strategy that a resolved job asks for, for so many clients in all that train as it says."""
    optimizer = optimizer_of(chosen)
    if chosen.type == "FedNova":
        return FedNova(optimizer, momentum=local.optimizer.momentum)
    if chosen.q_fed_avg is not None:
        return QFedAvg(optimizer, q=chosen.q_fed_avg.q, learning_rate=local.learning_rate)
    if chosen.scaffold is not None:
        return Scaffold(ServerSGD(chosen.scaffold.learning_rate), local_rate=local.learning_rate, clients=clients)
    return STRATEGIES[chosen.type](optimizer)


def optimizer_of(chosen: spec.Strategy) -> Optimizer:
    """What such a job does with the mean: by the strategy's own name, by `serverOptimizer`, or it is added as it is."""
    own = chosen.server_optimizer
    sgd, adagrad = chosen.fed_avg_m, chosen.fed_adagrad
    adam, yogi = chosen.fed_adam, chosen.fed_yogi
    if own is not None:
        sgd, adagrad, adam, yogi = own.sgd, own.adagrad, own.adam, own.yogi
    if sgd is not None:
        return ServerSGD(sgd.learning_rate, sgd.momentum)
    if adagrad is not None:
        return ServerAdagrad(adagrad.learning_rate, adagrad.tau)
    if adam is not None:
        return ServerAdam(adam.learning_rate, adam.tau, adam.beta1, adam.beta2)
    if yogi is not None:
        return ServerYogi(yogi.learning_rate, yogi.tau, yogi.beta1, yogi.beta2)
    return ADDED


__all__ = [
    "ADDED",
    "STRATEGIES",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedMA",
    "FedNova",
    "FedPA",
    "FedProx",
    "FedYogi",
    "Kept",
    "Optimizer",
    "QFedAvg",
    "Scaffold",
    "ServerAdagrad",
    "ServerAdam",
    "ServerSGD",
    "ServerYogi",
    "Step",
    "Strategy",
    "Wide",
    "add",
    "optimizer_of",
    "remembering",
    "strategy_of",
]
