"""The newest lines of the logs of workers that run where nobody can look: kept for the bridge of their pool to show.

What a worker says is hostile until it is here: lines are cut and lose what isn't printable, each session has a budget
of bytes that fills up with time, and of each pool no more than some hundred lines are kept. So a worker can't fill the
memory, flood what the bridge prints, or forge a line of somebody else. All calls come from the server's loop.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from muster_spec.clients import ClientId
from muster_spec.wording import counted

BYTES_A_SECOND = 4096
BURST_BYTES = 32 * 1024  # a traceback or two
LONGEST_LINE = 400  # characters
LINES_A_BEAT = 200
LINES_KEPT = 400  # of each pool
LINES_A_READING = 200
_CLIENTS_SHOWN = 4


@dataclass(slots=True)
class Budget:
    """What one session may still say, and how far it has been heard."""

    heard: int = 0  # lines of its tail
    bytes_left: float = BURST_BYTES
    filled_at: float | None = None

    def take(self, size: int, now: float) -> bool:
        """Whether there was room for so many bytes."""
        since_s = now - self.filled_at if self.filled_at is not None else 0.0
        self.filled_at = now
        self.bytes_left = min(self.bytes_left + since_s * BYTES_A_SECOND, BURST_BYTES)
        if size > self.bytes_left:
            return False
        self.bytes_left -= size
        return True


@dataclass(frozen=True, slots=True)
class Tail:
    """New lines of a worker's log, as it says: how many came before these, and how many it had to leave out."""

    first: int
    left_out: int
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Line:
    """A line that may be shown, and whose it is."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Reading:
    """Some lines, and up to where they go in the log of this name."""

    log: str
    read: int
    lines: tuple[Line, ...]


class LogTails:
    """Those of the pools that somebody reads them of."""

    def __init__(self, pools: Iterable[str]) -> None:
        self._name = secrets.token_hex(8)  # another coordinator counts anew
        self._lines: dict[str, deque[Line]] = {pool: deque(maxlen=LINES_KEPT) for pool in pools}
        self._counts = dict.fromkeys(self._lines, 0)

    def bytes_wanted(self, pool: str) -> int:
        """How many bytes of its log a worker of the pool may send a second; 0: none are read."""
        return BYTES_A_SECOND if pool in self._lines else 0

    def add(self, clients: Sequence[ClientId], budget: Budget, tail: Tail, now: float) -> None:
        """Keep what is new of it, for a worker that acts for these clients."""
        pool, source = clients[0].rpartition("/")[0], _source(clients)
        if pool not in self._lines:
            return
        lines = [*tail.lines[:LINES_A_BEAT]]
        new = lines[max(budget.heard - tail.first, 0) :] if tail.first <= budget.heard else lines
        budget.heard = max(budget.heard, min(tail.first, 2**62) + len(lines))
        left_out = (tail.left_out if new else 0) + max(len(tail.lines) - LINES_A_BEAT, 0)
        for text in map(clean, new):
            if budget.take(len(text.encode()) + 1, now):
                self._append(pool, Line(source, text))
            else:
                left_out += 1
        if left_out:
            self._append(pool, Line(source, f"… {counted(min(left_out, 10**9), 'line')} left out"))

    def _append(self, pool: str, line: Line) -> None:
        self._lines[pool].append(line)
        self._counts[pool] += 1

    def read(self, pool: str, log: str, read: int) -> Reading:
        """What came after so many lines of the log of that name; from the beginning, where that is another's."""
        lines, count = self._lines.get(pool, deque()), self._counts.get(pool, 0)
        oldest = count - len(lines)
        start = min(max(read if log == self._name else 0, oldest), count)
        end = min(start + LINES_A_READING, count)
        return Reading(self._name, end, tuple(lines[place - oldest] for place in range(start, end)))


def clean(text: str) -> str:
    """A line fit to be shown: no control characters, nothing that turns a terminal or the direction of writing."""
    shown = text[:LONGEST_LINE].expandtabs(4)[:LONGEST_LINE]
    return "".join(character for character in shown if character.isprintable())


def _source(clients: Sequence[ClientId]) -> str:
    """``hpc/0,4,8``: whose worker it is."""
    pool = clients[0].rpartition("/")[0]
    indices = [client.rpartition("/")[2] for client in clients]
    more = ",…" if len(indices) > _CLIENTS_SHOWN else ""
    return f"{pool}/{','.join(indices[:_CLIENTS_SHOWN])}{more}"
