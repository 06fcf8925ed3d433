"""One pass over one job or pool: observe → plan → apply, and when to look again."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Protocol

from muster_operator.api import Api
from muster_operator.apply import apply_actions, write_status
from muster_operator.errors import NotFound
from muster_operator.objects import is_going
from muster_operator.observed import Observed
from muster_operator.plan import plan
from muster_operator.poolplan import plan_pool
from muster_operator.pools import Lobby, PoolSeen, pool_transitions
from muster_operator.refusals import with_refusals
from muster_operator.settings import Install
from muster_operator.status import transitions, with_refused, with_taken

log = logging.getLogger("muster.operator")

REFUSED_AGAIN_S = 30.0
STALE_AGAIN_S = 5.0


class World(Protocol):
    """Where jobs are looked up."""

    def observe(self, namespace: str, name: str) -> Observed | None:
        """The job as it is now, with its parts; None if there is none."""

    def observe_pool(self, namespace: str, name: str) -> PoolSeen | None:
        """The pool and the jobs that name it; None if there is none."""


class Reconciler:
    """Does passes. Holds nothing between them."""

    def __init__(
        self,
        api: Api,
        world: World,
        install: Install,
        now: Callable[[], float],
        lobby: Callable[[], Lobby | None] = lambda: None,
    ) -> None:
        self._api = api
        self._world = world
        self._install = install
        self._now = now
        self._lobby = lobby

    async def reconcile(self, namespace: str, name: str) -> float | None:
        """Seconds until the next look, None if nothing is to happen by itself. Raises ApiError: try again."""
        seen = self._world.observe(namespace, name)
        if seen is None:
            return None
        seen = await with_refusals(self._api, seen)
        if seen.code_source and not is_going(seen.job):
            seen = dataclasses.replace(seen, code=await self._read_code(namespace, seen.code_source))
        now = self._now()
        planned = plan(seen, self._install, now)
        outcome = await apply_actions(self._api, namespace, planned.actions)
        was_stale = outcome.was_stale
        if planned.status is not None:
            status = with_taken(with_refused(planned.status, outcome.refused), outcome.taken)
            news = transitions(seen.job.get("status") or {}, status)
            was_stale |= not await write_status(self._api, seen.job, status, news)
        return _next_look(planned.wake_at, now, was_stale=was_stale, was_refused=bool(outcome.refused or outcome.taken))

    async def reconcile_pool(self, namespace: str, name: str) -> float | None:
        """The same for a pool."""
        seen = self._world.observe_pool(namespace, name)
        if seen is None:
            return None
        now = self._now()
        planned = plan_pool(seen, self._lobby(), now)
        outcome = await apply_actions(self._api, namespace, planned.actions)
        was_stale = outcome.was_stale
        if planned.status is not None:
            status = with_taken(with_refused(planned.status, outcome.refused), outcome.taken, "pool")
            was_stale |= not await write_status(self._api, seen.pool, status, pool_transitions(seen, status))
        return _next_look(planned.wake_at, now, was_stale=was_stale, was_refused=bool(outcome.refused or outcome.taken))

    async def _read_code(self, namespace: str, name: str) -> dict[str, str] | None:
        """A config map of the user's. It has no label of ours, so no watch shows it."""
        try:
            found = await self._api.get("ConfigMap", namespace, name)
        except NotFound:
            return None
        return found.get("data") or {}


def _next_look(wake_at: float | None, now: float, *, was_stale: bool, was_refused: bool) -> float | None:
    """What was refused may be let pass later. What we hadn't seen, a watch will tell; should it not, we look."""
    waits = [max(0.0, wake_at - now)] if wake_at is not None else []
    waits += [REFUSED_AGAIN_S] * was_refused + [STALE_AGAIN_S] * was_stale
    return min(waits) if waits else None
