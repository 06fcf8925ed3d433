"""A task whose data lies in shards: a client each, or all of them one client's whose ranks read one each."""

import os
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import TensorDataset

from muster import Client, Data, Options, Shard, Task, TaskError, parse_options


class ShardedOptions(Options):
    """`private` keeps the last layer at home; a rank sleeps for `seconds` in each training; one of them fails."""

    private: bool = False
    seconds: float = 0.0
    failing: int = -1
    marks: str = ""


class Sharded(Task):
    """Points in two clouds, shards of different sizes, and a model with every kind of tensor."""

    def __init__(self, config):
        self.options = parse_options(ShardedOptions, config)
        self.shard = 0

    def build_model(self):
        return nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 2))

    def load_data(self, client: Client) -> Data:
        return self.read(client.ordinal)

    def load_shard(self, client: Client, shard: Shard) -> Data:  # noqa: ARG002 -- there is one client
        return self.read(shard.index)

    def read(self, number: int) -> Data:
        self.shard = number
        return Data(points(number, 20 + 7 * number), points(500 + number, 6 + number))

    def load_test_data(self, client: Client) -> TensorDataset:  # noqa: ARG002
        return points(1000, 200)

    def private(self, name):
        return self.options.private and name.startswith("3.")

    def train(self, model, dataset, training):
        """The batches of a shard are drawn by its number, whoever trains on it."""
        if self.options.marks:
            (Path(self.options.marks) / str(self.shard)).write_text(str(os.getpid()))
        until = time.monotonic() + self.options.seconds
        while time.monotonic() < until and not training.should_stop():
            time.sleep(0.01)
        if self.shard == self.options.failing:
            raise TaskError("no such scanner")
        return super().train(model, dataset, replace(training, seed=self.shard))


def points(seed: int, count: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    return TensorDataset(torch.randn(count, 4, generator=generator) + 2 * labels[:, None], labels)
