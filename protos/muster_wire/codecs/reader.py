"""Reading a stranger's bytes in order: no slice is shorter than asked for, and nothing is left over."""

from __future__ import annotations

from muster_wire.errors import Cause, PayloadError


class Reader:
    """A place in an encoding."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    def take(self, length: int) -> memoryview:
        """The next bytes; PayloadError if there aren't as many."""
        if length > len(self._data) - self._at:
            raise PayloadError(
                Cause.MALFORMED, f"{length} bytes are missing at {self._at} of an encoding of {len(self._data)}"
            )
        self._at += length
        return self._data[self._at - length : self._at]

    def finish(self) -> None:
        """PayloadError unless everything was read."""
        if self._at != len(self._data):
            raise PayloadError(Cause.MALFORMED, f"an encoding ends at {self._at} and has {len(self._data)} bytes")
