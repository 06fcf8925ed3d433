"""Clients whose losses are bowls, F_i(x) = curve_i / 2 · ‖x - aim_i‖²: what they come to is known to the digit."""

import torch
from torch.utils.data import TensorDataset

from muster import Client, Data, Options, Task, parse_options


class BowlsOptions(Options):
    """By client. With batches of one, a client takes as many steps as it has examples."""

    aims: list[tuple[float, float, float]]
    curves: list[float]
    examples: list[int]


class Point(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.x = torch.nn.Parameter(torch.zeros(3))

    def forward(self, inputs):
        return self.x.expand(len(inputs), 3)


class Bowls(Task):
    """Each example is the client's bowl again: its curve and its aim."""

    def __init__(self, config):
        self.options = parse_options(BowlsOptions, config)

    def build_model(self):
        return Point()

    def load_data(self, client: Client) -> Data:
        options, who = self.options, client.ordinal
        rows = [[options.curves[who], *options.aims[who]]] * options.examples[who]
        return Data(TensorDataset(torch.zeros(len(rows), 1), torch.tensor(rows)))

    def loss(self, outputs, targets):
        return (targets[:, 0] / 2 * ((outputs - targets[:, 1:]) ** 2).sum(dim=1)).mean()

    def metrics(self, outputs, targets):
        return {"distance": (outputs - targets[:, 1:]).norm(dim=1).mean().item()}
