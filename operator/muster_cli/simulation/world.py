"""Simulated time: what is to happen, in order, and nothing between. Knows of no coordinator and no client.

Time passes where the coordinator's own loop waits for it: `Deeds` is the inbox that `muster_coordinator.inbox.drive`
takes events from, and taking from it does what is next in this world instead.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from typing import TypeAlias

from muster_cli.errors import CommandError
from muster_coordinator.inbox import Inbox, Posted

Deed: TypeAlias = Callable[[], None]


class World:
    """A clock that jumps from deed to deed. Both of the coordinator's clocks are this one: seconds since the start."""

    def __init__(self) -> None:
        self._now = 0.0
        self._deeds: list[tuple[float, int, Deed]] = []
        self._order = itertools.count()  # deeds of one moment happen as they were asked for
        self.done = 0

    def now(self) -> float:
        return self._now

    def unix(self) -> float:
        return self._now

    def at(self, when: float, deed: Deed) -> None:
        """Do this then, or at once if that is past."""
        heapq.heappush(self._deeds, (max(when, self._now), next(self._order), deed))

    def after(self, seconds: float, deed: Deed) -> None:
        self.at(self._now + seconds, deed)

    def pass_on(self, until: float) -> None:
        """Do the next deed, or, if there is none before this time, let it become that late."""
        if self._deeds and self._deeds[0][0] <= until:
            self._now, _, deed = heapq.heappop(self._deeds)
            self.done += 1
            deed()
        elif math.isinf(until):
            raise CommandError("the simulation stands still: nobody has anything to do, and the job is not over")
        else:
            self._now = until


class Deeds(Inbox):
    """The inbox of a simulated coordinator. Whoever takes from it waits, and while it waits the world goes on."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def take(self, timeout_s: float | None) -> Posted | None:
        """One deed, if one is due in time. Its events the driver has heard by then, so there are none to hand over."""
        self._world.pass_on(math.inf if timeout_s is None else self._world.now() + timeout_s)
        return None
