"""FedProx: federated averaging of clients that are held near the model they were given."""

from __future__ import annotations

from dataclasses import dataclass

from muster_coordinator.strategies.fedavg import FedAvg


@dataclass(frozen=True, slots=True)
class FedProx(FedAvg):
    """Li et al., 2020, equation 2: clients minimise F_k(w) + mu/2 · ‖w - w_base‖²; the server averages as FedAvg does.

    The proximal term is the clients' half (`Work.proximal_mu`), so at mu 0 it is FedAvg to the last bit.
    """

    name = "FedProx"
