"""Every value as it is: four bytes each, little-endian."""

from __future__ import annotations

import numpy as np

from muster_wire.codecs.base import BLOCK, CodecId, FixedCodec, Part, Random, blocks, sum_of_squares
from muster_wire.values import Floats

_WIRE = np.dtype("<f4")


class Float32(FixedCodec):
    """IEEE 754 binary32; exact."""

    id = CodecId.FLOAT32
    exact = True

    def encoded_size(self, count: int) -> int:
        return 4 * count

    def parts(self, count: int) -> tuple[Part, ...]:
        return (Part(4 * count, 4),)

    def encode_into(self, values: Floats, encoded: memoryview, rng: Random) -> None:  # noqa: ARG002 -- others round at random
        np.frombuffer(encoded, _WIRE)[...] = values

    def check(self, encoded: memoryview, count: int) -> float:  # noqa: ARG002 -- the length says it too
        values = np.frombuffer(encoded, _WIRE)
        return sum(sum_of_squares(values[block]) for block in blocks(values.size))

    def decode_into(self, encoded: memoryview, values: Floats) -> None:
        values[...] = np.frombuffer(encoded, _WIRE)

    def accumulate(self, encoded: memoryview, total: Floats, weight: float) -> None:
        values = np.frombuffer(encoded, _WIRE)
        factor = np.float32(weight)
        if factor == 1:  # one pass instead of two, and the same bits, since 1 * x is x
            np.add(total, values, out=total)
            return
        scratch = np.empty(min(values.size, BLOCK), np.float32)
        for block in blocks(values.size):
            scaled = scratch[: block.stop - block.start]
            np.multiply(values[block], factor, out=scaled)
            total[block] += scaled
