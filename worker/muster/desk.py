"""Where the communication threads and the working thread meet: the newest orders, the end, and what is going on now."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from muster.orders import Orders


@dataclass(frozen=True, slots=True)
class Ending:
    """Why this worker ends, and its exit code: 0 the job is over, 1 it was lost, 2 it was refused, 143 SIGTERM."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Activity:
    """What the worker is doing: shown to people, never acted on."""

    assignment: str
    name: str
    fraction: float = 0.0


class Desk:
    """Thread-safe, and safe to use from a signal handler: its lock may be taken again by the thread that holds it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._orders = Orders()
        self._session = 0
        self._is_stale = True
        self._ending: Ending | None = None
        self.activity: Activity | None = None

    def post(self, orders: Orders, session: int) -> None:
        """Newer orders have come, in this session (counted from 1)."""
        with self._changed:
            self._orders, self._session, self._is_stale = orders, session, False
            self._changed.notify_all()

    def expect(self) -> None:
        """A new session has begun: what is known may be out of date until its first orders come."""
        with self._changed:
            self._is_stale = True

    def end(self, ending: Ending) -> None:
        """Stop everything soon; the first ending counts."""
        with self._changed:
            self._ending = self._ending or ending
            self._changed.notify_all()

    @property
    def ending(self) -> Ending | None:
        return self._ending

    def read_current(self) -> tuple[Orders, int]:
        """The newest orders of the current session, and its number. Waits for them, unless it ends."""
        self._wait(lambda: not self._is_stale, None)
        return self._orders, self._session

    def is_unwanted(self, assignment: str) -> bool:
        """Whether to stop working on it: it was withdrawn, or the worker ends."""
        return self._ending is not None or not self._orders.wants(assignment)

    def wait_news(self, seen: Orders, timeout_s: float | None) -> None:
        """Until there are other orders than these, or an ending, or this much time has passed."""
        self._wait(lambda: self._orders is not seen, timeout_s)

    def wait_ending(self, timeout_s: float) -> bool:
        """Sleep, unless it ends; whether it has ended."""
        self._wait(lambda: False, timeout_s)
        return self._ending is not None

    def _wait(self, done: Callable[[], bool], timeout_s: float | None) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ending is not None or done(), timeout_s)
