"""Int8 and Int4: a scale for each block of values, and each value a small multiple of it.

Rounding is stochastic: x becomes floor(x / scale + u) with u uniform in [0, 1), which is x / scale in the mean. So the
average over clients and rounds has no bias, and no error feedback is needed (QSGD, Alistarh et al. 2017, section 3.1,
with the largest magnitude in place of the norm).

Segment: a bfloat16 scale for each block, then the symbols. A scale is max|x| / levels rounded *up*, so that no value
lies beyond the last level. Int4 packs two symbols a byte: the first half of a block lies in the low nibbles and the
second half in the high ones, so that both come out as whole runs.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muster_wire.codecs.base import BLOCK, NOT_FINITE, CodecId, Part, Random
from muster_wire.codecs.bfloat16 import BITS, widen
from muster_wire.codecs.segmented import Segmented
from muster_wire.errors import Cause, PayloadError
from muster_wire.values import Floats

Symbols = NDArray[np.int8]

MIN_BLOCK: Final = 16
MAX_BLOCK: Final = BLOCK

_MAX_SCALE: Final = 0x7B80  # bits of 2^120: no symbol can make it infinite
_SMALLEST: Final = np.float32(2.0**-100)  # blocks below are zero: their scale has no inverse worth having


class _Integers(Segmented):
    """Whole multiples of a block's scale, from -levels to levels."""

    levels: int

    def __init__(self, block: int = 256) -> None:
        self.block = block
        self.step = BLOCK // block * block

    def parts(self, count: int) -> tuple[Part, ...]:
        whole, rest = divmod(count, self.block)
        symbols = whole * self._bytes(self.block) + self._bytes(rest)
        return Part(2 * (whole + (rest > 0)), 2), Part(symbols, 1)

    def _encode(self, values: Floats, encoded: memoryview, rng: Random) -> None:
        rows = -(-values.size // self.block)
        work = np.zeros(rows * self.block, np.float32)
        work[: values.size] = values
        table = work.reshape(rows, self.block)
        scales, packed = self._split(encoded, values.size)
        scales[...] = _scales(table, self.levels)
        self._pack(self._round(table, scales, rng).ravel()[: values.size], packed)

    def _round(self, table: Floats, scales: NDArray[np.uint16], rng: Random) -> Symbols:
        """Overwrites the table."""
        inverse = np.zeros(scales.size, np.float32)
        widen(scales, inverse)
        np.divide(1, inverse, out=inverse, where=inverse > 0)
        table *= inverse[:, None]
        table += rng.random(table.shape, np.float32)
        np.floor(table, out=table)
        return np.clip(table, -self.levels, self.levels, out=table).astype(np.int8)

    def _check(self, encoded: memoryview, count: int) -> None:
        scales, packed = self._split(encoded, count)
        if scales.max(initial=0) > _MAX_SCALE:
            raise PayloadError(Cause.NOT_FINITE, "a scale is negative, NaN, or beyond 2^120")
        symbols = np.empty(count, np.int8)
        self._unpack(packed, symbols)
        if symbols.min(initial=0) < -self.levels:
            raise PayloadError(Cause.MALFORMED, f"a symbol lies outside -{self.levels} to {self.levels}")

    def _decode(self, encoded: memoryview, values: Floats, factor: np.float32) -> None:
        bits, packed = self._split(encoded, values.size)
        scales = np.empty(bits.size, np.float32)
        widen(bits, scales)
        scales *= factor
        self._unpack(packed, values)
        whole = values.size // self.block
        table = values[: whole * self.block].reshape(whole, self.block)
        np.multiply(table, scales[:whole, None], out=table)
        values[whole * self.block :] *= scales[whole:]

    def _split(self, encoded: memoryview, count: int) -> tuple[NDArray[np.uint16], Symbols]:
        end = 2 * -(-count // self.block)
        return np.frombuffer(encoded[:end], BITS), np.frombuffer(encoded[end:], np.int8)

    @abstractmethod
    def _bytes(self, count: int) -> int:
        """That the symbols of a block of `count` take."""

    @abstractmethod
    def _pack(self, symbols: Symbols, packed: Symbols) -> None: ...

    @abstractmethod
    def _unpack(self, packed: Symbols, values: NDArray[Any]) -> None: ...


class Int8(_Integers):
    """A byte a value: -127 to 127 times the block's scale."""

    id = CodecId.INT8
    levels = 127

    def _bytes(self, count: int) -> int:
        return count

    def _pack(self, symbols: Symbols, packed: Symbols) -> None:
        packed[...] = symbols

    def _unpack(self, packed: Symbols, values: NDArray[Any]) -> None:
        values[...] = packed


class Int4(_Integers):
    """Half a byte a value: -7 to 7 times the block's scale."""

    id = CodecId.INT4
    levels = 7

    def _bytes(self, count: int) -> int:
        return (count + 1) // 2

    def _pack(self, symbols: Symbols, packed: Symbols) -> None:
        for values, nibbles in self._runs(symbols, packed):
            half = nibbles.shape[1]
            np.bitwise_and(values[:, :half], 0x0F, out=nibbles)
            high = values[:, half:]
            nibbles[:, : high.shape[1]] |= high << 4

    def _unpack(self, packed: Symbols, values: NDArray[Any]) -> None:
        for table, nibbles in self._runs(values, packed):
            half = nibbles.shape[1]
            low = nibbles << 4
            np.right_shift(low, 4, out=low)
            table[:, :half] = low
            np.right_shift(nibbles, 4, out=low)
            table[:, half:] = low[:, : table.shape[1] - half]

    def _runs(self, values: NDArray[Any], packed: Symbols) -> tuple[tuple[NDArray[Any], Symbols], ...]:
        """The whole blocks and the last one that isn't, values beside their bytes, one block a row."""
        whole, rest = divmod(values.size, self.block)
        cut, half = whole * self.block, self._bytes(self.block)
        blocks = values[:cut].reshape(whole, self.block), packed[: whole * half].reshape(whole, half)
        tail = values[cut:].reshape(1, rest), packed[whole * half :].reshape(1, self._bytes(rest))
        return blocks, tail


def _scales(table: Floats, levels: int) -> NDArray[np.uint16]:
    """Of each row, max|x| / levels rounded up to bfloat16; zero for rows of almost nothing."""
    peaks = np.maximum(table.max(axis=1), -table.min(axis=1))
    if not np.isfinite(peaks).all():
        raise PayloadError(Cause.NOT_FINITE, NOT_FINITE)
    scales = (peaks / np.float32(levels)).astype(np.float32)
    scales[scales < _SMALLEST] = 0
    bits = (scales.view(np.uint32) + 0xFFFF) >> 16
    if bits.max(initial=0) > _MAX_SCALE:
        raise PayloadError(Cause.NOT_FINITE, f"a value of {peaks.max():g} is beyond this codec: the training diverged")
    rounded: NDArray[np.uint16] = bits.astype(BITS)
    return rounded
