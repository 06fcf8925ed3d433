"""A task that trains in no time and misbehaves on request: what runs are disturbed with."""

import time

import torch
from torch.utils.data import TensorDataset

from muster import Client, Data, Options, Task, parse_options


class SmallOptions(Options):
    """`victim` is the ordinal of the client that misbehaves (-1: all of them)."""

    seconds: float = 0.0
    trouble: str = ""
    victim: int = -1


class Small(Task):
    """Two clouds of points, one linear layer."""

    def __init__(self, config):
        self.options = parse_options(SmallOptions, config)
        self.misbehaves = False

    def build_model(self):
        return torch.nn.Linear(5 if self.misbehaves and self.options.trouble == "shape" else 4, 2)

    def load_data(self, client: Client) -> Data:
        self.misbehaves = bool(self.options.trouble) and self.options.victim in {-1, client.ordinal}
        return Data(points(client.ordinal, 40))

    def load_test_data(self, client: Client) -> TensorDataset:  # noqa: ARG002
        return points(1000, 200)

    def train(self, model, dataset, training):
        time.sleep(self.options.seconds)
        trained = super().train(model, dataset, training)
        if self.misbehaves and self.options.trouble == "raise":
            raise ValueError("no such scanner")
        if self.misbehaves and self.options.trouble == "nan":
            torch.nn.init.constant_(model.weight, torch.nan)
        return trained


class Broken:
    """Not a task."""


def points(seed: int, count: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    return TensorDataset(torch.randn(count, 4, generator=generator) + 2 * labels[:, None], labels)
