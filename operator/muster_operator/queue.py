"""Which jobs to look at next, and when. Each is looked at by one worker at a time, and never forgotten.

What is added while a job is being looked at makes it due again afterwards; many additions are one look.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

JobKey: TypeAlias = tuple[str, str]
"""Namespace and name."""

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How much there is to do; `oldest_s` is how long the longest waiting job has been due."""

    due: int
    later: int
    busy: int
    oldest_s: float


@dataclass
class WorkQueue:
    """Belongs to one event loop. `now` is that of the loop, in seconds."""

    now: Callable[[], float]
    _due: dict[JobKey, float] = field(default_factory=dict)
    _heap: list[tuple[float, JobKey]] = field(default_factory=list)
    _busy: set[JobKey] = field(default_factory=set)
    _failures: dict[JobKey, int] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, key: JobKey, after_s: float = 0.0) -> None:
        """Look at it after that time, or earlier if that is planned already."""
        at = self.now() + after_s
        if at < self._due.get(key, float("inf")):
            self._due[key] = at
            heapq.heappush(self._heap, (at, key))
            self._changed.set()

    async def take(self) -> JobKey:
        """The next job that is due and that nobody works on."""
        while True:
            self._changed.clear()
            key, wait_s = self._next()
            if key is not None:
                self._busy.add(key)
                return key
            try:
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: JobKey, again_s: float | None) -> None:
        """It was looked at, and is due again after that time."""
        self._failures.pop(key, None)
        self._release(key)
        if again_s is not None:
            self.add(key, again_s)

    def failed(self, key: JobKey) -> float:
        """It couldn't be looked at; the seconds until it is tried again, longer each time."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        pause_s = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** min(count, 10))
        self._release(key)
        self.add(key, pause_s)
        return pause_s

    def standing(self) -> Standing:
        """For people who look on."""
        now = self.now()
        waits = [now - at for key, at in self._due.items() if at <= now and key not in self._busy]
        return Standing(len(waits), len(self._due) - len(waits), len(self._busy), max(waits, default=0.0))

    def _release(self, key: JobKey) -> None:
        self._busy.discard(key)
        if key in self._due:
            heapq.heappush(self._heap, (self._due[key], key))
        self._changed.set()

    def _next(self) -> tuple[JobKey | None, float | None]:
        """What is due now, else the seconds until something is. What is being worked on waits for its release."""
        while self._heap:
            at, key = self._heap[0]
            if self._due.get(key) != at or key in self._busy:
                heapq.heappop(self._heap)
            elif at > self.now():
                return None, at - self.now()
            else:
                heapq.heappop(self._heap)
                del self._due[key]
                return key, None
        return None, None
