"""What codecs share that encode a segment of values at a time, each segment on its own.

A segment has at most 65,536 values, and whole blocks of them where values share a scale. Segments lie end to end, so
the place of each follows from the count, and one of them fits the cache: it is read, widened, scaled and added in turn
while it is there. The lossless stage and top-k hand in segments too, from wherever theirs lie.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np

from muster_wire.codecs.base import FixedCodec, Random, blocks, sum_of_squares
from muster_wire.values import Floats


class Segmented(FixedCodec):
    """A codec made of three functions for one segment."""

    def encoded_size(self, count: int) -> int:
        whole, rest = divmod(count, self.step)
        return whole * self._size(self.step) + self._size(rest)

    def encode_into(self, values: Floats, encoded: memoryview, rng: Random) -> None:
        for piece, data in self._segments(encoded, values.size):
            self._encode(values[piece], data, rng)

    def check(self, encoded: memoryview, count: int) -> float:
        scratch = np.empty(min(count, self.step), np.float32)
        squares = 0.0
        for piece, data in self._segments(encoded, count):
            values = scratch[: piece.stop - piece.start]
            self._check(data, values.size)
            self._decode(data, values, np.float32(1))
            squares += sum_of_squares(values)
        return squares

    def decode_into(self, encoded: memoryview, values: Floats) -> None:
        for piece, data in self._segments(encoded, values.size):
            self._decode(data, values[piece], np.float32(1))

    def accumulate(self, encoded: memoryview, total: Floats, weight: float) -> None:
        factor = np.float32(weight)
        scratch = np.empty(min(total.size, self.step), np.float32)
        for piece, data in self._segments(encoded, total.size):
            values = scratch[: piece.stop - piece.start]
            self._decode(data, values, factor)
            total[piece] += values

    def _segments(self, encoded: memoryview, count: int) -> Iterator[tuple[slice, memoryview]]:
        whole = self._size(self.step)
        for index, piece in enumerate(blocks(count, self.step)):
            at = index * whole
            yield piece, encoded[at : at + (whole if piece.stop - piece.start == self.step else len(encoded))]

    def _size(self, count: int) -> int:
        return sum(part.length for part in self.parts(count))

    @abstractmethod
    def _encode(self, values: Floats, encoded: memoryview, rng: Random) -> None: ...

    @abstractmethod
    def _check(self, encoded: memoryview, count: int) -> None:
        """PayloadError for what decoding relies on: scales in their range, symbols that there are."""

    @abstractmethod
    def _decode(self, encoded: memoryview, values: Floats, factor: np.float32) -> None:
        """Overwrites `values` with factor · decoded."""
