"""Every value rounded to half precision: two bytes each, little-endian.

Good for updates, which are small numbers around zero. Values beyond 65504 are refused, not clipped: an update that
large has diverged, and a silent infinity or a silent limit would hide it. Values below 6e-8 become zero.
"""

from __future__ import annotations

import numpy as np

from muster_wire.codecs.base import BLOCK, Codec, CodecId, blocks, sum_of_squares
from muster_wire.errors import Cause, PayloadError
from muster_wire.values import Floats

_WIRE = np.dtype("<f2")


class Float16(Codec):
    """IEEE 754 binary16, rounded to nearest even."""

    id = CodecId.FLOAT16
    exact = False

    def encoded_size(self, count: int) -> int:
        return 2 * count

    def encode_into(self, values: Floats, encoded: memoryview) -> None:
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

    def check(self, encoded: memoryview) -> float:
        halves = np.frombuffer(encoded, _WIRE)
        scratch = _scratch(halves.size)
        squares = 0.0
        for block in blocks(halves.size):
            values = scratch[: block.stop - block.start]
            values[...] = halves[block]
            squares += sum_of_squares(values)
        return squares

    def decode_into(self, encoded: memoryview, values: Floats) -> None:
        values[...] = np.frombuffer(encoded, _WIRE)

    def accumulate(self, encoded: memoryview, total: Floats, weight: float) -> None:
        halves = np.frombuffer(encoded, _WIRE)
        factor = np.float32(weight)
        scratch = _scratch(halves.size)
        for block in blocks(halves.size):
            values = scratch[: block.stop - block.start]
            values[...] = halves[block]
            values *= factor
            total[block] += values


def _scratch(count: int) -> Floats:
    return np.empty(min(count, BLOCK), np.float32)
