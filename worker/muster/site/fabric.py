"""How ranks reach one another: a few collective calls on plain buffers, over MPI, torch.distributed or threads.

Every rank makes the same calls in the same order. Nothing is pickled: what isn't numbers travels as bytes of JSON or
safetensors. A fabric waits by looking again and again, and looks at its `watch` meanwhile, which raises when a rank is
gone: no rank waits for ever for a dead one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from muster.errors import RankLostError

Array = NDArray[Any]
Doubles = NDArray[np.float64]
Integers = NDArray[np.int64]
Watch = Callable[[], None]

_EAGER_S: Final = 0.02  # others are there already: look without pause
_NAP_S: Final = (0.0002, 0.01)  # the first pause, and the longest
_NAMED_WITHIN_S: Final = 5.0


class Fabric(Protocol):
    """The ranks of one site, as each of them sees them."""

    watch: Watch

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def broadcast(self, buffer: Array) -> None:
        """Overwrite a contiguous buffer with that of rank 0."""

    def exchange(self, data: bytes) -> list[bytes]:
        """What every rank has to say, in their order."""

    def add(self, buffer: Doubles) -> None:
        """The sum over all ranks, at rank 0; the others' buffers may hold anything afterwards."""

    def maximise(self, buffer: Integers) -> None:
        """The same for the largest."""

    def leave(self) -> None:
        """The last call of all, by all ranks: it is over, and nobody is missing."""

    def abort(self, code: int) -> None:
        """End every rank that can still be reached, as far as the fabric can do that."""


def spread(fabric: Fabric, data: bytes = b"") -> bytes:
    """Bytes that rank 0 has, for all ranks."""
    size = np.array([len(data)], np.int64)
    fabric.broadcast(size)
    buffer = np.frombuffer(bytearray(data) if fabric.rank == 0 else bytearray(int(size[0])), np.uint8)
    if buffer.size:
        fabric.broadcast(buffer)
    return buffer.tobytes()


def wait_until(done: Callable[[], bool], watch: Watch) -> None:
    """Until something is done that only goes on while it is looked at, as MPI's transfers do."""
    began, nap_s = time.monotonic(), _NAP_S[0]
    while not done():
        watch()
        if time.monotonic() - began > _EAGER_S:
            time.sleep(nap_s)
            nap_s = min(nap_s * 1.5, _NAP_S[1])


def break_down(said: str, watch: Watch) -> NoReturn:
    """A transfer failed: `watch` raises who is gone, which it may learn moments later; else this is what was said."""
    until = time.monotonic() + _NAMED_WITHIN_S
    while time.monotonic() < until:
        watch()
        time.sleep(_NAP_S[1])
    raise RankLostError(said)


def unwatched() -> None:
    """The watch of who looks after nobody."""


class Threads:
    """The ranks of one process, each in a thread of its own, for trials without MPI."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._meetings: dict[int, list[Any]] = {}
        self._broken = False
        self.ranks = [_Thread(self, rank) for rank in range(size)]

    def meet(self, number: int, mine: Any, watch: Watch) -> list[Any]:
        """What all have brought to the meeting of this number, once all have; in the order of ranks."""
        with self._lock:
            brought = self._meetings.setdefault(number, [])
            brought.append(mine)
        wait_until(lambda: self._broken or len(brought) == len(self.ranks), watch)
        if self._broken:
            raise RankLostError("another rank of this process has broken off")
        with self._lock:
            self._meetings.pop(number, None)
        return [what for _, what in sorted(brought, key=lambda entry: entry[0])]

    def break_off(self) -> None:
        self._broken = True


class _Thread:
    """One rank of `Threads`."""

    def __init__(self, all_ranks: Threads, rank: int) -> None:
        self._all = all_ranks
        self._meetings = 0
        self.rank = rank
        self.watch: Watch = unwatched

    @property
    def size(self) -> int:
        return len(self._all.ranks)

    def broadcast(self, buffer: Array) -> None:
        found = self._meet(buffer.copy())[0]
        if self.rank:
            buffer[...] = found

    def exchange(self, data: bytes) -> list[bytes]:
        return self._meet(data)

    def add(self, buffer: Doubles) -> None:
        buffer[...] = np.sum(self._meet(buffer.copy()), axis=0)

    def maximise(self, buffer: Integers) -> None:
        buffer[...] = np.max(self._meet(buffer.copy()), axis=0)

    def leave(self) -> None:
        self._meet(None)

    def abort(self, code: int) -> None:  # noqa: ARG002 -- threads have no exit code
        self._all.break_off()

    def _meet(self, mine: Any) -> list[Any]:
        self._meetings += 1
        return self._all.meet(self._meetings, (self.rank, mine), self.watch)
