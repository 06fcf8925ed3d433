"""How much memory transfers may take, and how it is given back."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

from muster_coordinator.staging import MEMORY_BYTES

# A frame on its way is held twice over, by grpc and the socket, for each client that is sending. So the more clients,
# the smaller a frame, and together they hold the same; but the smaller a frame, the more a byte costs to handle.
_FRAMES_TOGETHER: Final = 2**23
_SMALLEST, _LARGEST = 2**16, 2**20

_SPOOLS_TOGETHER: Final = 2**23  # what uploads that wait for the end of their round hold in memory before their files

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # <malloc.h>
# Frames come from a heap that is used again and again, since fresh pages cost more than what is copied into them.
# Models don't: their memory goes back as soon as they are gone.
_LARGE: Final = 2**22


def frame_bytes(clients: int) -> int:
    """Of a frame's data at most, in a job of so many clients; a power of two."""
    share = _FRAMES_TOGETHER // max(clients, 1)
    power_of_two: int = 1 << max(share.bit_length() - 1, 0)
    return min(max(power_of_two, _SMALLEST), _LARGEST)


def spool_bytes(clients: int) -> int:
    """Of each upload, what stays in memory; the rest, and all of a longer one, lies in a file."""
    return min(_SPOOLS_TOGETHER // max(clients, 1), MEMORY_BYTES)


def keep_memory_small() -> None:
    """Have glibc give freed frames and models back to the system at once; call it before there are threads.

    By default it raises its threshold for large blocks with each one that is freed, and keeps one heap for each thread:
    then frames of all sizes of clients stay with the process for good. Other C libraries have no such habit.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for parameter, value in ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, _LARGE)):
            library.mallopt(parameter, value)
