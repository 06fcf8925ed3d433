"""The lossless last stage: what another codec wrote, with its redundancy taken out.

Quantised numbers crowd around zero, so some symbols are far more frequent than others: entropy coding is what helps,
and repetitions there are none. Zstandard (RFC 8878) with its match finder all but off is just that: a Huffman code for
each run of bytes. Measured on Gaussian and heavy-tailed updates it comes within 1 to 3 % of the entropy at memory-like
speed, where arithmetic coding through a well-kept library gets the rest at a thirtieth of the speed
(docs/decisions/006-lossless-stage.md). Bytes of one significance go together: of a bfloat16, the byte with the exponent
shrinks to a third, and the other not at all.

Encoding: for each segment of the inner codec, for each of its parts, for each byte of a word: a length, u32, and as
many bytes. A run that would not shrink is stored as it is, which is what a length equal to the run's own says.

Nothing here trusts a length: how many bytes a run has after unpacking follows from the count of values, no more than
that is ever unpacked, and a frame's window may not exceed 128 KiB.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from muster_wire.codecs.base import Codec, FixedCodec, Part, Random, Sizes, blocks
from muster_wire.codecs.reader import Reader
from muster_wire.errors import Cause, PayloadError
from muster_wire.values import Floats

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LENGTH: Final = struct.Struct("<I")
_PACKING: Final[Mapping[int, int]] = {
    zstd.CompressionParameter.compression_level: 1,
    zstd.CompressionParameter.hash_log: 6,
    zstd.CompressionParameter.min_match: 7,
    zstd.CompressionParameter.window_log: 17,
}
_UNPACKING: Final[Mapping[int, int]] = {zstd.DecompressionParameter.window_log_max: 17}


class Lossless(Codec):
    """Another codec's bytes, packed."""

    def __init__(self, inner: FixedCodec) -> None:
        self.inner = inner

    @property
    def step(self) -> int:
        return self.inner.step

    def sizes(self, count: int) -> Sizes:
        runs = sum(part.word for part in self.inner.parts(1)) * -(-count // self.step)
        return Sizes(runs * _LENGTH.size, self.inner.encoded_size(count) + runs * _LENGTH.size)

    def encode(self, values: Floats, rng: Random) -> memoryview:
        packed = bytearray()
        for piece in blocks(values.size, self.step):
            encoded = self.inner.encode(values[piece], rng)
            at = 0
            for part in self.inner.parts(piece.stop - piece.start):
                for run in _runs(encoded[at : at + part.length], part):
                    data = _shortest(run)
                    packed += _LENGTH.pack(len(data))
                    packed += data
                at += part.length
        return memoryview(packed)

    def check(self, encoded: memoryview, count: int) -> float:
        return sum(self.inner.check(data, piece.stop - piece.start) for piece, data in self._segments(encoded, count))

    def decode_into(self, encoded: memoryview, values: Floats) -> None:
        for piece, data in self._segments(encoded, values.size):
            self.inner.decode_into(data, values[piece])

    def accumulate(self, encoded: memoryview, total: Floats, weight: float) -> None:
        for piece, data in self._segments(encoded, total.size):
            self.inner.accumulate(data, total[piece], weight)

    def _segments(self, encoded: memoryview, count: int) -> Iterator[tuple[slice, memoryview]]:
        """The inner codec's bytes of each segment, in a buffer that the next one overwrites."""
        reader = Reader(encoded)
        buffer = np.empty(self.inner.encoded_size(min(count, self.step)), np.uint8)
        for piece in blocks(count, self.step):
            at = 0
            for part in self.inner.parts(piece.stop - piece.start):
                _fill(buffer[at : at + part.length], part, reader)
                at += part.length
            yield piece, buffer[:at].data
        reader.finish()


def _runs(data: memoryview, part: Part) -> Iterator[bytes]:
    """The bytes of each significance."""
    words = np.frombuffer(data, np.uint8).reshape(-1, part.word)
    for column in range(part.word):
        yield words[:, column].tobytes()


def _shortest(run: bytes) -> bytes:
    data = zstd.compress(run, options=_PACKING)
    return data if len(data) < len(run) else run


def _fill(buffer: np.ndarray[tuple[int], np.dtype[np.uint8]], part: Part, reader: Reader) -> None:
    words = buffer.reshape(-1, part.word)
    for column in range(part.word):
        (length,) = _LENGTH.unpack(reader.take(_LENGTH.size))
        if length > len(words):
            raise PayloadError(Cause.MALFORMED, f"a packed run of {length} bytes is longer than unpacked: {len(words)}")
        data = reader.take(length)
        words[:, column] = np.frombuffer(data if length == len(words) else _unpacked(data, len(words)), np.uint8)


def _unpacked(data: memoryview, length: int) -> bytes:
    """Exactly `length` bytes, or PayloadError."""
    decompressor = zstd.ZstdDecompressor(options=_UNPACKING)
    try:
        run = decompressor.decompress(data, max_length=length)
    except zstd.ZstdError as error:
        raise PayloadError(Cause.MALFORMED, f"a packed run can't be unpacked: {error}") from error
    if len(run) != length or not decompressor.eof or decompressor.unused_data:
        raise PayloadError(Cause.MALFORMED, f"a packed run is not one frame of {length} bytes")
    return run
