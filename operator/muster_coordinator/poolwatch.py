"""Hears from the API server whether the External pools of this job are revoked: every few seconds, pool by pool.

Not from a file that a kubelet brings up to date within minutes, and not through the operator, which may be away: what
is revoked is to be turned away now. An API server that doesn't answer leaves what was known. A pool that is gone can't
be revoked by anybody any more, so it counts as revoked.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from muster_coordinator.errors import JobGone, NoAnswer
from muster_coordinator.external import ExternalPool, ExternalPools, Standing

log = logging.getLogger("muster.coordinator")

EVERY_S = 3.0


class PoolPort(Protocol):
    """ClientPools in the cluster."""

    def pool(self, name: str) -> Mapping[str, Any]:
        """The object. Raises NoAnswer, or JobGone where there is none."""


class PoolWatch:
    """Belongs to one event loop; the requests are made in threads of their own, one at a time."""

    def __init__(self, port: PoolPort, external: ExternalPools, every_s: float = EVERY_S) -> None:
        self._port = port
        self._external = external
        self._every_s = every_s
        self._complaint = ""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._every_s)

    async def look(self) -> None:
        """Ask once for each pool."""
        for pool in self._external.pools:
            try:
                seen = await asyncio.to_thread(self._port.pool, pool.name)
            except JobGone:
                seen = {}
            except NoAnswer as error:
                self._complain(f"whether External pools are revoked isn't known now: {error}")
                continue
            self._complaint = ""
            self._external.stand(pool.name, standing_of(pool, seen))

    def _complain(self, words: str) -> None:
        if words != self._complaint:
            log.warning("%s", words)
        self._complaint = words


def standing_of(pool: ExternalPool, seen: Mapping[str, Any]) -> Standing:
    """What the object says. One of the same name that was made since is another pool."""
    if _dig(seen, "metadata", "uid") != pool.realm:
        return Standing(is_revoked=True)
    since = _dig(seen, "status", "enrolment", "since")
    return Standing(bool(_dig(seen, "spec", "external", "revoked")), _unix(since))


def _dig(value: Any, *path: str) -> Any:
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _unix(text: object) -> float:
    try:
        return dt.datetime.fromisoformat(str(text)).timestamp() if text else 0.0
    except ValueError:
        return 0.0
