"""From a data set to batches on a device, for training and evaluation alike.

Small models spend more time on fetching examples one by one than on learning, so a data set that is two tensors is
indexed whole; any other goes through a DataLoader in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, TensorDataset

from muster.errors import TaskError
from muster.task import Data, Shard

Batch = tuple[Tensor, Tensor]
Pass = Callable[[], Iterator[Batch]]  # one pass over the data, each time it is called


def size_of(dataset: Dataset[Any]) -> int:
    """How many examples there are.

    Raises:
        TaskError: the data set is empty or doesn't say.
    """
    if not isinstance(dataset, Sized):
        raise TaskError(f"load_data: {type(dataset).__name__} has no length; data sets need __len__ and __getitem__")
    if len(dataset) == 0:
        raise TaskError("load_data: the data set is empty; a client needs at least one example")
    return len(dataset)


def _unheard(places: Tensor) -> None:
    pass


def batches(
    dataset: Dataset[Any],
    batch_size: int,
    device: torch.device,
    shuffle: torch.Generator | None,
    *,
    merge: bool = False,
    note: Callable[[Tensor], None] = _unheard,
) -> Pass:
    """Passes over the data in batches: in order, or shuffled anew each time by a generator.

    `note` hears the places of each batch's examples before it comes.

    With `merge`, a last batch of a single example joins the one before it: batch norm can't train on one example.
    """
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return _tensor_batches(dataset, batch_size, device, shuffle, merge, note)
    return _loader_batches(dataset, batch_size, device, shuffle, merge, note)


def _cuts(size: int, batch_size: int, merge: bool) -> list[int]:
    cuts = [*range(0, size, batch_size), size]
    if merge and len(cuts) > 2 and cuts[-1] - cuts[-2] == 1:
        del cuts[-2]
    return cuts


def _order(size: int, shuffle: torch.Generator | None) -> Tensor:
    return torch.arange(size) if shuffle is None else torch.randperm(size, generator=shuffle)


def _tensor_batches(
    dataset: TensorDataset,
    batch_size: int,
    device: torch.device,
    shuffle: torch.Generator | None,
    merge: bool,
    note: Callable[[Tensor], None],
) -> Pass:
    inputs, targets = (tensor.to(device) for tensor in dataset.tensors)
    cuts = _cuts(len(dataset), batch_size, merge)

    def run() -> Iterator[Batch]:
        places = _order(len(dataset), shuffle)
        order = places.to(device)
        for start, end in pairwise(cuts):
            note(places[start:end])
            chosen = order[start:end]
            yield inputs[chosen], targets[chosen]

    return run


def _loader_batches(
    dataset: Dataset[Any],
    batch_size: int,
    device: torch.device,
    shuffle: torch.Generator | None,
    merge: bool,
    note: Callable[[Tensor], None],
) -> Pass:
    size = size_of(dataset)
    cuts = _cuts(size, batch_size, merge)

    def run() -> Iterator[Batch]:
        order = _order(size, shuffle).tolist()
        chosen = [order[start:end] for start, end in pairwise(cuts)]
        # The loader draws a seed even for workers it doesn't have; its own generator leaves torch's alone.
        loader = DataLoader(dataset, batch_sampler=chosen, generator=torch.Generator())
        for places, batch in zip(chosen, loader, strict=True):
            note(torch.tensor(places))
            yield _pair(batch, device)

    return run


def _pair(batch: object, device: torch.device) -> Batch:
    if not isinstance(batch, list | tuple) or len(batch) != 2 or not all(isinstance(part, Tensor) for part in batch):
        raise TaskError("load_data: each example has to be a pair (inputs, target) of tensors or numbers")
    inputs, targets = cast("Batch", tuple(batch))
    return inputs.to(device), targets.to(device)


def union(datasets: Sequence[Dataset[Any]]) -> Dataset[Any]:
    """Several data sets as one; of pairs of tensors again a pair of tensors, so that the fast path stays open."""
    if all(isinstance(each, TensorDataset) and len(each.tensors) == 2 for each in datasets):
        pairs = [cast("TensorDataset", each).tensors for each in datasets]
        return TensorDataset(*(torch.cat(parts) for parts in zip(*pairs, strict=True)))
    return ConcatDataset(datasets)


def shard_of(data: Data, shard: Shard) -> Data:
    """Every `count`-th example of a client's data, from its `index`-th on; None to measure on, if none falls to it."""
    held_out = data.validation
    has_some = held_out is not None and size_of(held_out) > shard.index
    return Data(_every(data.train, shard), _every(held_out, shard) if held_out is not None and has_some else None)


def _every(dataset: Dataset[Any], shard: Shard) -> Dataset[Any]:
    places = range(shard.index, size_of(dataset), shard.count)
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return TensorDataset(*(tensor[places.start :: places.step] for tensor in dataset.tensors))
    return Subset(dataset, places)
