"""How steep a client's loss and its gradient are along its training, for whoever chooses how many steps it takes.

Wang et al. 2019, "Adaptive federated learning in resource constrained edge computing systems", algorithm 3: with w the
model that came, w' the one that was made, and F the client's loss, both times on the same examples,

    ρ = |F(w') - F(w)| / ‖w' - w‖        β = ‖∇F(w') - ∇F(w)‖ / ‖w' - w‖

The model is measured as it is evaluated: without dropout, and its running statistics stay.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from muster.batches import batches, size_of
from muster.task import Task
from muster_spec.work import GRADIENT_SLOPE, LOSS_SLOPE


@dataclass(frozen=True, slots=True)
class Ground:
    """A model's trainable values, and the loss and its gradient there."""

    values: Sequence[Tensor]
    loss: float
    gradient: Sequence[Tensor]


def ground_of(task: Task, model: nn.Module, dataset: Dataset[Any], batch_size: int, device: torch.device) -> Ground:
    """Measured on these examples, all of them; the model is left as it was, without gradients."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    was_training = model.training
    model.to(device).eval()
    model.zero_grad()
    size, loss = size_of(dataset), 0.0
    for inputs, targets in batches(dataset, batch_size, device, None)():
        part = task.loss(model(inputs), targets) * (len(targets) / size)
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.item()
    gradient = [torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in parameters]
    model.zero_grad()
    model.train(was_training)
    return Ground([p.detach().clone() for p in parameters], loss, gradient)


def slopes(before: Ground, after: Ground) -> dict[str, float]:
    """The two metrics; none where nothing has moved."""
    moved = _distance(after.values, before.values)
    if not moved or not math.isfinite(moved):
        return {}
    turned = _distance(after.gradient, before.gradient)
    return {LOSS_SLOPE: abs(after.loss - before.loss) / moved, GRADIENT_SLOPE: turned / moved}


def _distance(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    squares = sum(((a.double() - b.double()).square().sum().item() for a, b in zip(one, other, strict=True)), start=0.0)
    return math.sqrt(squares)
