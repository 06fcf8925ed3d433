"""Which of its examples a client trains on, where it may choose (local.sampling: FedBalancer).

Shin, Li, Liu, Lee, "FedBalancer: data and pace control for efficient federated learning on heterogeneous clients",
MobiSys 2022, algorithm 1. A client that gets through all of its examples in time takes all. Another one takes those
that teach most: of as many as it gets through, or else as many as have a loss at the round's threshold or above, a
share p are drawn from these and the rest from those below.

For that it keeps the last known loss of each example. The first time it measures all of them with the model that it
got; after that, those that it trains on bring their losses with them, from the passes that are done anyway. Losses are
state of the client like any other: they move when a round's commit says that the update was used, and lost ones are
measured anew. How long a step takes is a fact about the machine, and known for as long as the worker lives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset

from muster.batches import batches, size_of
from muster.task import Task
from muster.training import Trained
from muster_spec.rounds_types import Local
from muster_spec.work import LOSS_HIGH, LOSS_LOW

LOSSES: Final = "muster.losses"  # in a client's state
HIGH: Final = 0.8  # the quantile of the losses that counts as high: one outlier should not say what is
_BATCH: Final = 256


@dataclass(frozen=True, slots=True)
class Balance:
    """What a client knows of its examples: the last loss of each."""

    losses: Tensor

    @property
    def tensors(self) -> dict[str, Tensor]:
        """As part of the client's state."""
        return {LOSSES: self.losses}

    @property
    def metrics(self) -> dict[str, float]:
        """What the coordinator makes the next threshold of: algorithm 1's LLow and LHigh."""
        ordered = self.losses.double()
        return {LOSS_LOW: ordered.min().item(), LOSS_HIGH: ordered.quantile(HIGH).item()}


@dataclass(frozen=True, slots=True)
class Choice:
    """Some of a client's examples, and where they stand among all of them."""

    balance: Balance
    places: Tensor
    examples: Dataset[Any]

    def after(self, trained: Trained) -> Balance:
        """What is known once they have been trained on."""
        losses = self.balance.losses.clone()
        if trained.losses is not None:
            seen = ~torch.isnan(trained.losses)
            losses[self.places[seen]] = trained.losses[seen]
        return Balance(losses)


def make_choice(
    balance: Balance,
    threshold: float | None,
    fits: int | None,
    local: Local,
    dataset: Dataset[Any],
    generator: torch.Generator,
) -> Choice:
    """For a training that gets through so many examples in time; None: nobody knows."""
    hard_share = local.sampling.fed_balancer.hard_share if local.sampling.fed_balancer else 1.0
    places = choose(balance.losses, threshold, fits, hard_share, generator)
    return Choice(balance, places, subset(dataset, places))


def balance_of(state: Mapping[str, Tensor], size: int) -> Balance | None:
    """What the state has of it; None where there is nothing, or the client's examples are others now."""
    losses = state.get(LOSSES)
    if losses is None or losses.shape != (size,):
        return None
    return Balance(losses)


def measure(task: Task, model: nn.Module, dataset: Dataset[Any], device: torch.device) -> Balance:
    """Every example's loss, of a model that goes on to be trained."""
    found = []
    model.to(device).eval()
    with torch.no_grad():
        for inputs, targets in batches(dataset, _BATCH, device, shuffle=None)():
            found.append(task.losses(model(inputs), targets).float().cpu())
    return Balance(torch.cat(found))


def fitting(left_s: float, step_s: float | None, local: Local) -> int | None:
    """How many examples a client gets through in so many seconds, every epoch in whole batches; None: nobody knows."""
    if step_s is None or not math.isfinite(left_s):
        return None
    steps = max(left_s, 0.0) / (local.epochs * step_s) if step_s > 0 else math.inf
    return math.floor(min(steps, 2**31)) * local.batch_size


def choose(
    losses: Tensor, threshold: float | None, fits: int | None, hard_share: float, generator: torch.Generator
) -> Tensor:
    """Algorithm 1. The hardest example counts as hard whatever the threshold."""
    bar = losses.max().item() if threshold is None else min(threshold, losses.max().item())
    is_hard = torch.ones_like(losses, dtype=torch.bool) if threshold is None else losses >= bar
    hard, easy = is_hard.nonzero()[:, 0], (~is_hard).nonzero()[:, 0]
    if fits is not None and fits >= len(losses):
        return torch.arange(len(losses))
    count = fits if fits is not None and fits >= len(hard) else len(hard)
    from_easy = min(int(count * (1 - hard_share)), len(easy))
    from_hard = min(count - from_easy, len(hard))
    from_easy = count - from_hard
    drawn = [_drawn(hard, from_hard, generator), _drawn(easy, from_easy, generator)]
    return torch.cat(drawn).sort().values


def subset(dataset: Dataset[Any], chosen: Tensor) -> Dataset[Any]:
    """Some of the examples; of tensors again tensors, so that the fast path stays open. All of them: the same."""
    if len(chosen) == size_of(dataset):
        return dataset
    if isinstance(dataset, TensorDataset):
        return TensorDataset(*(tensor[chosen] for tensor in dataset.tensors))
    return Subset(dataset, chosen.tolist())


def _drawn(places: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return places[torch.randperm(len(places), generator=generator)[:count]]
