"""What glibc's malloc does with freed frames and models. Other C libraries have no such knobs, and need none.

A message of a megabyte is allocated three or four times on its way through grpc. Fresh pages for each, which the kernel
has to clear, cost more than all that is copied into them; so memory of that size has to be used again.
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # <malloc.h>

LARGEST_KEPT: Final = 2**25  # what glibc raises its threshold to by itself, at most


def keep_freed(below: int, spare: int, arenas: int | None = None) -> None:
    """Have blocks of `below` bytes come from a heap that keeps up to `spare` bytes free, and larger ones go at once.

    By default glibc moves both thresholds up with each large block that is freed, gives back the end of the heap until
    it has seen one, and has eight heaps for each core. Call it before there are threads.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, below)
        library.mallopt(_TRIM_THRESHOLD, spare)
        if arenas is not None:
            library.mallopt(_ARENA_MAX, arenas)
