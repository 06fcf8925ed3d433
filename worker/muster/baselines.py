"""What a federation is held against: one model on everybody's data, and one model for each client alone.

Both use the task's own loop with the job's local settings and as many passes over the data as a client of the federated
run made, and are measured on the same examples, so that the figures differ only in who shares what.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import torch
from torch.utils.data import Dataset

from muster.batches import union
from muster.evaluation import Evaluated
from muster.task import Client, Data, Task
from muster.training import Training, seeded
from muster.workshop import pick_device
from muster_spec.types import Local
from muster_spec.work import Work


def pooled(task: Task, clients: Sequence[Client], work: Work, passes: int, seed: int) -> dict[str, float]:
    """The metrics of one model trained on all clients' examples together.

    Raises:
        MusterError: the data can't be read, or training went wrong.
    """
    data = [task.load_data(client) for client in clients]
    test = _test_set(task, clients, data)
    return _fit(task, union([each.train for each in data]), test, _local(work, passes), seed).metrics if test else {}


def local_only(task: Task, clients: Sequence[Client], work: Work, passes: int, seed: int) -> dict[str, float]:
    """The metrics of a model for each client, trained on its own examples only, averaged over the clients.

    Raises:
        MusterError: the data can't be read, or training went wrong.
    """
    data = [task.load_data(client) for client in clients]
    test = _test_set(task, clients, data)
    if test is None:
        return {}
    each = [_fit(task, own.train, test, _local(work, passes), seed).metrics for own in data]
    return {name: sum(metrics[name] for metrics in each) / len(each) for name in each[0]}


def _test_set(task: Task, clients: Sequence[Client], data: Sequence[Data]) -> Dataset[Any] | None:
    """The task's own, or else everything that clients hold out."""
    test = task.load_test_data(clients[0])
    if test is not None:
        return test
    held_out = [each.validation for each in data if each.validation is not None]
    return union(held_out) if held_out else None


def _local(work: Work, passes: int) -> Local:
    """The job's settings without the limits that a round sets to a client."""
    return msgspec.structs.replace(work.local, epochs=passes, max_steps=None, time_budget=None)


def _fit(task: Task, train: Dataset[Any], test: Dataset[Any], local: Local, seed: int) -> Evaluated:
    device = pick_device()
    with seeded(seed, torch.device("cpu")):
        model = task.build_model()
    task.train(model, train, Training(local=local, seed=seed, device=device, clock=time.monotonic))
    return task.evaluate(model, test, device)
