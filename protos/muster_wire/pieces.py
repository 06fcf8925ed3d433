"""A payload that lies in several places: a model's own buffers, with a few bytes of headers between them.

Sending copies every byte once into a frame, wherever it comes from; so what is in memory already, as it travels, needs
no copy to be cut into frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final


class Pieces:
    """Read-only bytes, end to end. They must not change any more."""

    def __init__(self, parts: Sequence[memoryview]) -> None:
        self._parts: Final = [part.toreadonly().cast("B") for part in parts if part.nbytes]
        self._ends: Final = list(accumulate(len(part) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __bytes__(self) -> bytes:
        return b"".join(self._parts)

    def cut(self, start: int, stop: int) -> Iterator[memoryview]:
        """The bytes from `start` to `stop`, or to the end."""
        for part, end in zip(self._parts, self._ends, strict=True):
            first = end - len(part)
            if first < stop and start < end:
                yield part[max(start - first, 0) : stop - first]
