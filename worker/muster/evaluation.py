"""The ready evaluation: means of the loss and of the task's metrics over a data set, in batches, without gradients."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from muster.batches import batches, size_of
from muster.task import Task

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Evaluated:
    """How many examples were measured, and means over them. No examples: there was nothing to measure on."""

    examples: int
    metrics: dict[str, float]


def evaluate(task: Task, model: nn.Module, dataset: Dataset[Any], device: torch.device) -> Evaluated:
    """Measure a model: each batch's means, weighted by its size."""
    size = size_of(dataset)
    model.to(device).eval()
    sums: defaultdict[str, float] = defaultdict(float)
    with torch.inference_mode():
        for inputs, targets in batches(dataset, _BATCH, device, shuffle=None)():
            outputs = model(inputs)
            means = {"loss": task.loss(outputs, targets).item(), **task.metrics(outputs, targets)}
            for name, mean in means.items():
                sums[name] += mean * len(targets)
    return Evaluated(size, {name: total / size for name, total in sums.items()})


def mean_loss(task: Task, model: nn.Module, dataset: Dataset[Any], device: torch.device) -> float:
    """The loss alone, of a model that goes on to be trained."""
    total = torch.zeros((), dtype=torch.float64, device=device)
    model.to(device).eval()
    with torch.no_grad():
        for inputs, targets in batches(dataset, _BATCH, device, shuffle=None)():
            total += task.loss(model(inputs), targets).double() * len(targets)
    return total.item() / size_of(dataset)
