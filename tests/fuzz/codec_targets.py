"""Each family of codecs by itself: bytes that pass the checks are numbers, and every way to read them agrees.

The first byte chooses the pipeline of the family. For how many values the rest is an encoding, two bytes say where that
can vary; elsewhere it follows from the length, which is then filled up.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from muster_wire.codecs import CodecId, Pipeline
from muster_wire.codecs.base import Codec, FixedCodec
from muster_wire.errors import PayloadError

FLOATS = [Pipeline(numbers) for numbers in (CodecId.FLOAT32, CodecId.FLOAT16, CodecId.BFLOAT16)]
INTEGERS = [Pipeline(numbers, block=block) for numbers in (CodecId.INT8, CodecId.INT4) for block in (16, 17, 256)]
SIGNS = [Pipeline(numbers, block=block) for numbers in (CodecId.ONE_BIT, CodecId.SIGN) for block in (16, 64)]
SPARSE = [Pipeline(each.numbers, sparse=True, block=each.block) for each in (*FLOATS, *INTEGERS, *SIGNS)]
LOSSLESS = [
    Pipeline(each.numbers, sparse=each.sparse, lossless=True, block=each.block)
    for each in (*FLOATS, *INTEGERS, *SIGNS, *SPARSE)
]
MOST_VALUES = 2**17  # two segments: what a stage allocates follows from this, and not from the bytes


def survives(codec: Codec, encoded: bytes, count: int) -> None:
    """Checking refuses, or decoding works, and adding up agrees with it."""
    sizes = codec.sizes(count)
    if not sizes.least <= len(encoded) <= sizes.most:
        return  # refused before a codec sees it
    try:
        squares = codec.check(memoryview(encoded), count)
    except PayloadError:
        return
    values, total = np.full(count, np.nan, np.float32), np.zeros(count, np.float32)
    codec.decode_into(memoryview(encoded), values)
    codec.accumulate(memoryview(encoded), total, 1.0)
    assert np.isfinite(values).all()
    assert np.array_equal(values, total)
    assert np.isclose(float(np.square(values, dtype=float).sum()), squares, rtol=1e-5)


def _fuzz(pipelines: Sequence[Pipeline], data: bytes) -> None:
    if len(data) < 3:
        return
    codec = pipelines[data[0] % len(pipelines)].codec
    if isinstance(codec, FixedCodec):
        counts = range(MOST_VALUES)
        count = counts[bisect_left(counts, len(data) - 1, key=codec.encoded_size)]
        survives(codec, data[1:].ljust(codec.encoded_size(count), b"\0"), count)
    else:
        survives(codec, data[3:], int.from_bytes(data[1:3], "little") * 2)


def floats(data: bytes) -> None:
    _fuzz(FLOATS, data)


def integers(data: bytes) -> None:
    _fuzz(INTEGERS, data)


def signs(data: bytes) -> None:
    _fuzz(SIGNS, data)


def sparse(data: bytes) -> None:
    _fuzz(SPARSE, data)


def lossless(data: bytes) -> None:
    _fuzz(LOSSLESS, data)


def seeds(pipelines: Sequence[Pipeline]) -> Callable[[], Iterator[bytes]]:
    """Of every pipeline: nothing, one value, and some."""

    def make() -> Iterator[bytes]:
        for index, pipeline in enumerate(pipelines):
            for count in (0, 2, 100):
                values = np.random.default_rng(index).standard_t(3, count).astype(np.float32)
                values[::3] = 0
                encoded = pipeline.codec.encode(values, np.random.default_rng(0))
                size = b"" if isinstance(pipeline.codec, FixedCodec) else (count // 2).to_bytes(2, "little")
                yield bytes([index]) + size + bytes(encoded)

    return make
