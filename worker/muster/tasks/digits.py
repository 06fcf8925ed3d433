"""Handwritten digits: the 1,797 real 8x8 images that scikit-learn brings along (UCI, Alpaydin and Kaynak 1998).

It needs no download, so it is the first thing that a newcomer runs. A fifth of the images, the same for every seed and
as many of each digit, is the test set; the clients share the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

from muster.options import Options, parse_options
from muster.partition import Partition, choose_partition, split
from muster.task import Client, Data
from muster.tasks.images import ClassTask, Examples, hold_out


class DigitsOptions(Options, frozen=True):
    """`classesPerClient: 3` is short for `partition: {type: labels, classesPerClient: 3}`; neither: shares alike.

    With `perClass` the accuracy on each digit is measured by itself.
    """

    classes_per_client: int | None = None
    partition: Partition | None = None
    width: int = 16
    held_out: float = 0.1
    per_class: bool = False


class Digits(ClassTask):
    """Ten digits, a convolutional network of two layers."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.options = parse_options(DigitsOptions, config)
        self.per_class = self.options.per_class
        self.partition = choose_partition(self.options.classes_per_client, self.options.partition)

    def build_model(self) -> nn.Module:
        width = self.options.width
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 10),
        )

    def load_data(self, client: Client) -> Data:
        train, _ = read_digits()
        shares = split(train.labels, client.clients_total, self.partition, client.seed)
        return hold_out(train[shares[client.ordinal]], self.options.held_out, client.seed)

    def load_test_data(self, client: Client) -> TensorDataset:  # noqa: ARG002 -- the images come with scikit-learn
        return read_digits()[1].dataset()


@cache
def read_digits() -> tuple[Examples, Examples]:
    """The images to train on and those to test on, pixels from 0 to 1."""
    digits = load_digits()
    everything = Examples((digits.images[:, None] / 16).astype(np.float32), digits.target.astype(np.int64))
    test = np.zeros(len(everything.labels), dtype=bool)
    for label in range(10):
        test[np.flatnonzero(everything.labels == label)[::5]] = True
    return everything[np.flatnonzero(~test)], everything[np.flatnonzero(test)]
