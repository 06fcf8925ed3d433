"""The end of this process's own log, for whoever can't look into its files: beats carry it to the coordinator.

Only what this process logs, and no more than the coordinator asks for: a worker that says more than that leaves lines
out, and says how many. Lines wait here until a beat has brought them, so that a call that broke loses none.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from muster_wire.v1 import federation_pb2 as wire

LINES_KEPT = 500  # while nobody fetches them
LINES_A_BEAT = 100
LONGEST_LINE = 1000  # characters; what is kept of one, whatever a library logs
BURST_S = 5.0  # of what may be said a second, how much may be said at once


class LogTail(logging.Handler):
    """A handler of the root's. `wanted` says how many bytes a second may go; before that is known, lines only wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        self._clock = clock
        self._kept: deque[str] = deque()
        self._first = 0  # lines that are gone: told, or left out
        self._left_out = 0
        self._guard = threading.Lock()
        self._bytes_a_second = 0
        self._room = 0.0
        self._filled_at = clock()

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            self.say(line)

    def say(self, line: str) -> None:
        """One more line, which nobody has logged."""
        with self._guard:
            self._kept.append(line[:LONGEST_LINE])
            if len(self._kept) > LINES_KEPT:
                self._kept.popleft()
                self._first += 1
                self._left_out += 1

    @property
    def is_wanted(self) -> bool:
        """Whether the coordinator has asked for it."""
        return self._bytes_a_second > 0

    def want(self, bytes_a_second: int) -> None:
        """What the coordinator asks for; 0: nothing."""
        self._bytes_a_second = bytes_a_second
        self._room = BURST_S * bytes_a_second

    def take(self) -> wire.LogTail | None:
        """What to tell now. It is told again until it is `told`; None where there is nothing."""
        if not self.is_wanted:
            return None
        with self._guard:
            now = self._clock()
            limit = BURST_S * self._bytes_a_second
            self._room = min(self._room + (now - self._filled_at) * self._bytes_a_second, limit)
            self._filled_at = now
            lines = self._that_fit(self._room)
            return wire.LogTail(first=self._first, left_out=self._left_out, lines=lines) if lines else None

    def _that_fit(self, room: float) -> list[str]:
        lines: list[str] = []
        for line in self._kept:
            room -= len(line.encode(errors="replace")) + 1
            if room < 0 or len(lines) == LINES_A_BEAT:
                break
            lines.append(line.encode(errors="replace").decode())
        return lines

    def told(self, tail: wire.LogTail) -> None:
        """These lines have come: they are gone from here."""
        with self._guard:
            done = max(tail.first + len(tail.lines) - self._first, 0)
            for _ in range(min(done, len(self._kept))):
                self._kept.popleft()
            self._first = max(self._first, tail.first + len(tail.lines))
            self._left_out = max(self._left_out - tail.left_out, 0)
            self._room -= sum(len(line.encode()) + 1 for line in tail.lines)
