"""Bytes made by somebody who knows the format: each lie by itself, and its answer."""

from __future__ import annotations

import struct
import sys
import tracemalloc

import numpy as np
import pytest

from muster_wire.codecs import CodecId, Pipeline
from muster_wire.errors import Cause, PayloadError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SIZE = 100
RNG = np.random.default_rng(0)
INT8 = Pipeline(CodecId.INT8, block=64).codec
INT4 = Pipeline(CodecId.INT4, block=64).codec
SIGN = Pipeline(CodecId.SIGN, block=64).codec
ONE_BIT = Pipeline(CodecId.ONE_BIT, block=64).codec
PACKED = Pipeline(CodecId.INT8, lossless=True, block=64).codec
SPARSE = Pipeline(sparse=True).codec
ONES = np.ones(SIZE, np.float32)


def refuse(codec, encoded: bytes, complaint: str, cause: Cause = Cause.MALFORMED, size: int = SIZE) -> None:
    with pytest.raises(PayloadError, match=complaint) as caught:
        codec.check(memoryview(encoded), size)
    assert caught.value.cause is cause


@pytest.mark.parametrize("codec", [INT8, INT4])
@pytest.mark.parametrize("bits", [0x7F80, 0x7FC0, 0xFF80, 0x8000, 0xBF80, 0x7B81])
def test_scales_of_integers(codec, bits: int) -> None:
    encoded = bytearray(codec.encode(ONES, RNG))
    encoded[2:4] = struct.pack("<H", bits)
    refuse(codec, encoded, "a scale is negative, NaN, or beyond", Cause.NOT_FINITE)


@pytest.mark.parametrize("codec", [SIGN, ONE_BIT])
@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf, -1.0, 2e30])
def test_scales_of_signs(codec, scale: float) -> None:
    encoded = bytearray(codec.encode(ONES, RNG))
    at = 8 if codec is ONE_BIT else 0
    encoded[at : at + 4] = struct.pack("<f", scale)
    refuse(codec, encoded, "a scale is negative, NaN, or beyond", Cause.NOT_FINITE)


@pytest.mark.parametrize(("codec", "byte"), [(INT8, 0x80), (INT4, 0x08), (INT4, 0x80)])
def test_a_symbol_that_no_sender_writes(codec, byte: int) -> None:
    encoded = bytearray(codec.encode(ONES, RNG))
    encoded[10] = byte
    refuse(codec, encoded, "a symbol lies outside")


def runs(*data: tuple[int, bytes]) -> bytes:
    return b"".join(struct.pack("<I", length) + run for length, run in data)


SCALES = ((2, b"\0\0"), (2, b"\0\0"))  # two planes of two scales, stored


def test_packed_runs_that_are_just_right() -> None:
    PACKED.check(memoryview(runs(*SCALES, (SIZE, bytes(SIZE)))), SIZE)
    packed = zstd.compress(bytes(SIZE))
    PACKED.check(memoryview(runs(*SCALES, (len(packed), packed))), SIZE)


def bomb(size: int, **parameters: int) -> bytes:
    options = {getattr(zstd.CompressionParameter, name): value for name, value in parameters.items()}
    return zstd.compress(bytes(size), options=options)


@pytest.mark.parametrize(
    ("run", "complaint"),
    [
        (bomb(2**26), "not one frame|can't be unpacked"),
        (bomb(2**26, content_size_flag=0), "not one frame|can't be unpacked"),
        (bomb(SIZE + 1), "not one frame"),
        (bomb(SIZE - 1), "not one frame"),
        (bomb(0), "not one frame"),
        (bomb(SIZE - 20) + bomb(20), "not one frame"),
        (bomb(SIZE)[:-1], "not one frame"),
        (bomb(SIZE) + b"\0", "not one frame"),
        (b"", "not one frame"),
        (b"\x28\xb5\x2f\xfd" + b"\xff" * 30, "can't be unpacked"),
        (b"\x50\x2a\x4d\x18\x04\0\0\0abcd", "not one frame"),  # a skippable frame
        (b"PK\3\4", "can't be unpacked"),
    ],
)
def test_packed_runs_never_unpack_to_more_than_there_is_room_for(run: bytes, complaint: str) -> None:
    if len(run) > SIZE:
        complaint = "longer than unpacked"
    tracemalloc.start()
    try:
        refuse(PACKED, runs(*SCALES, (len(run), run)), complaint)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**18


def test_a_frame_that_wants_a_large_window_is_refused() -> None:
    header = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([(27 - 10) << 3])  # no content size; a window of 128 MiB
    block = struct.pack("<I", SIZE << 3 | 1)[:3] + bytes(SIZE)  # the last block, raw
    run = header + block
    codec = Pipeline(CodecId.INT8, lossless=True, block=200).codec
    refuse(codec, runs((1, b"\0"), (1, b"\0"), (len(run), run)), "can't be unpacked", size=2 * SIZE)


