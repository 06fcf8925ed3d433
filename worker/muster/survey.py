"""What this worker can do and how its line is, measured by itself, but for the first time while it has nothing to do.

On joining and every ten minutes, on a budget of about a second: a matrix product on the device that trains, what memory
is free there, how long a call takes there and back, and how fast some bytes go up and come down, as many as the
coordinator has them be. It is told to the coordinator, which goes by it while it knows nothing better of this worker's
clients; where nothing goes by it, the coordinator says so at once, and nothing is measured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import torch

from muster.errors import ConnectionBrokenError

AGAIN_S: Final = 600.0
COMPUTE_S: Final = 0.1
_SIDE: Final = 256  # of the matrices: as large as those of a small layer
_MOST_PRODUCTS: Final = 10_000
_CALLS: Final = 3  # there and back, of which the quickest counts
_LEAST: Final = 2**15  # bytes of a transfer
_MOST: Final = 2**19
_LONG_S: Final = 0.1  # a transfer that takes as long says enough
_NO_TIME_S: Final = 1e-6

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Profile:
    """What was found. Rates are of the bytes alone, without the call that they came with."""

    flops: float
    memory_bytes: int
    latency_s: float
    up_bytes_per_s: float
    down_bytes_per_s: float


class Line(Protocol):
    """What measuring needs of a connection."""

    @property
    def frame_bytes(self) -> int: ...

    def measure(self, payload: bytes = b"", wanted: int = 0, profile: Profile | None = None) -> int | None:
        """A call there and back; how many bytes a survey should take in all, each way. None where the coordinator
        can't, or won't now. Raises ConnectionBrokenError.
        """


class Survey:
    """One worker's. For the working thread, before its first work and whenever it has nothing else to do."""

    def __init__(self, line: Line, device: Callable[[], torch.device], clock: Clock = time.monotonic) -> None:
        self._line = line
        self._device = device
        self._clock = clock
        self._found: Profile | None = None
        self._again = clock()
        self._told = -1  # in which session

    @property
    def is_first(self) -> bool:
        """Whether nothing has been measured yet: who is always the last to hand in has nothing to do at no time."""
        return self._told < 0

    def is_due(self, session: int) -> bool:
        """Whether this session's coordinator has not been told, or it is time to look again."""
        return session != self._told or self._clock() >= self._again

    def run(self, session: int) -> None:
        """Measure, unless that was just done for an earlier session, and tell. What breaks is for the next session."""
        self._told = session
        try:
            if self._clock() >= self._again:
                self._again = self._clock() + AGAIN_S
                self._found = self._measure() or self._found
            if self._found is not None:
                self._line.measure(profile=self._found)
        except ConnectionBrokenError:
            pass

    def _measure(self) -> Profile | None:
        allowed = self._line.measure()  # which opens the way, too: a first call takes longer
        latency_s = self._latency_s() if allowed else None
        if allowed is None or latency_s is None:
            return None
        up = self._rate(lambda size: self._line.measure(bytes(size)), latency_s, allowed)
        down = self._rate(lambda size: self._line.measure(wanted=size), latency_s, allowed)
        if up is None or down is None:
            return None
        device = self._device()
        return Profile(flops_of(device, self._clock), free_bytes(device), latency_s, up, down)

    def _latency_s(self) -> float | None:
        """None where the coordinator doesn't want it now."""
        times = []
        for _ in range(_CALLS):
            began = self._clock()
            if self._line.measure() is None:
                return None
            times.append(self._clock() - began)
        return min(times)

    def _rate(self, carry: Callable[[int], int | None], latency_s: float, allowed: int) -> float | None:
        """Bytes a second; with more bytes, `allowed` in all, until they take long enough to say something. None where
        the coordinator would have none now.
        """
        most = min(_MOST, self._line.frame_bytes, allowed)
        size, rate = min(_LEAST, most), None
        while True:
            began = self._clock()
            if carry(size) is None:
                return rate
            took_s = max(self._clock() - began - latency_s, _NO_TIME_S)
            rate, allowed = size / took_s, allowed - size
            if took_s >= _LONG_S or size >= most or allowed < min(4 * size, most):
                return rate
            size = min(4 * size, most)


def flops_of(device: torch.device, clock: Clock = time.monotonic, budget_s: float = COMPUTE_S) -> float:
    """Float32 operations a second, of a product of matrices: what a layer mostly does."""
    left = torch.ones((_SIDE, _SIDE), device=device)
    _finish(left @ left)  # the first one loads kernels
    began, products = clock(), 0
    while products < _MOST_PRODUCTS and (not products or clock() - began < budget_s):
        _finish(left @ left)
        products += 1
    return 2.0 * _SIDE**3 * products / max(clock() - began, _NO_TIME_S)


def _finish(result: torch.Tensor) -> None:
    """A GPU is done once the answer is here."""
    result[0, 0].item()


def free_bytes(device: torch.device, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Of the device that trains; of the machine's memory what is there for a new process."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    available = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), "1")
    return int(available) * 1024
