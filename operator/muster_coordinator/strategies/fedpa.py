"""FedPA: federated averaging of as many updates as pay, and of late ones, with less weight."""

from __future__ import annotations

from dataclasses import dataclass

from muster_coordinator.strategies.fedavg import FedAvg


@dataclass(frozen=True, slots=True)
class FedPA(FedAvg):
    """Liu et al., 2021 (aggregation.py): how many updates a round waits for, and what late ones count, is the engine's
    business; what is in time, and what comes late, is averaged as FedAvg does.
    """

    name = "FedPA"
    needs_plaintext = needs_own_rounds = needs_whole_model = True
