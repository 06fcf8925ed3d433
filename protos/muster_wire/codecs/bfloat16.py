"""Every value rounded to bfloat16: the upper half of a float32, two bytes each, little-endian.

The range of float32 and the precision of three digits. For models with values that half precision can't hold.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from muster_wire.codecs.base import NOT_FINITE, CodecId, Part, Random
from muster_wire.codecs.segmented import Segmented
from muster_wire.errors import Cause, PayloadError
from muster_wire.values import Floats

BITS: Final = np.dtype("<u2")
INFINITE: Final = 0x7F80  # bits of infinity; above it are the NaNs


class BFloat16(Segmented):
    """The upper 16 bits of a float32, rounded to nearest even."""

    id = CodecId.BFLOAT16

    def parts(self, count: int) -> tuple[Part, ...]:
        return (Part(2 * count, 2),)

    def _encode(self, values: Floats, encoded: memoryview, rng: Random) -> None:  # noqa: ARG002 -- rounds to nearest
        if not np.isfinite(values).all():
            raise PayloadError(Cause.NOT_FINITE, NOT_FINITE)
        bits = values.view(np.uint32)
        rounded = ((bits + (0x7FFF + (bits >> 16 & 1))) >> 16).astype(BITS)
        if (rounded & 0x7FFF).max(initial=0) >= INFINITE:
            raise PayloadError(
                Cause.NOT_FINITE, f"a value of {np.abs(values).max():g} is beyond bfloat16: the training diverged"
            )
        np.frombuffer(encoded, BITS)[...] = rounded

    def _check(self, encoded: memoryview, count: int) -> None:
        """Every pattern is a number, and the sum of squares finds those that aren't finite."""

    def _decode(self, encoded: memoryview, values: Floats, factor: np.float32) -> None:
        widen(np.frombuffer(encoded, BITS), values)
        if factor != 1:
            values *= factor


def widen(bits: NDArray[np.uint16], values: Floats) -> None:
    """Overwrites `values` with what the upper halves say."""
    wide = values.view(np.uint32)
    wide[...] = bits
    np.left_shift(wide, 16, out=wide)
