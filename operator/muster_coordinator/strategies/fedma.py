"""FedMA: layers are matched, unit by unit, and averaged so."""

from __future__ import annotations

from dataclasses import dataclass

from muster_coordinator.strategies.base import Strategy


@dataclass(frozen=True, slots=True)
class FedMA(Strategy):
    """Wang et al., 2020, "Federated learning with matched averaging", algorithm 1: matching/ has its equations.

    It has neither weights nor a server step: hidden units count alike, and outputs by examples of their class.
    """

    name = "FedMA"
    needs_plaintext = needs_one_base = needs_all_values = needs_whole_model = True
