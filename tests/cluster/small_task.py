"""A task for pods whose nodes, programs and networks are broken: a little training, pauses, and greed on request."""

import select

import numpy as np
import torch
from torch.utils.data import TensorDataset

from muster import Client, Data, Options, Task, parse_options
from muster.training import Trained

TRUE_LINE = (1.0, -2.0)


class SteppingOptions(Options):
    """`seconds`: how long a client trains. `greedy`: the pool whose clients take more memory than they may have.
    `ballast`: how many numbers the model has that nothing can compress, so that sending it takes a while.
    """

    seconds: float = 0.5
    greedy: str = ""
    ballast: int = 0


class Stepping(Task):
    """Each round moves every one of `steps` by one, whoever takes part: the model says how many rounds it is the result
    of. `line` is learned, by gradient descent: at the end it is near what the clients' points were made with.
    """

    def __init__(self, config):
        self.options = parse_options(SteppingOptions, config)
        self.hoard = []

    def build_model(self):
        parts = {"steps": torch.zeros(1000), "line": torch.zeros(len(TRUE_LINE))}
        if self.options.ballast:
            parts["ballast"] = torch.zeros(self.options.ballast)
        return torch.nn.ParameterDict(parts)

    def load_data(self, client: Client) -> Data:
        if client.pool == self.options.greedy:
            while True:
                self.hoard.append(np.ones(1 << 24))
        random = torch.Generator().manual_seed(client.ordinal)
        points = torch.randn(64, len(TRUE_LINE), generator=random)
        return Data(TensorDataset(points, points @ torch.tensor(TRUE_LINE)))

    def train(self, model, dataset, training):
        select.select([], [], [], self.options.seconds)  # sleep() fails where libfaketime moves the clock
        points, values = dataset.tensors
        points, values = points.to(training.device), values.to(training.device)
        for _ in range(5):
            loss = (points @ model["line"] - values).square().mean()
            (slope,) = torch.autograd.grad(loss, [model["line"]])
            with torch.no_grad():
                model["line"] -= 0.2 * slope
        with torch.no_grad():
            model["steps"] += 1
            if self.options.ballast:
                model["ballast"].normal_(generator=torch.Generator(training.device).manual_seed(training.seed))
        return Trained(examples=len(dataset), steps=5, metrics={"loss": float(loss.detach())})
