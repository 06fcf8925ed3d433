"""What the image tasks share: pixels and labels as tensors, and a client's share of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import TensorDataset

from muster.partition import Indices
from muster.task import Data


@dataclass(frozen=True, slots=True)
class Examples:
    """Inputs (first axis: examples) and their labels."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __getitem__(self, chosen: Indices) -> Examples:
        return Examples(self.inputs[chosen], self.labels[chosen])

    def dataset(self) -> TensorDataset:
        return TensorDataset(torch.from_numpy(self.inputs), torch.from_numpy(self.labels))


def hold_out(examples: Examples, fraction: float, seed: int) -> Data:
    """A client's data, with a random part held out to measure models on (none if it would be empty)."""
    held = int(len(examples.labels) * fraction)
    order = np.random.default_rng(seed).permutation(len(examples.labels))
    train = examples[np.sort(order[held:])].dataset()
    return Data(train, examples[np.sort(order[:held])].dataset() if held else None)
