"""What a codec is: how one flat float32 buffer becomes bytes and comes back.

A codec never sees tensors, rounds or peers. Its four directions work block by block, in blocks that stay in the
processor's cache, so that none of them needs memory that grows with the model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import IntEnum
from typing import ClassVar, Final

import numpy as np

from muster_wire.errors import Cause, PayloadError
from muster_wire.values import Floats

BLOCK: Final = 65_536  # elements: 256 KiB of float32
NOT_FINITE: Final = "a value is NaN or infinite: the training diverged, or the bytes are bad"


class CodecId(IntEnum):
    """The same numbers as `CodecId` in the .proto, and the byte that names a codec in a payload."""

    FLOAT32 = 1
    FLOAT16 = 2


class Codec(ABC):
    """One way to encode a flat float32 buffer. Stateless: the registry holds one instance of each.

    `encoded` is always exactly `encoded_size(count)` bytes; `payload` has seen to that.
    """

    id: ClassVar[CodecId]
    exact: ClassVar[bool]  # decoding gives back the very bits that were encoded

    @abstractmethod
    def encoded_size(self, count: int) -> int:
        """Bytes that `count` values take."""

    @abstractmethod
    def encode_into(self, values: Floats, encoded: memoryview) -> None:
        """Writes the values. PayloadError if one of them can't be said in this codec."""

    @abstractmethod
    def check(self, encoded: memoryview) -> float:
        """The sum of the squares of all values; PayloadError if one of them is NaN or infinite."""

    @abstractmethod
    def decode_into(self, encoded: memoryview, values: Floats) -> None:
        """Overwrites `values`."""

    @abstractmethod
    def accumulate(self, encoded: memoryview, total: Floats, weight: float) -> None:
        """`total += float32(weight) * decoded`, rounded after the product and after the sum, in float32."""


def blocks(count: int) -> Iterator[slice]:
    """Slices that cover `count` elements, each small enough for the cache."""
    for start in range(0, count, BLOCK):
        yield slice(start, min(start + BLOCK, count))


def sum_of_squares(block: Floats) -> float:
    """Of at most BLOCK values; PayloadError if one of them is NaN or infinite.

    The float32 product is NaN or infinite whenever a value is, and costs one pass. It also overflows for finite values
    beyond 1e19, which are rare enough to be looked at twice.
    """
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        total = float(np.dot(block, block))
    if np.isfinite(total):
        return total
    if not np.isfinite(block).all():
        raise PayloadError(Cause.NOT_FINITE, NOT_FINITE)
    wide = block.astype(np.float64)
    return float(np.dot(wide, wide))
