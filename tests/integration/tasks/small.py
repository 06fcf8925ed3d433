"""A task that trains in no time and misbehaves on request: what runs are disturbed with."""

import json
import os
import time

import torch
from torch.utils.data import TensorDataset

from muster import Client, Data, Options, Task, parse_options


class SmallOptions(Options):
    """`trouble` says how clients misbehave, by their ordinals; `everybody` how all of them do."""

    seconds: float = 0.0
    trouble: dict[str, str] = {}  # noqa: RUF012 -- a copy for each
    everybody: str = ""
    diary: str = ""  # a file that gets a line for each training that came to its end
    gate: str = ""  # a file: while it is there, trainings wait


class Small(Task):
    """Two clouds of points, one linear layer."""

    def __init__(self, config):
        self.options = parse_options(SmallOptions, config)
        self.trouble = ""
        self.ordinals = {}

    def build_model(self):
        return torch.nn.Linear(5 if self.trouble == "shape" else 4, 2)

    def load_data(self, client: Client) -> Data:
        self.trouble = self.options.trouble.get(str(client.ordinal), self.options.everybody)
        data = Data(points(client.ordinal, 40))
        self.ordinals[id(data.train)] = client.ordinal
        return data

    def load_test_data(self, client: Client) -> TensorDataset:  # noqa: ARG002
        return points(1000, 200)

    def train(self, model, dataset, training):
        time.sleep(self.options.seconds)
        while self.options.gate and os.path.exists(self.options.gate) and not training.should_stop():  # noqa: PTH110
            time.sleep(0.02)
        trained = super().train(model, dataset, training)
        if self.trouble == "raise":
            raise ValueError("no such scanner")
        if self.trouble == "nan":
            torch.nn.init.constant_(model.weight, torch.nan)
        if self.options.diary and not trained.stopped:
            with open(self.options.diary, "a") as diary:  # noqa: PTH123
                diary.write(json.dumps({"client": self.ordinals[id(dataset)], "seed": training.seed}) + "\n")
        return trained


class Broken:
    """Not a task."""


def points(seed: int, count: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    return TensorDataset(torch.randn(count, 4, generator=generator) + 4 * labels[:, None] - 2, labels)
