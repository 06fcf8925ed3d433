"""Keeps transfers within `coordinator.memoryBudget`: who finds no room is told to wait, or waits here.

An upload that finds no room gets a Wait and is offered again later; a download waits for its turn on this side for a
while, and is then told to ask again. Whoever has room and makes no use of it makes way for those that wait: a transfer
that has moved nothing for some seconds, or that nobody wants any more, is ended, and goes on at its offset when it is
asked for again. Lives on the server's loop. Without a budget everybody is let through at once: frames are sized so that
all clients' together are bounded anyway (limits.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from muster_coordinator.budget import Demand, problem_with_budget, room
from muster_coordinator.errors import NoRoomError
from muster_coordinator.ports import Clock
from muster_wire.layout import Layout

log = logging.getLogger("muster.coordinator")

WAIT_MS: Final = 500
STALLED_S: Final = 10.0  # so long a transfer may move nothing while others wait
PATIENCE_S: Final = 20.0  # of a download that waits, before it is told so
LOOK_S: Final = 1.0  # between two looks at who makes no use of the room


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget in bytes, and what the job needs of it."""

    budget: int
    demand: Demand


class Transfer:
    """One that is under way. Whoever carries it says when something has moved; whoever ends it has NoRoomError raised
    there.
    """

    def __init__(self, clock: Clock, is_wanted: Callable[[], bool]) -> None:
        self.limit = asyncio.timeout(None)
        self._clock = clock
        self._is_wanted = is_wanted
        self._moved_at = clock.now()
        self._is_ended = False

    def moved(self) -> None:
        self._moved_at = self._clock.now()

    @property
    def is_idle(self) -> bool:
        """Whether it makes no use of its room. Of one that has been ended nothing more is wanted."""
        has_stood = self._clock.now() - self._moved_at >= STALLED_S
        return not self._is_ended and (has_stood or not self._is_wanted())

    def end(self) -> None:
        """Now, wherever it waits. Nothing happens to one that is over."""
        if not self._is_ended:
            self._is_ended = True
            self.limit.reschedule(0.0)

    @asynccontextmanager
    async def carried(self) -> AsyncIterator[None]:
        """Raises NoRoomError where it is ended."""
        try:
            async with self.limit:
                yield
        except TimeoutError as error:
            if self.limit.expired():
                raise NoRoomError("this transfer made way for others") from error
            raise
        finally:
            self._is_ended = True


class Gate:
    """Counts what transfers hold. `warn` hears of the first client that had to wait."""

    def __init__(
        self, limit: Limit | None, layout: Callable[[], Layout | None], warn: Callable[[str], None], clock: Clock
    ) -> None:
        self._limit = limit
        self._layout = layout
        self._warn = warn
        self._clock = clock
        self._held = 0
        self._under_way: set[Transfer] = set()
        self._has_warned = False
        self._freed = asyncio.Event()

    def problem(self, layout: Layout) -> str | None:
        """Why a model of this layout can't be trained within the budget."""
        return problem_with_budget(self._limit.budget, self._limit.demand, layout) if self._limit else None

    @asynccontextmanager
    async def at_once(self, size: int, is_wanted: Callable[[], bool] = lambda: True) -> AsyncIterator[Transfer | None]:
        """Room for a transfer of this size for as long as the context lasts; None where there isn't any. Raises
        NoRoomError where it has to make way for others.
        """
        taken = self._take(size)
        if taken is None:
            yield None
            return
        async with self._carrying(taken, is_wanted) as transfer:
            yield transfer

    @asynccontextmanager
    async def download(self, size: int) -> AsyncIterator[Transfer]:
        """The same, once there is room. NoRoomError, too, where it takes too long."""
        until = self._clock.now() + PATIENCE_S
        while (taken := self._take(size)) is None:
            if self._clock.now() >= until:
                raise NoRoomError("others have all the room that coordinator.memoryBudget leaves: ask again")
            self._freed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._freed.wait(), LOOK_S)
        async with self._carrying(taken, lambda: True) as transfer:
            yield transfer

    @asynccontextmanager
    async def _carrying(self, taken: int, is_wanted: Callable[[], bool]) -> AsyncIterator[Transfer]:
        transfer = Transfer(self._clock, is_wanted)
        self._under_way.add(transfer)
        try:
            async with transfer.carried():
                yield transfer
        finally:
            self._under_way.discard(transfer)
            self._give_back(taken)

    def _take(self, size: int) -> int | None:
        """Bytes that are held from now on; None for no room. Somebody alone is always let through."""
        if self._limit is None or not size:
            return 0
        wanted = self._limit.demand.for_transfer(size)
        left = room(self._limit.budget, self._limit.demand, self._layout()) - self._held
        if wanted > left and self._held:
            self._make_room()
            self._tell(self._limit)
            return None
        self._held += wanted
        return wanted

    def _make_room(self) -> None:
        """Soon, for whoever is there then."""
        for transfer in self._under_way:
            if transfer.is_idle:
                log.info("a transfer that has stood still, or that nobody wants any more, makes way for others")
                transfer.end()

    def _give_back(self, taken: int) -> None:
        if taken:
            self._held -= taken
            self._freed.set()

    def _tell(self, limit: Limit) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(
                f"coordinator.memoryBudget of {limit.budget / 2**20:.0f}Mi leaves no room for more transfers at once: "
                "clients wait for their turn, and rounds take longer; this is said once"
            )
