"""A task whose steps take as long as its configuration says, whatever the machine: clients of different speeds on one.

Real clients sleep after each step, so that six of them on two cores don't wait for each other. Simulated ones don't:
their profile says the same speeds.
"""

import time

import numpy as np
import torch
from torch.utils.data import TensorDataset

from muster import Client, Data, Options, Task, parse_options
from muster.training import Trained


class PacedOptions(Options):
    """`stepSeconds` is of speed 1; `speeds` has one for each client, by ordinal."""

    values: int
    steps: int
    step_seconds: float
    speeds: list[float]


class Paced(Task):
    """Each client pulls the model towards a place of its own."""

    def __init__(self, config):
        self.options = parse_options(PacedOptions, config)

    def build_model(self):
        """One vector."""
        return torch.nn.ParameterDict({"weight": torch.randn(self.options.values)})

    def load_data(self, client: Client) -> Data:
        """Its number, which is all that it knows."""
        return Data(TensorDataset(torch.full((1,), client.ordinal), torch.zeros(1)))

    def train(self, model, dataset, training):
        """Steps, each as long as this client's take."""
        client = int(dataset.tensors[0].item())
        weight = model["weight"].detach().numpy()
        home = np.random.default_rng(client).standard_normal(weight.size, np.float32)
        for step in range(self.options.steps):
            if training.should_stop():
                return Trained(examples=10, steps=step, stopped=True)
            weight += np.float32(0.01) * (home - weight)
            time.sleep(self.options.step_seconds / self.options.speeds[client])
            training.progress((step + 1) / self.options.steps)
        return Trained(examples=10, steps=self.options.steps, metrics={})