@pytest.mark.parametrize("length", [SIZE + 1, 2**31, 2**32 - 1])
def test_a_packed_length_that_lies(length: int) -> None:
    refuse(PACKED, runs(*SCALES, (length, bytes(SIZE))), "longer than unpacked")


def sparse(entries: int, *groups: bytes) -> bytes:
    return struct.pack("<Q", entries) + b"".join(groups)


def group(bits: int, unary: bytes, low: bytes, values: bytes, zero: int = 0) -> bytes:
    return struct.pack("<BBHI", bits, zero, len(unary), len(values)) + unary + low + values


ONE = struct.pack("<f", 1)


def test_entries_that_are_just_right() -> None:
    assert SPARSE.check(memoryview(sparse(2, group(0, b"\x03", b"", ONE + ONE))), SIZE) == 2
    assert SPARSE.check(memoryview(sparse(1, group(7, b"\x01", b"\x63", ONE))), SIZE) == 1
    assert SPARSE.check(memoryview(sparse(0)), SIZE) == 0


@pytest.mark.parametrize(
    ("encoded", "complaint"),
    [
        (sparse(SIZE + 1), "more than the 100 values"),
        (sparse(2**64 - 1), "more than the 100 values"),
        (sparse(2), "bytes are missing"),
        (b"\1", "bytes are missing"),
        (sparse(0, b"\0"), "an encoding ends at 8"),
        (sparse(1, group(7, b"\x01", b"\x64", ONE)), "place is 100"),
        (sparse(1, group(40, b"\x01", b"\xff" * 5, ONE)), "place is 1099511627775"),
        (sparse(1, group(41, b"\x01", b"\xff" * 6, ONE)), "can't have 41 low bits"),
        (sparse(1, group(255, b"\x01", b"\xff" * 32, ONE)), "can't have 255 low bits"),
        (sparse(1, group(0, b"\0\1", b"", ONE)), "can't have 0 low bits and 2 unary bytes"),
        (sparse(1, group(0, b"\x01", b"", ONE, zero=1)), "can't have"),
        (sparse(1, group(0, b"\x03", b"", ONE)), "2 unary codes"),
        (sparse(1, group(0, b"\x00", b"", ONE)), "0 unary codes"),
        (sparse(1, group(0, b"", b"", ONE)), "0 unary codes"),
        (sparse(3, group(0, b"\x07\x00", b"", ONE * 3)), "3 unary codes in 2 bytes"),
        (sparse(1, group(2, b"\x01", b"\x04", ONE)), "not filled up with zeros"),
        (sparse(1, group(0, b"\x01", b"", ONE + ONE)), "take 4 to 4 bytes, not 8"),
        (sparse(1, group(0, b"\x01", b"", b"")), "take 4 to 4 bytes, not 0"),
        (sparse(1, struct.pack("<BBHI", 0, 0, 1, 2**32 - 1) + b"\1"), "take 4 to 4 bytes, not 4294967295"),
    ],
)
def test_entries_that_lie(encoded: bytes, complaint: str) -> None:
    refuse(SPARSE, encoded, complaint)


def test_a_value_at_a_place_is_checked_too() -> None:
    refuse(SPARSE, sparse(1, group(0, b"\x01", b"", struct.pack("<f", np.nan))), "NaN", Cause.NOT_FINITE)


@pytest.mark.parametrize(
    ("numbers", "flags", "block"),
    [
        (0, 0, 0),
        (10, 0, 0),
        (CodecId.SPARSE, 0, 0),
        (CodecId.LOSSLESS, 0, 0),
        (CodecId.FLOAT32, 4, 0),
        (CodecId.FLOAT32, 0xFFFF, 0),
        (CodecId.FLOAT32, 0, 256),
        (CodecId.INT8, 0, 0),
        (CodecId.INT8, 0, 15),
        (CodecId.INT8, 0, 65_537),
        (CodecId.INT4, 2, 2**32 - 1),
        (CodecId.ONE_BIT, 0, 100),
        (CodecId.ONE_BIT, 0, 32_768),
        (CodecId.SIGN, 1, 1),
    ],
)
def test_descriptions_that_no_pipeline_has(numbers: int, flags: int, block: int) -> None:
    with pytest.raises(PayloadError) as caught:
        Pipeline.from_fields(numbers, flags, block)
    assert caught.value.cause is Cause.MALFORMED


def test_descriptions_come_back() -> None:
    for pipeline in (Pipeline(), Pipeline(CodecId.INT4, True, True, 17), Pipeline(CodecId.ONE_BIT, lossless=True)):
        assert Pipeline.from_fields(*pipeline.fields) == pipeline
    assert Pipeline(CodecId.INT4, True, True, 17).name == "sparse+int4+lossless"
    assert Pipeline(CodecId.INT4, True).stages == {CodecId.SPARSE, CodecId.INT4}
