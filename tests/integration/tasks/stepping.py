"""A task whose ranks step together; on request each goes its own way."""

import os
from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from muster import Client, Data, Options, Task, parse_options


class SteppingOptions(Options):
    """`stray`: the training of each rank ends elsewhere. `marks` is a folder where each notes its process."""

    stray: bool = False
    marks: str = ""


class Stepping(Task):
    """Points in two clouds."""

    def __init__(self, config):
        self.options = parse_options(SteppingOptions, config)

    def build_model(self):
        return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))

    def load_data(self, client: Client) -> Data:  # noqa: ARG002 -- there is one
        generator = torch.Generator().manual_seed(3)
        labels = torch.arange(47) % 2
        return Data(TensorDataset(torch.randn(47, 4, generator=generator) + labels[:, None], labels))

    def train(self, model, dataset, training):
        if self.options.marks:
            (Path(self.options.marks) / str(training.team.rank)).write_text(str(os.getpid()))
        trained = super().train(model, dataset, training)
        if self.options.stray:
            with torch.no_grad():
                model[0].bias += training.team.rank
        return trained
