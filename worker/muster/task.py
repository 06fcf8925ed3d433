"""What a user writes: a model, data, and, if the ready ones don't serve, training and evaluation.

A worker makes one `Task` from the job's entrypoint and configuration and uses it for all the clients that it acts for.
This module needs no torch at import, so that `import muster` stays cheap where nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from muster.options import NoOptions, parse_options

if TYPE_CHECKING:
    import torch
    from torch.utils.data import Dataset

    from muster.evaluation import Evaluated
    from muster.training import Trained, Training
    from muster_wire.groups import Group


@dataclass(frozen=True, slots=True)
class Client:
    """One data holder, as a task sees it.

    `ordinal` counts through all clients of the job (`clients_total` of them), `index` through those of the pool.
    `seed` is the job's, the same for every client, so that all of them draw the same partition of a shared data set.
    """

    pool: str
    index: int
    ordinal: int
    clients_total: int
    pool_clients: int
    seed: int
    data_dir: Path | None = None

    @property
    def name(self) -> str:
        """``pool/index``."""
        return f"{self.pool}/{self.index}"


@dataclass(frozen=True, slots=True)
class Shard:
    """Which part of a client's examples a rank trains on, where several ranks are one client: `index` of `count`."""

    index: int = 0
    count: int = 1


@dataclass(frozen=True, slots=True)
class Data:
    """A client's examples: what it trains on, and what it holds out to measure models on (None: nothing)."""

    train: Dataset[Any]
    validation: Dataset[Any] | None = None


class Task:
    """A model and its data; subclass it and name it in ``spec.task.entrypoint`` as ``package.module:Class``.

    `build_model` and `load_data` have to be written. Everything else has a ready implementation: cross-entropy loss,
    accuracy, a local loop with epochs, FedProx's proximal term, clipping and a time budget, and a batched evaluation.
    Data sets yield ``(inputs, targets)`` pairs; a `torch.utils.data.TensorDataset` of two tensors is the fastest kind.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Take ``spec.task.config``. A task with options of its own overrides this and calls `muster.parse_options`.

        Raises:
            ConfigError: the configuration isn't what the task understands.
        """
        parse_options(NoOptions, config)

    def build_model(self) -> torch.nn.Module:
        """A new model. Its initial values come from torch's generator, which the caller has seeded."""
        raise NotImplementedError(f"{type(self).__name__} has to define build_model()")

    def load_data(self, client: Client) -> Data:
        """The data of one client: read once, then kept for as long as the worker lives.

        Raises:
            DataError: a file is missing or isn't what it should be.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define load_data(client)")

    def load_shard(self, client: Client, shard: Shard) -> Data:
        """One shard of a client's data, for one of the ranks of an MPI site. The default reads all of it and takes
        every `count`-th example; a task whose data lies in shards reads only its own.

        Raises:
            DataError: as `load_data`.
        """
        from muster.batches import shard_of

        return shard_of(self.load_data(client), shard)

    def load_test_data(self, client: Client) -> Dataset[Any] | None:  # noqa: ARG002 -- the default needs no client
        """The task's own test set, for central evaluation; None if it has none."""
        return None

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss of a batch, as a scalar tensor."""
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs, targets)

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The loss of each example of a batch, where somebody chooses by it. The default is `loss` of one at a time."""
        import torch

        return torch.stack([self.loss(outputs[i : i + 1], targets[i : i + 1]) for i in range(len(targets))])

    def metrics(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Means over a batch, higher or lower being better as each name says. The default knows class scores."""
        return {"accuracy": (outputs.argmax(dim=1) == targets).float().mean().item()}

    def private(self, name: str) -> bool:  # noqa: ARG002 -- the default keeps nothing back
        """Whether the tensor of this name (as in ``state_dict``) never leaves its client."""
        return False

    def droppable(self) -> Sequence[Group] | None:
        """Which units of the model may be left out together, in jobs with federated dropout.

        None (the default): find it out from the model's forward pass. A model for which that fails or finds too little
        declares its groups: each has a number of units and, as members, every axis of every tensor that they run along
        (``Member("up.weight", 0), Member("up.bias", 0), Member("down.weight", 1)``), where a flattened channel of 16
        places is ``Member("out.weight", 1, repeat=16)``. Clients then train copies whose tensors are that much
        smaller, so forward must not rely on the sizes that build_model chose.
        """
        return None

    def train(self, model: torch.nn.Module, dataset: Dataset[Any], training: Training) -> Trained:
        """Train the model in place. The ready loop is `muster.training.train`."""
        from muster.training import train

        return train(self, model, dataset, training)

    def evaluate(self, model: torch.nn.Module, dataset: Dataset[Any], device: torch.device) -> Evaluated:
        """Measure a model. The ready one is `muster.evaluation.evaluate`."""
        from muster.evaluation import evaluate

        return evaluate(self, model, dataset, device)
