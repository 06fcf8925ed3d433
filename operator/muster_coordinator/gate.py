"""Keeps transfers within `coordinator.memoryBudget`: who finds no room is told to wait, or waits here.

An upload that finds no room gets a Wait and is offered again later; a download waits for its turn on this side, for its
client has nothing better to do. Lives on the server's loop. Without a budget everybody is let through at once: frames
are sized so that all clients' together are bounded anyway (limits.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from muster_coordinator.budget import Demand, problem_with_budget, room
from muster_wire.layout import Layout

WAIT_MS: Final = 500


@dataclass(frozen=True, slots=True)
class Limit:
    """A budget in bytes, and what the job needs of it."""

    budget: int
    demand: Demand


class Gate:
    """Counts what transfers hold. `warn` hears of the first client that had to wait."""

    def __init__(self, limit: Limit | None, layout: Callable[[], Layout | None], warn: Callable[[str], None]) -> None:
        self._limit = limit
        self._layout = layout
        self._warn = warn
        self._held = 0
        self._has_warned = False
        self._freed = asyncio.Event()

    def problem(self, layout: Layout) -> str | None:
        """Why a model of this layout can't be trained within the budget."""
        return problem_with_budget(self._limit.budget, self._limit.demand, layout) if self._limit else None

    @contextmanager
    def upload(self, size: int) -> Iterator[bool]:
        """Whether there is room for an upload of this size, for as long as the context lasts."""
        taken = self._take(size)
        try:
            yield taken is not None
        finally:
            self._give_back(taken)

    @asynccontextmanager
    async def download(self, size: int) -> AsyncIterator[None]:
        """Room for a download, once it is there."""
        while (taken := self._take(size)) is None:
            self._freed.clear()
            await self._freed.wait()
        try:
            yield
        finally:
            self._give_back(taken)

    def _take(self, size: int) -> int | None:
        """Bytes that are held from now on; None for no room. Somebody alone is always let through."""
        if self._limit is None:
            return 0
        wanted = self._limit.demand.for_transfer(size)
        left = room(self._limit.budget, self._limit.demand, self._layout()) - self._held
        if wanted > left and self._held:
            self._tell(self._limit)
            return None
        self._held += wanted
        return wanted

    def _give_back(self, taken: int | None) -> None:
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
