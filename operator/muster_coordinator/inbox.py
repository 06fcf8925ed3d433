"""Between the server's loop and the driver's thread: events go in from anywhere, one thread takes them out in order."""

from __future__ import annotations

import queue
from collections.abc import Callable
from dataclasses import dataclass

from muster_coordinator.driver import Driver
from muster_coordinator.events import Event, Tick
from muster_coordinator.instructions import Finish
from muster_coordinator.ports import Clock


@dataclass(frozen=True, slots=True)
class Posted:
    """An event, and whom to tell once everything that follows from it is done."""

    event: Event
    done: Callable[[], None] | None = None


class Inbox:
    """A queue of events that any thread may post to."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Posted] = queue.SimpleQueue()

    def post(self, event: Event, done: Callable[[], None] | None = None) -> None:
        self._queue.put(Posted(event, done))

    def count(self) -> int:
        """How many wait."""
        return self._queue.qsize()

    def take(self, timeout_s: float | None) -> Posted | None:
        """The next event, or None when none came in time."""
        try:
            return self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None


def drive(driver: Driver, inbox: Inbox, clock: Clock) -> Finish:
    """Handle events, and the passing of time, until the job is over. Runs in the driver's own thread."""
    while driver.finish is None:
        left_s = None if driver.wake_at is None else max(driver.wake_at - clock.now(), 0.0)
        posted = inbox.take(left_s)
        if posted is not None:
            driver.handle(posted.event)
            if posted.done is not None:
                posted.done()
        elif driver.wake_at is not None and clock.now() >= driver.wake_at:
            driver.wake_at = None
            driver.handle(Tick())
    return driver.finish


def drain(inbox: Inbox) -> None:
    """After the end: nothing changes any more, but whoever still posts is not left waiting. Never returns."""
    while True:
        posted = inbox.take(None)
        if posted is not None and posted.done is not None:
            posted.done()
