"""Sparse: of all values only those that are not zero, each with its place. What top-k chose, on the wire.

Who chose them, and by which rule, is `muster_wire.selection`'s affair: a reader only has to know where they go. Places
are indices into the flat buffer, so they need no tensor boundaries.

Encoding: the number of entries, u64; then groups of 16,384 entries and a last one of the rest, each with a header (low
bits of a gap, u8; zero, u8; bytes of unary codes, u16; bytes of values, u32), the unary codes and low bits of the gaps
(`rice`), and the values in the inner codec. A gap is how many values lie between an entry and the one before it, across
groups, so places rise by construction; the last one of a group must lie inside the buffer before any is used.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from muster_wire.codecs import rice
from muster_wire.codecs.base import Codec, Random, Sizes, blocks
from muster_wire.codecs.reader import Reader
from muster_wire.errors import Cause, PayloadError
from muster_wire.values import Floats

GROUP: Final = 16_384

_ENTRIES: Final = struct.Struct("<Q")
_HEADER: Final = struct.Struct("<BBHI")
_UNARY_BITS: Final = 3  # of an entry, at most: rice.best_bits sees to it


class Sparse(Codec):
    """Another codec for the values that aren't zero, and their places."""

    def __init__(self, inner: Codec) -> None:
        self.inner = inner

    def sizes(self, count: int) -> Sizes:
        """An entry's place takes at most log2(count / entries) + 3 bits, so all of them at most 3 for each value."""
        groups = -(-count // GROUP)
        most = groups * (_HEADER.size + 2 + self.inner.sizes(GROUP).most) + -(-_UNARY_BITS * count // 8)
        return Sizes(_ENTRIES.size, _ENTRIES.size + most)

    def encode(self, values: Floats, rng: Random) -> memoryview:
        places = np.flatnonzero(values)
        encoded = bytearray(_ENTRIES.pack(places.size))
        previous = -1
        for group in blocks(places.size, GROUP):
            gaps = np.diff(places[group], prepend=previous).astype(np.int64) - 1
            previous = int(places[group.stop - 1])
            bits = rice.best_bits(gaps)
            unary, low = rice.write(gaps, bits)
            numbers = self.inner.encode(values[places[group]], rng)
            encoded += _HEADER.pack(bits, 0, len(unary), len(numbers))
            encoded += unary + low
            encoded += numbers
        return memoryview(encoded)

    def check(self, encoded: memoryview, count: int) -> float:
        squares = 0.0
        for places, numbers in self._groups(encoded, count):
            squares += self.inner.check(numbers, places.size)
        return squares

    def decode_into(self, encoded: memoryview, values: Floats) -> None:
        values.fill(0)
        scratch = np.empty(min(GROUP, values.size), np.float32)
        for places, numbers in self._groups(encoded, values.size):
            self.inner.decode_into(numbers, scratch[: places.size])
            values[places] = scratch[: places.size]

    def accumulate(self, encoded: memoryview, total: Floats, weight: float) -> None:
        scratch = np.empty(min(GROUP, total.size), np.float32)
        for places, numbers in self._groups(encoded, total.size):
            scaled = scratch[: places.size]
            self.inner.decode_into(numbers, scaled)
            scaled *= np.float32(weight)
            total[places] += scaled

    def _groups(self, encoded: memoryview, count: int) -> Iterator[tuple[NDArray[np.int64], memoryview]]:
        """Places, which rise and lie inside the buffer, and the inner codec's bytes."""
        reader = Reader(encoded)
        (entries,) = _ENTRIES.unpack(reader.take(_ENTRIES.size))
        if entries > count:
            raise PayloadError(Cause.MALFORMED, f"{entries} entries are more than the {count} values there are")
        previous = -1
        for group in blocks(entries, GROUP):
            places, numbers = self._group(reader, group.stop - group.start)
            np.cumsum(places, out=places)
            places += previous + 1
            places += np.arange(places.size)
            previous = int(places[-1])
            if previous >= count:
                raise PayloadError(Cause.MALFORMED, f"an entry's place is {previous}, and there are {count} values")
            yield places, numbers
        reader.finish()

    def _group(self, reader: Reader, size: int) -> tuple[rice.Gaps, memoryview]:
        bits, zero, unary, numbers = _HEADER.unpack(reader.take(_HEADER.size))
        limits = self.inner.sizes(size)
        if zero or bits > rice.MAX_BITS or 8 * unary > _UNARY_BITS * size + 7:
            raise PayloadError(Cause.MALFORMED, f"{size} entries can't have {bits} low bits and {unary} unary bytes")
        if not limits.least <= numbers <= limits.most:
            raise PayloadError(
                Cause.MALFORMED, f"{size} entries take {limits.least} to {limits.most} bytes, not {numbers}"
            )
        gaps = rice.read(reader.take(unary), reader.take(rice.low_size(size, bits)), size, bits)
        return gaps, reader.take(numbers)
