"""Clients that attack: the digits task, in which the first few clients don't send what they trained.

They hold data like everybody, train as they are told, and then hand in something else, within what the wire lets
through: Byzantine clients, as robust aggregation is meant to bear. They make first models and measure honestly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from muster.options import Options, parse_options
from muster.task import Client, Data
from muster.tasks.digits import Digits
from muster.training import Trained, Training

Attack = Literal["Reversed", "Noise"]


class HostileOptions(Options, frozen=True):
    """How many clients attack, how, and how large what they send is beside what they trained; `digits`: the task's."""

    hostile: int = 0
    attack: Attack = "Reversed"
    factor: float = 10.0
    digits: dict[str, Any] = msgspec.field(default_factory=dict)


class Taken(TensorDataset):
    """The examples of a client that attacks: by this `train` knows whom it works for."""


class HostileDigits(Digits):
    """Digits, with the first `hostile` clients of the job in somebody's hands."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.hostility = parse_options(HostileOptions, config)
        super().__init__(self.hostility.digits)

    def load_data(self, client: Client) -> Data:
        data = super().load_data(client)
        if client.ordinal >= self.hostility.hostile:
            return data
        assert isinstance(data.train, TensorDataset)  # noqa: S101 -- for the type checker: digits are tensors
        return replace(data, train=Taken(*data.train.tensors))

    def train(self, model: nn.Module, dataset: Dataset[Any], training: Training) -> Trained:
        base = [parameter.detach().clone() for parameter in model.parameters()]
        trained = super().train(model, dataset, training)
        if isinstance(dataset, Taken):
            self._attack(list(model.parameters()), base, training.seed)
        return trained

    @torch.no_grad()
    def _attack(self, parameters: Sequence[Tensor], base: Sequence[Tensor], seed: int) -> None:
        """Put what the client sends into its model."""
        updates = [after - before for after, before in zip(parameters, base, strict=True)]
        match self.hostility.attack:
            case "Reversed":
                sent = [-self.hostility.factor * update for update in updates]
            case "Noise":
                sent = noise_like(updates, self.hostility.factor, seed)
        for parameter, before, update in zip(parameters, base, sent, strict=True):
            parameter.copy_(before + update)


def noise_like(updates: Sequence[Tensor], factor: float, seed: int) -> list[Tensor]:
    """Gaussian noise over the whole model, `factor` times as long as this update is."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    noise = [torch.randn(update.shape, generator=generator) for update in updates]
    length, wanted = (math.sqrt(sum(each.square().sum().item() for each in many)) for many in (noise, updates))
    return [each * (factor * wanted / length) for each in noise]
