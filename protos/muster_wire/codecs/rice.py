"""Golomb-Rice coding of the gaps between the indices that top-k keeps.

Of every gap the low `bits` are written as they are, and the rest in unary: that many zeros and a one. With bits near
log2 of the mean gap this is within 0.1 bits of the entropy when indices are spread evenly (Golomb 1966; Rice 1979),
and a byte-wise entropy coder does worse (docs/decisions/006-lossless-stage.md). The unary codes and the low bits of a
group lie apart, so that numpy reads all of a group at once. Both are written lowest bit first and filled up with zeros.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from muster_wire.errors import Cause, PayloadError

MAX_BITS: Final = 40

Gaps = NDArray[np.int64]


def best_bits(gaps: Gaps) -> int:
    """The low bits with which these gaps take the least room. Unary codes then have at most 3 bits a gap."""
    floor = max(int(gaps.sum()) // gaps.size, 1).bit_length() - 1
    return min((floor, floor + 1), key=lambda bits: gaps.size * bits + int((gaps >> bits).sum()))


def write(gaps: Gaps, bits: int) -> tuple[bytes, bytes]:
    """The unary codes, and the low bits."""
    ends = np.cumsum((gaps >> bits) + 1) - 1
    unary = np.zeros(int(ends[-1]) + 1, np.uint8)
    unary[ends] = 1
    low = (gaps[:, None] >> np.arange(bits) & 1).astype(np.uint8)
    return np.packbits(unary, bitorder="little").tobytes(), np.packbits(low.ravel(), bitorder="little").tobytes()


def low_size(count: int, bits: int) -> int:
    """Bytes that the low bits of `count` gaps take."""
    return -(-count * bits // 8)


def read(unary: memoryview, low: memoryview, count: int, bits: int) -> Gaps:
    """The `count` gaps; PayloadError for codes that are more, fewer, or not filled up with zeros."""
    ends = np.flatnonzero(np.unpackbits(np.frombuffer(unary, np.uint8), bitorder="little"))
    if ends.size != count or ends[-1] // 8 + 1 != len(unary):
        raise PayloadError(Cause.MALFORMED, f"{ends.size} unary codes in {len(unary)} bytes, and {count} are needed")
    gaps: Gaps = np.diff(ends, prepend=-1).astype(np.int64)
    gaps -= 1
    gaps <<= bits
    lows = np.unpackbits(np.frombuffer(low, np.uint8), bitorder="little")
    if lows[count * bits :].any():
        raise PayloadError(Cause.MALFORMED, "the low bits of indices are not filled up with zeros")
    table = lows[: count * bits].reshape(count, bits)
    for bit in range(bits):
        gaps |= table[:, bit].astype(np.int64) << bit
    return gaps
