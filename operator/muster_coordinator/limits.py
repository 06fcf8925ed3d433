"""How much memory transfers may take, and how it is given back."""

from __future__ import annotations

from typing import Final

from muster_coordinator.staging import MEMORY_BYTES
from muster_wire.heap import keep_freed

# A frame on its way is held twice over, by grpc and the socket, for each client that is sending. So the more clients,
# the smaller a frame, and together they hold the same; but the smaller a frame, the more a byte costs to handle.
_FRAMES_TOGETHER: Final = 2**23
_SMALLEST, _LARGEST = 2**16, 2**20

_SMALL_TOGETHER: Final = 2**23  # what uploads that wait for the end of their round hold in memory before their files

# Frames come from a heap that is used again and again; models don't: their memory goes back as soon as they are gone.
_LARGE: Final = 2**22
_SPARE: Final = 2**25  # of the heap: as much as frames of all clients take at their height
_ARENAS: Final = 2  # one more for each thread would keep frames for good


def frame_bytes(clients: int) -> int:
    """Of a frame's data at most, in a job of so many clients; a power of two."""
    share = _FRAMES_TOGETHER // max(clients, 1)
    power_of_two: int = 1 << max(share.bit_length() - 1, 0)
    return min(max(power_of_two, _SMALLEST), _LARGEST)


def small_bytes(clients: int) -> int:
    """What is small in a job of so many clients: of each upload so much stays in memory, and the rest, and all of a
    longer one, lies in a file. Updates and models that are no larger travel in one message.
    """
    return min(_SMALL_TOGETHER // max(clients, 1), MEMORY_BYTES)


def keep_memory_small() -> None:
    """Have freed models go back to the system at once, and frames be used again; call it before there are threads."""
    keep_freed(_LARGE, _SPARE, _ARENAS)
