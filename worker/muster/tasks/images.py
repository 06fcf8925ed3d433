"""What the image tasks share: pixels and labels as tensors, a client's share of them, and each class measured alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from muster.evaluation import Evaluated
from muster.partition import Indices
from muster.task import Data, Task

_OF_ALL, _FOUND = "of all/", "found/"


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


class ClassTask(Task):
    """A task that also measures each class by itself, as ``accuracy/3``, where its options say `perClass`."""

    per_class: bool

    def metrics(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        return super().metrics(outputs, targets) | (class_parts(outputs, targets) if self.per_class else {})

    def evaluate(self, model: nn.Module, dataset: Dataset[Any], device: torch.device) -> Evaluated:
        found = super().evaluate(model, dataset, device)
        return replace(found, metrics=with_recalls(found.metrics))


def class_parts(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """Which part of a batch is of each class, and which is of it and recognised: unlike recalls, means over examples
    that batches can be averaged by.
    """
    classes = outputs.shape[1]
    recognised = targets[outputs.argmax(dim=1) == targets]
    parts = {_OF_ALL: targets, _FOUND: recognised}
    return {
        f"{name}{label}": count / len(targets)
        for name, labels in parts.items()
        for label, count in enumerate(torch.bincount(labels, minlength=classes).tolist())
    }


def with_recalls(metrics: Mapping[str, float]) -> dict[str, float]:
    """The same with each class's recall for its parts; a class that nothing was of has none."""
    plain = {name: value for name, value in metrics.items() if not name.startswith((_OF_ALL, _FOUND))}
    parts = {name.removeprefix(_OF_ALL): value for name, value in metrics.items() if name.startswith(_OF_ALL)}
    recalls = {f"accuracy/{label}": metrics[_FOUND + label] / part for label, part in parts.items() if part}
    return plain | recalls
