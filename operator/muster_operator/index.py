"""Watched objects, found by what they are looked up by; and when enough is known to begin.

Not kopf's own indexes: while those are filled, each object waits for all others, which costs the square of the number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from muster_operator.queue import JobKey

T = TypeVar("T")


class Index(Generic[T]):
    """Values by key; each belongs to an object, and goes with it. Of two objects with one key both are kept."""

    def __init__(self) -> None:
        self._values: dict[JobKey, dict[str, T]] = {}
        self._keys: dict[str, tuple[JobKey, ...]] = {}

    def put(self, uid: str, values: Mapping[JobKey, T]) -> None:
        """All that this object has here from now on; nothing of one that is gone."""
        for key in self._keys.pop(uid, ()):
            self._values[key].pop(uid)
            if not self._values[key]:
                del self._values[key]
        for key, value in values.items():
            self._values.setdefault(key, {})[uid] = value
        if values:
            self._keys[uid] = tuple(values)

    def get(self, key: JobKey) -> list[T]:
        return list(self._values.get(key, {}).values())

    def __iter__(self) -> Iterator[JobKey]:
        return iter(list(self._values))


class Beginning:
    """Whether all that there was at the beginning is known: `is_over` is set then. `paths` are what is listed."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.is_over = asyncio.Event()
        self._unlisted = set(paths)
        self._untold: set[str] = set()
        self._told: set[str] = set()

    def listed(self, path: str, uids: Iterable[str], *, is_last: bool) -> None:
        """A page of a list has come; each object of it will be told of."""
        if self.is_over.is_set():
            return
        self._untold |= set(uids) - self._told
        if is_last:
            self._unlisted.discard(path)
        self._check()

    def told(self, uid: str) -> None:
        """An object is known, or known to be gone."""
        if not self.is_over.is_set():
            self._told.add(uid)
            self._untold.discard(uid)
            self._check()

    def _check(self) -> None:
        if not self._unlisted and not self._untold:
            self._told.clear()
            self.is_over.set()
