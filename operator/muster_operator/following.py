"""Follows all objects of a kind: a list, then a watch from there, and a list again where the watch has lost its place.

For a process that has no use for kopf: it hears the whole first, and then each change. One that can't reach the API
server goes on trying; what it knows stays as it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from muster_operator.api import Api
from muster_operator.errors import ApiError, TryLater
from muster_operator.objects import RESOURCES, Object, dig
from muster_operator.watches import DEAD_S, LASTS_S

log = logging.getLogger("muster.lobby")

AGAIN_S = 1.0
LONGEST_AGAIN_S = 15.0
_FORGOTTEN = 410


class Listener(Protocol):
    """Hears of objects, each with its kind in it."""

    def all_of(self, kind: str, namespace: str | None, objects: list[Object]) -> None:
        """These are all there are."""

    def changed(self, kind: str, value: Object, *, is_gone: bool) -> None:
        """One is as it is now, or gone."""


class Follower:
    """Of one kind, in one namespace or in all. `is_known` is set once everything was heard for the first time."""

    def __init__(
        self, api: Api, kind: str, namespace: str | None, listener: Listener, now: Callable[[], float]
    ) -> None:
        self.is_known = asyncio.Event()
        self._api = api
        self._kind = kind
        self._namespace = namespace
        self._listener = listener
        self._now = now
        self._version = ""
        self._heard_at = now()

    async def run(self) -> None:
        """Until cancelled."""
        pause_s = AGAIN_S
        while True:
            try:
                await self._follow()
                pause_s = AGAIN_S
            except ApiError as error:
                if not isinstance(error, TryLater):
                    self._version = ""
                if error.status != _FORGOTTEN:
                    log.warning("%s can't be followed now: %s; again in %.0f s", self._kind, error, pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_AGAIN_S)

    async def _follow(self) -> None:
        """From where it was, for as long as one watch lasts."""
        if not self._version:
            objects, self._version = await self._api.listing(self._kind, self._namespace)
            self._listener.all_of(self._kind, self._namespace, list(objects))
            self.is_known.set()
        self._heard_at = self._now()
        async for event in self._api.watch(self._kind, self._namespace, self._version, LASTS_S):
            self._hear(event)
        self._heard_at = self._now()

    def _hear(self, event: Object) -> None:
        kind, value = event["type"], event["object"]
        self._version = str(dig(value, "metadata", "resourceVersion") or self._version)
        if kind != "BOOKMARK":
            whole = {"apiVersion": RESOURCES[self._kind].api_version, "kind": self._kind} | value
            self._listener.changed(self._kind, whole, is_gone=kind == "DELETED")

    def silence(self) -> str:
        """A sentence where nothing has been heard for too long; empty if it lives."""
        silent_s = self._now() - self._heard_at
        return f"no watch of {self._kind} for {silent_s:.0f} s" if silent_s > DEAD_S else ""
