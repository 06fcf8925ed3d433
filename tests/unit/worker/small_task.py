"""A task of a few numbers for the worker's tests: two clouds of points, with every kind of tensor in its model."""

import torch
from torch import nn
from torch.utils.data import TensorDataset

from muster import Client, Data, Options, Task, parse_options
from muster_spec.types import InitialModel, Local, Optimizer, TaskSpec
from muster_spec.work import Work


class PointsOptions(Options, frozen=True):
    trouble: str = ""
    private: bool = False
    test_set: bool = True


class Points(Task):
    def __init__(self, config):
        self.options = parse_options(PointsOptions, config)

    def build_model(self):
        if self.options.trouble == "model":
            return []
        if self.options.trouble == "shape":
            return nn.Sequential(nn.Linear(5, 8))
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))

    def load_data(self, client: Client) -> Data:
        if self.options.trouble == "data":
            raise FileNotFoundError("no such scanner\nand a second line")
        if self.options.trouble == "exit":
            raise SystemExit(3)
        if self.options.trouble == "answer":
            return points(client.ordinal, 48)
        return Data(points(client.ordinal, 48), points(client.ordinal + 500, 16))

    def load_test_data(self, client: Client):  # noqa: ARG002
        return points(1000, 200) if self.options.test_set else None

    def train(self, model, dataset, training):
        trained = super().train(model, dataset, training)
        return None if self.options.trouble == "training" else trained

    def private(self, name):
        return self.options.private and name.startswith("4.")


def points(seed, count):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    return TensorDataset(torch.randn(count, 4, generator=generator) + 2 * labels[:, None], labels)


def local(**changes):
    settings = {
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 0.1,
        "optimizer": Optimizer(type="SGD", momentum=0.0, weight_decay=0.0),
    }
    return Local(**{**settings, **changes})


def work(config=None, mu=0.0, entrypoint="small_task:Points", **changes):
    task = TaskSpec(entrypoint=entrypoint, config=config or {}, initial_model=InitialModel(type="Client"))
    return Work(job="points", task=task, local=local(**changes), seed=7, proximal_mu=mu)


def client(ordinal=0, total=4, seed=7, data_dir=None):
    return Client("p", ordinal, ordinal, total, total, seed, data_dir)
