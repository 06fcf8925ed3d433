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

    def value(self, uid: str) -> T | None:
        """Something that an object has here."""
        return next((self._values[key][uid] for key in self._keys.get(uid, ())), None)

    def get(self, key: JobKey) -> list[T]:
        return list(self._values.get(key, {}).values())

    def __iter__(self) -> Iterator[JobKey]:
        return iter(list(self._values))


class Census:
    """Which objects of each kind there are. `paths` are what is listed, each with its kind and its namespace.

    `is_over` is set once every list has been read for the first time. A list that is read again, because its watch had
    to begin anew, tells by what it lacks who has gone meanwhile: no event says so.
    """

    def __init__(self, paths: Mapping[str, tuple[str, str | None]]) -> None:
        self.is_over = asyncio.Event()
        self._paths = dict(paths)
        self._unlisted = set(paths)
        self._known: dict[str, dict[str, str]] = {kind: {} for kind, _ in paths.values()}
        self._pages: dict[str, set[str]] = {}

    def heard(self, kind: str, uid: str, namespace: str, *, is_gone: bool = False) -> None:
        """An object is there, or gone."""
        if is_gone:
            self._known[kind].pop(uid, None)
        else:
            self._known[kind][uid] = namespace

    def listed(self, path: str, uids: Iterable[str], *, is_first: bool, is_last: bool) -> list[str]:
        """A page of a list; after the last one, those that are known and not in it."""
        kind, namespace = self._paths[path]
        listed = set() if is_first else self._pages.pop(path, set())
        listed |= set(uids)
        if not is_last:
            self._pages[path] = listed
            return []
        self._unlisted.discard(path)
        if not self._unlisted:
            self.is_over.set()
        known = self._known[kind]
        return [uid for uid, where in known.items() if namespace in {None, where} and uid not in listed]
