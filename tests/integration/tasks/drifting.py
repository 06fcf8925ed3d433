"""A task whose training is a few lines of numpy and hangs on nothing but the base, the seed and the client.

So any number of clients may train side by side in one process, where torch's random numbers would be everybody's.
"""

import time

import numpy as np
import torch
from torch.utils.data import TensorDataset

from muster import Client, Data, Options, Task, parse_options
from muster.evaluation import Evaluated
from muster.training import Trained


class DriftingOptions(Options):
    """`seconds`: how long a training takes, whatever it does."""

    values: int
    seconds: float = 0.0


class Drifting(Task):
    """Each client pulls the model towards a place of its own, with some noise."""

    trainings = 0  # of all clients in this process, to show that none was done twice

    def __init__(self, config):
        self.options = parse_options(DriftingOptions, config)

    def build_model(self):
        return torch.nn.ParameterDict({"weight": torch.randn(self.options.values)})

    def load_data(self, client: Client) -> Data:
        own = TensorDataset(torch.full((1,), client.ordinal), torch.zeros(1))
        return Data(own, own)

    def train(self, model, dataset, training):
        Drifting.trainings += 1
        time.sleep(self.options.seconds)
        client = int(dataset.tensors[0].item())
        weight = model["weight"].detach().numpy()
        noise = np.random.default_rng((training.seed, client)).standard_normal(weight.size, np.float32)
        home = np.random.default_rng(client).standard_normal(weight.size, np.float32)
        weight += np.float32(0.1) * (home - weight) + np.float32(0.01) * noise
        return Trained(examples=10 + client % 3, steps=1, metrics={"loss": float(np.abs(home - weight).mean())})

    def evaluate(self, model, dataset, device):  # noqa: ARG002
        return Evaluated(10, {"loss": float(model["weight"].detach().abs().mean())})
