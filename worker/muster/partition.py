"""Splits one data set over clients: by labels, by a Dirichlet draw, evenly, or by a natural key.

Every client draws the whole split from the job's seed and takes its own share, so nobody has to hand shares out. In
each split every example has exactly one owner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from muster.errors import ConfigError
from muster.options import Options

Indices = NDArray[np.int64]
_DRAWS = 1000


class Reserved(Options, frozen=True):
    """These classes are held by these clients alone, which count through the whole job from 0."""

    classes: tuple[int, ...]
    clients: tuple[int, ...]


class ByLabels(Options, frozen=True, tag_field="type", tag="labels"):
    """Each client holds at most this many classes; those that hold reserved ones hold these before others."""

    classes_per_client: int
    reserved: Reserved | None = None


class ByDirichlet(Options, frozen=True, tag_field="type", tag="dirichlet"):
    """Each class is shared out in proportions drawn from Dirichlet(alpha): the smaller alpha, the more skewed."""

    alpha: float
    min_size: int = 10


class Evenly(Options, frozen=True, tag_field="type", tag="iid"):
    """Each client holds a random share of the same size."""


Partition = ByLabels | ByDirichlet | Evenly


def split(labels: NDArray[np.integer], clients: int, partition: Partition, seed: int) -> list[Indices]:
    """Each client's indices, sorted.

    Raises:
        ConfigError: there is no such split of this data.
    """
    match partition:
        case ByLabels(classes_per_client=classes, reserved=reserved):
            return by_labels(labels, clients, classes, seed, reserved)
        case ByDirichlet(alpha=alpha, min_size=min_size):
            return by_dirichlet(labels, clients, alpha, min_size, seed)
        case Evenly():
            return evenly(len(labels), clients, seed)


def evenly(size: int, clients: int, seed: int) -> list[Indices]:
    """Random shares whose sizes differ by at most one."""
    shares = np.array_split(np.random.default_rng(seed).permutation(size), clients)
    return _checked([np.sort(share) for share in shares], f"{size} examples")


def by_labels(
    labels: NDArray[np.integer], clients: int, classes_per_client: int, seed: int, reserved: Reserved | None = None
) -> list[Indices]:
    """Shares of at most `classes_per_client` classes each, every class covered, as even as the classes' sizes allow."""
    rng = np.random.default_rng(seed)
    classes = np.unique(labels)
    kept = _kept_back(classes, clients, reserved) if reserved else {}
    owners = _deal_classes(len(classes), clients, classes_per_client, rng, kept)
    shares: list[list[Indices]] = [[] for _ in range(clients)]
    for label, holders in zip(classes, owners, strict=True):
        pieces = np.array_split(rng.permutation(np.flatnonzero(labels == label)), len(holders))
        for holder, piece in zip(holders, pieces, strict=True):
            shares[holder].append(piece)
    return _checked([np.sort(np.concatenate(share)) for share in shares], "classesPerClient")


def _kept_back(classes: NDArray[np.integer], clients: int, reserved: Reserved) -> dict[int, frozenset[int]]:
    """The clients that alone may hold a class, by the class's place."""
    there, wanted, holders = set(classes.tolist()), set(reserved.classes), frozenset(reserved.clients)
    if not wanted or not wanted < there:
        raise ConfigError(f"partition.reserved.classes: must be some of the data's, {sorted(there)}, and not all")
    if not holders or min(holders) < 0 or max(holders) >= clients:
        raise ConfigError(f"partition.reserved.clients: must be between 0 and {clients - 1}, and at least one")
    return {place: holders for place, label in enumerate(classes.tolist()) if label in wanted}


def _deal_classes(
    classes: int, clients: int, each: int, rng: np.random.Generator, kept: Mapping[int, frozenset[int]]
) -> list[list[int]]:
    """The clients that hold each class: every client takes what is kept for it, then the classes that fewest hold so
    far, ties by lot.
    """
    if not 1 <= each <= classes:
        raise ConfigError(f"classesPerClient: must be between 1 and the data's {classes} classes, is {each}")
    if clients * each < classes:
        need = -(-classes // clients)
        raise ConfigError(f"classesPerClient: {clients} clients cover {classes} classes only with {need} or more each")
    owners: list[list[int]] = [[] for _ in range(classes)]
    for client in range(clients):
        lots = [label for label in rng.permutation(classes).tolist() if client in kept.get(label, {client})]
        for chosen in sorted(lots, key=lambda label: (label not in kept, len(owners[label])))[:each]:
            owners[chosen].append(client)
    if not all(owners):
        raise ConfigError("partition.reserved: some class would have no holder; reserve fewer, or for other clients")
    return owners


def by_dirichlet(labels: NDArray[np.integer], clients: int, alpha: float, min_size: int, seed: int) -> list[Indices]:
    """Shares with label proportions drawn from Dirichlet(alpha), drawn again until each has `min_size` examples.

    Hsu et al. 2019, "Measuring the effects of non-identical data distribution"; the minimum as in Li et al. 2022.
    """
    if alpha <= 0:
        raise ConfigError(f"partition.alpha: must be above 0, is {alpha:g}")
    if clients * min_size > len(labels):
        raise ConfigError(f"partition.minSize: {clients} clients can't all have {min_size} of {len(labels)} examples")
    rng = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        shares = _draw_dirichlet(labels, clients, alpha, rng)
        if min(map(len, shares)) >= max(min_size, 1):
            return shares
    raise ConfigError(
        f"partition: no draw of {_DRAWS} with alpha {alpha:g} gave each of {clients} clients {min_size} examples;"
        " raise alpha or lower minSize"
    )


def _draw_dirichlet(labels: NDArray[np.integer], clients: int, alpha: float, rng: np.random.Generator) -> list[Indices]:
    shares: list[list[Indices]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        ends = np.cumsum(rng.dirichlet(np.full(clients, alpha)))[:-1]
        for share, piece in zip(shares, np.split(members, (ends * len(members)).astype(int)), strict=True):
            share.append(piece)
    return [np.sort(np.concatenate(share)) for share in shares]


def by_key(keys: Sequence[str], clients: int) -> list[Indices]:
    """Shares that never split a key (a writer, a role, a hospital): each key, largest first, goes where least is."""
    names, owners, counts = np.unique(np.asarray(keys), return_inverse=True, return_counts=True)
    if len(names) < clients:
        raise ConfigError(
            f"the data has {len(names)} natural holders, too few for {clients} clients: use fewer clients"
        )
    holder = np.empty(len(names), dtype=np.int64)
    load = np.zeros(clients, dtype=np.int64)
    for key in np.argsort(-counts, kind="stable"):
        holder[key] = load.argmin()
        load[holder[key]] += counts[key]
    return [np.flatnonzero(holder[owners] == client) for client in range(clients)]


def _checked(shares: list[Indices], what: str) -> list[Indices]:
    empty = sum(len(share) == 0 for share in shares)
    if empty:
        raise ConfigError(f"{what}: {empty} of {len(shares)} clients would hold no example; use fewer clients")
    return shares


def choose_partition(classes_per_client: int | None, partition: Partition | None) -> Partition:
    """The partition that a task's options ask for: `classesPerClient` is short for the one by labels.

    Raises:
        ConfigError: both are given.
    """
    if classes_per_client is None:
        return partition or Evenly()
    if partition is not None:
        raise ConfigError("spec.task.config: classesPerClient is short for a partition by labels; give one of the two")
    return ByLabels(classes_per_client=classes_per_client)
