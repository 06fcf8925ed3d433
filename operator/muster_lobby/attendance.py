"""Who is in the lobby, and what each has said. An idle worker costs a small value and one waiting coroutine.

Everything here runs on the server's loop, and is gone with the process: workers come back and say it again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from muster_lobby.offers import Offer

MAX_WORKERS = 1024
"""Of one pool: a stolen credential can't fill our memory."""
MAX_REFUSALS = 64
SHOWN = 16


@dataclass(frozen=True, slots=True)
class Refusal:
    """A job (its uid) that a site takes no part in: a word for machines, a line for people."""

    job: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Standing:
    """What a worker does: the uid of its job, empty while it waits; and what its site refuses."""

    job: str = ""
    refusals: tuple[Refusal, ...] = ()


class TooManyError(Exception):
    """The pool has as many workers here as it may have."""


@dataclass(eq=False)
class Seat:
    """One worker's stream."""

    pool: str
    worker: str
    standing: Standing
    news: asyncio.Event = field(default_factory=asyncio.Event)
    is_taken: bool = False  # by a newer stream of the same worker
    offered: tuple[Offer, ...] | None = None  # what was sent last


class Attendance:
    """Seats by pool (its uid) and worker."""

    def __init__(self) -> None:
        self._seats: dict[str, dict[str, Seat]] = {}

    def sit(self, pool: str, worker: str, standing: Standing) -> Seat:
        """A new stream takes the place of one that may be dead without anybody having noticed. Raises TooManyError."""
        seats = self._seats.setdefault(pool, {})
        if len(seats) >= MAX_WORKERS and worker not in seats:
            raise TooManyError
        old = seats.get(worker)
        if old is not None:
            old.is_taken = True
            old.news.set()
        seats[worker] = seat = Seat(pool, worker, standing)
        seat.news.set()
        return seat

    def leave(self, seat: Seat) -> None:
        """Its stream has ended."""
        seats = self._seats.get(seat.pool, {})
        if seats.get(seat.worker) is seat:
            del seats[seat.worker]
        if not seats:
            self._seats.pop(seat.pool, None)

    def find(self, pool: str, worker: str) -> Seat | None:
        return self._seats.get(pool, {}).get(worker)

    def of(self, pool: str) -> Iterable[Seat]:
        return list(self._seats.get(pool, {}).values())

    def wake(self, pool: str) -> None:
        """There may be news for this pool's workers."""
        for seat in self.of(pool):
            seat.news.set()

    def totals(self) -> dict[str, int]:
        """How many wait, and how many work, over all pools."""
        working = sum(bool(seat.standing.job) for seats in self._seats.values() for seat in seats.values())
        return {"working": working, "waiting": sum(map(len, self._seats.values())) - working}

    def shown(self, pool: str, names: Mapping[str, str]) -> dict[str, Any]:
        """What the pool's `status.lobby` should say. `names` are those of the jobs that there are, by uid."""
        standings = [seat.standing for seat in self.of(pool)]
        working = sum(bool(standing.job) for standing in standings)
        return {
            "workers": len(standings),
            "waiting": len(standings) - working,
            "working": working,
            "refusals": _refusals(standings, names),
        }


def _refusals(standings: Iterable[Standing], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each job and reason once, with how many workers say it and one of their sentences."""
    found = [refusal for standing in standings for refusal in standing.refusals if refusal.job in names]
    counts = Counter((refusal.job, refusal.reason) for refusal in found)
    words = {(one.job, one.reason): one.message for one in sorted(found, key=lambda one: one.message)}
    shown = sorted(counts, key=lambda each: (names[each[0]], each))[:SHOWN]
    return [
        {"job": names[job], "uid": job, "reason": reason, "workers": counts[job, reason], "message": words[job, reason]}
        for job, reason in shown
    ]
