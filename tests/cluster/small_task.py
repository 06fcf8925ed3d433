"""A task for pods whose nodes, programs and networks are broken: a few numbers, some pauses, and greed on request."""

import time

import numpy as np
import torch
from torch.utils.data import TensorDataset

from muster import Client, Data, Options, Task, parse_options
from muster.training import Trained


class SteppingOptions(Options):
    """`seconds`: how long a client trains. `greedy`: the pool whose clients take more memory than they may have."""

    seconds: float = 0.5
    greedy: str = ""


class Stepping(Task):
    """Each round moves every number by one, whoever takes part: the model says how many rounds it is the result of."""

    def __init__(self, config):
        self.options = parse_options(SteppingOptions, config)
        self.hoard = []

    def build_model(self):
        return torch.nn.ParameterDict({"steps": torch.zeros(1000)})

    def load_data(self, client: Client) -> Data:
        if client.pool == self.options.greedy:
            while True:
                self.hoard.append(np.ones(1 << 24))
        return Data(TensorDataset(torch.zeros(10, 1), torch.zeros(10)))

    def train(self, model, dataset, training):  # noqa: ARG002
        time.sleep(self.options.seconds)
        with torch.no_grad():
            model["steps"] += 1
        return Trained(examples=len(dataset), steps=1, metrics={"loss": 0.0})
