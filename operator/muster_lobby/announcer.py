"""Writes `status.lobby` of External pools, where it says something else than what is so.

Compared with the object as it was heard of, so a write that was lost is made up for, and a status that somebody
restored is put right. For a while after the start nothing is written: the workers come back first.
"""

from __future__ import annotations

import asyncio
import logging

from muster_lobby.attendance import Attendance
from muster_lobby.offers import Pool
from muster_lobby.world import World
from muster_operator.api import Api
from muster_operator.errors import ApiError
from muster_operator.objects import RESOURCES, contains, dig

log = logging.getLogger("muster.lobby")

MANAGER = "muster-lobby"
EVERY_S = 1.0
QUIET_S = 10.0


class Announcer:
    """Belongs to the server's loop."""

    def __init__(
        self, api: Api, world: World, attendance: Attendance, quiet_s: float = QUIET_S, every_s: float = EVERY_S
    ) -> None:
        self._api = api
        self._world = world
        self._attendance = attendance
        self._quiet_s = quiet_s
        self._every_s = every_s
        self._written: dict[str, str] = {}  # by pool: the version of the object that was written over

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.sleep(self._quiet_s)
        while True:
            for pool in self._world.pools():
                await self._say(pool)
            await asyncio.sleep(self._every_s)

    async def _say(self, pool: Pool) -> None:
        seen = self._world.object_of(pool)
        if seen is None:
            return
        shown = self._attendance.shown(pool.uid, self._world.jobs_of(pool))
        before = dig(seen, "status", "lobby") or {}
        version = str(dig(seen, "metadata", "resourceVersion"))
        if (contains(before, shown) and contains(shown, before)) or self._written.get(pool.uid) == version:
            return  # or it will be heard of
        body = {
            "apiVersion": RESOURCES["ClientPool"].api_version,
            "kind": "ClientPool",
            "metadata": {"name": pool.name, "namespace": pool.namespace, "uid": pool.uid},
            "status": {"lobby": shown},
        }
        try:
            await self._api.apply(body, "status", MANAGER)
            self._written[pool.uid] = version
        except ApiError as error:
            log.info("the status of pool %s/%s isn't written: %s", pool.namespace, pool.name, error)
