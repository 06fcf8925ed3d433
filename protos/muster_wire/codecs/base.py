"""What a codec is: how one flat float32 buffer becomes bytes and comes back.

A codec never sees tensors, rounds or peers. Its directions work block by block, in blocks that stay in the processor's
cache, so that none of them needs memory that grows with the model. What it needs besides the numbers is an argument: a
codec that rounds at random takes the random stream, one that leaves something out is given its memory by `feedback`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

import numpy as np

from muster_wire.errors import Cause, PayloadError
from muster_wire.values import Floats

BLOCK: Final = 65_536  # elements: 256 KiB of float32
NOT_FINITE: Final = "a value is NaN or infinite: the training diverged, or the bytes are bad"

Random = np.random.Generator


class CodecId(IntEnum):
    """The same numbers as `CodecId` in the .proto. The first seven say numbers and name a section's codec; `SPARSE`
    comes before them and `LOSSLESS` after, and in a section they are flags.
    """

    FLOAT32 = 1
    FLOAT16 = 2
    BFLOAT16 = 3
    INT8 = 4
    INT4 = 5
    ONE_BIT = 6
    SIGN = 7
    SPARSE = 8
    LOSSLESS = 9


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many bytes an encoding may have."""

    least: int
    most: int


class Codec(ABC):
    """One way to encode a flat float32 buffer. Stateless: one instance serves everybody.

    Bytes that are read may be a stranger's. `check` raises PayloadError for all that can't be decoded; the length was
    compared with `sizes` before. Nothing is allocated by what the bytes say: counts come from the layout.
    """

    exact: ClassVar[bool] = False  # decoding gives back the very bits that were encoded

    @abstractmethod
    def sizes(self, count: int) -> Sizes:
        """Bytes that `count` values may take."""

    @abstractmethod
    def encode(self, values: Floats, rng: Random) -> memoryview:
        """The values as bytes. PayloadError if one of them can't be said in this codec."""

    @abstractmethod
    def check(self, encoded: memoryview, count: int) -> float:
        """The sum of the squares of all values; PayloadError if one is NaN or infinite, or the bytes are malformed."""

    @abstractmethod
    def decode_into(self, encoded: memoryview, values: Floats) -> None:
        """Overwrites `values`."""

    @abstractmethod
    def accumulate(self, encoded: memoryview, total: Floats, weight: float) -> None:
        """`total += float32(weight) * decoded` in float32, rounded after each product and after the sum.

        With a weight of 1 that is what decoding and adding gives; only where nothing was sent a total of -0 stays one.
        With another weight it is off by a rounding where a codec multiplies its scale first. Either way every machine
        gets the same bits.
        """


@dataclass(frozen=True, slots=True)
class Part:
    """A run of equal words in an encoding, for the lossless stage: bytes of one significance are packed together."""

    length: int  # bytes
    word: int  # bytes of a word


class FixedCodec(Codec):
    """A codec whose length follows from the count, so that it can write into place."""

    id: ClassVar[CodecId]
    block: int = 0  # values that share a scale; 0 where nothing is shared
    step: int = BLOCK  # values that can be encoded apart from the others: segments of this many lie end to end

    @abstractmethod
    def encoded_size(self, count: int) -> int:
        """Bytes that `count` values take."""

    @abstractmethod
    def encode_into(self, values: Floats, encoded: memoryview, rng: Random) -> None:
        """Writes the values. PayloadError if one of them can't be said in this codec."""

    @abstractmethod
    def parts(self, count: int) -> tuple[Part, ...]:
        """What the encoding of at most `step` values consists of, in order."""

    def sizes(self, count: int) -> Sizes:
        size = self.encoded_size(count)
        return Sizes(size, size)

    def encode(self, values: Floats, rng: Random) -> memoryview:
        encoded = np.empty(self.encoded_size(values.size), np.uint8).data
        self.encode_into(values, encoded, rng)
        return encoded


def blocks(count: int, step: int = BLOCK) -> Iterator[slice]:
    """Slices that cover `count` elements, each small enough for the cache."""
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


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
