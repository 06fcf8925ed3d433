"""Every value rounded to half precision: two bytes each, little-endian.

Good for updates, which are small numbers around zero. Values beyond 65504 are refused, not clipped: an update that
large has diverged, and a silent infinity or a silent limit would hide it. Values below 3e-8 become zero.

numpy widens halves one at a time, and slowest where they are subnormal, as small updates are. Summing and checking
widen whole blocks with integer arithmetic instead: the fifteen bits of exponent and mantissa, moved to where float32
has them, are the value times 2⁻¹¹², and multiplying by 2¹¹² is exact.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from muster_wire.codecs.base import BLOCK, NOT_FINITE, CodecId, FixedCodec, Part, Random, blocks, sum_of_squares
from muster_wire.errors import Cause, PayloadError
from muster_wire.values import Floats

_WIRE: Final = np.dtype("<f2")
_BITS: Final = np.dtype("<i2")
_KEPT: Final = np.int32(-0x70002000)  # 0x8fffe000: the sign, and what was moved; not the sign's copies between them
_MAGNITUDE: Final = np.int16(0x7FFF)
_LARGEST: Final = 0x7BFF  # bits of 65504; above it are the infinities and NaNs
_SCALE: Final = np.float32(2.0**112)


class Float16(FixedCodec):
    """IEEE 754 binary16, rounded to nearest even."""

    id = CodecId.FLOAT16

    def encoded_size(self, count: int) -> int:
        return 2 * count

    def parts(self, count: int) -> tuple[Part, ...]:
        return (Part(2 * count, 2),)

    def encode_into(self, values: Floats, encoded: memoryview, rng: Random) -> None:  # noqa: ARG002 -- others round at random
        halves = np.frombuffer(encoded, _WIRE)
        for block in blocks(values.size):
            with np.errstate(over="ignore"):
                halves[block] = values[block]
            if not np.isfinite(halves[block]).all():
                raise PayloadError(
                    Cause.NOT_FINITE,
                    f"a value of {np.abs(values[block]).max():g} can't be said in float16, which ends at 65504: "
                    "the training diverged, or this model needs float32",
                )

    def check(self, encoded: memoryview, count: int) -> float:  # noqa: ARG002 -- the length says it too
        bits = np.frombuffer(encoded, _BITS)
        widener, magnitudes = _Widener(bits.size), np.empty(min(bits.size, BLOCK), np.int16)
        squares = 0.0
        for block in blocks(bits.size):
            magnitude = np.bitwise_and(bits[block], _MAGNITUDE, out=magnitudes[: block.stop - block.start])
            if magnitude.max() > _LARGEST:
                raise PayloadError(Cause.NOT_FINITE, NOT_FINITE)
            squares += sum_of_squares(widener.widen(bits[block]))
        return squares

    def decode_into(self, encoded: memoryview, values: Floats) -> None:
        values[...] = np.frombuffer(encoded, _WIRE)

    def accumulate(self, encoded: memoryview, total: Floats, weight: float) -> None:
        bits = np.frombuffer(encoded, _BITS)
        factor, widener = np.float32(weight), _Widener(bits.size)
        for block in blocks(bits.size):
            values = widener.widen(bits[block])
            values *= factor
            total[block] += values


class _Widener:
    """Room for one block of finite halves on their way to float32."""

    def __init__(self, count: int) -> None:
        self._bits = np.empty(min(count, BLOCK), np.int32)

    def widen(self, halves: NDArray[np.int16]) -> Floats:
        bits = self._bits[: halves.size]
        bits[...] = halves
        np.left_shift(bits, 13, out=bits)
        np.bitwise_and(bits, _KEPT, out=bits)
        values = bits.view(np.float32)
        values *= _SCALE
        return values
