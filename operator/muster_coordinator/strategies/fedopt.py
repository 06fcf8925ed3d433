"""Federated averaging with an optimiser at the server, under the names that papers gave them."""

from __future__ import annotations

from dataclasses import dataclass

from muster_coordinator.strategies.fedavg import FedAvg


@dataclass(frozen=True, slots=True)
class FedAvgM(FedAvg):
    """Hsu et al., 2019, section 4.3: server momentum, `ServerSGD`."""

    name = "FedAvgM"
    needs_whole_model = True


@dataclass(frozen=True, slots=True)
class FedAdagrad(FedAvg):
    """Reddi et al., 2021, algorithm 2: `ServerAdagrad`."""

    name = "FedAdagrad"
    needs_whole_model = True


@dataclass(frozen=True, slots=True)
class FedAdam(FedAvg):
    """Reddi et al., 2021, algorithm 2: `ServerAdam`."""

    name = "FedAdam"
    needs_whole_model = True


@dataclass(frozen=True, slots=True)
class FedYogi(FedAvg):
    """Reddi et al., 2021, algorithm 2: `ServerYogi`."""

    name = "FedYogi"
    needs_whole_model = True
