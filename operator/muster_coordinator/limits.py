"""How much memory transfers may take, and how it is given back."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

# One frame on its way is held some three times over, by grpc, protobuf and the socket, for each client that is sending.
# At this size 16 clients cost a few MB together, and each frame still takes longer to move than to handle.
FRAME_BYTES: Final = 2**18

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # <malloc.h>
_LARGE: Final = 2**17


def keep_memory_small() -> None:
    """Have glibc give freed frames and models back to the system at once; call it before there are threads.

    By default it raises its threshold for large blocks with each one that is freed, and keeps one heap for each thread:
    then frames of all sizes of clients stay with the process for good. Other C libraries have no such habit.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        for parameter, value in ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, _LARGE), (_M_TRIM_THRESHOLD, _LARGE)):
            library.mallopt(parameter, value)
