from __future__ import annotations

import math
import mmap
import tempfile
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_wire.codecs import CodecId, Pipeline
from muster_wire.errors import Cause, PayloadError, WireError
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import (
    MAX_INTEGER,
    MAX_NORM,
    PayloadKind,
    Shape,
    accumulate,
    advance,
    check,
    decode,
    decode_in_place,
    encode_snapshot,
    encode_update,
)
from muster_wire.values import Values, difference

LAYOUT = Layout(
    (
        TensorSpec("weight", (3,), "float32", Kind.TRAINABLE),
        TensorSpec("variance", (1,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("count", (), "int64", Kind.INTEGER_BUFFER),
        TensorSpec("flags", (2,), "uint8", Kind.INTEGER_BUFFER),
        TensorSpec("backbone", (1,), "float32", Kind.FROZEN),
    )
)
MODEL = Values.gather(
    LAYOUT,
    {
        "weight": np.array([0.5, -2.0, 1024.0]),
        "variance": np.array([70000.1]),
        "count": np.array(12),
        "flags": np.array([0, 255]),
        "backbone": np.array([1e-3]),
    },
)
UPDATE = difference(MODEL, Values.zeros(LAYOUT))
SNAPSHOT32 = Shape(LAYOUT, PayloadKind.SNAPSHOT, CodecId.FLOAT32)
UPDATE32 = Shape(LAYOUT, PayloadKind.UPDATE, CodecId.FLOAT32)

FAITHFUL = [CodecId.FLOAT32, CodecId.FLOAT16, CodecId.BFLOAT16, CodecId.SPARSE, CodecId.LOSSLESS]  # to these numbers
faithful = pytest.mark.parametrize("codec", FAITHFUL)
codecs = pytest.mark.parametrize("codec", CodecId)
SIZE32 = UPDATE32.sizes.most
HEADERS = 24 + 3 * 24
COUNT_AT = 24 + 24 + 16 + 24 + 8 + 24  # of the first integer in a float32 payload
FLAGS_AT = COUNT_AT + 8


def altered(payload: memoryview, at: int, data: bytes) -> bytes:
    changed = bytearray(payload)
    changed[at : at + len(data)] = data
    return bytes(changed)


@faithful
def test_snapshots_come_back_whole(codec: CodecId) -> None:
    shape = Shape(LAYOUT, PayloadKind.SNAPSHOT, codec)
    payload = encode_snapshot(MODEL, codec)
    shape.check_size(len(payload))
    assert payload.readonly
    check(shape, payload)
    assert decode(shape, payload).digest() == MODEL.digest()


@faithful
def test_updates_come_back_without_frozen_tensors(codec: CodecId) -> None:
    shape = Shape(LAYOUT, PayloadKind.UPDATE, codec)
    payload = encode_update(UPDATE, codec)
    shape.check_size(len(payload))
    checked = check(shape, payload)
    assert checked.norm == pytest.approx(math.sqrt(0.25 + 4 + 1024**2))
    assert checked.buffer_norm == pytest.approx(70000.1)
    assert decode(shape, payload).digest() == UPDATE.digest()


def test_float_buffers_never_travel_in_half_precision() -> None:
    """A running variance easily passes 65504, where float16 ends."""
    shape = Shape(LAYOUT, PayloadKind.UPDATE, CodecId.FLOAT16)
    decoded = decode(shape, encode_update(UPDATE, CodecId.FLOAT16))
    assert decoded.float_buffers.tobytes() == UPDATE.float_buffers.tobytes()


@faithful
def test_accumulate_adds_floats_and_keeps_the_largest_integers(codec: CodecId) -> None:
    shape = Shape(LAYOUT, PayloadKind.UPDATE, codec)
    total = Values.zeros(LAYOUT, frozen=False)
    total.integers[:] = [20, 0, 7]
    accumulate(shape, encode_update(UPDATE, codec), total, 2.0)
    accumulate(shape, encode_update(UPDATE, codec), total, 1.0)
    assert total.trainable.tolist() == [1.5, -6, 3072]
    assert total.float_buffers.tolist() == pytest.approx([210000.3])
    assert total.integers.tolist() == [20, 0, 255]


def test_a_snapshot_or_another_layout_is_never_added_to_a_sum() -> None:
    total = Values.zeros(LAYOUT, frozen=False)
    with pytest.raises(PayloadError, match="only an update"):
        accumulate(SNAPSHOT32, encode_snapshot(MODEL, CodecId.FLOAT32), total, 1.0)
    with pytest.raises(PayloadError, match="only an update"):
        accumulate(UPDATE32, encode_update(UPDATE, CodecId.FLOAT32), Values.zeros(Layout(())), 1.0)


def test_a_model_of_nothing_is_a_model() -> None:
    shape = Shape(Layout(()), PayloadKind.SNAPSHOT, CodecId.FLOAT32)
    payload = encode_snapshot(Values.zeros(Layout(())), CodecId.FLOAT32)
    check(shape, payload)
    assert decode(shape, payload).digest() == Values.zeros(Layout(())).digest()


@pytest.mark.parametrize(
    ("at", "data", "cause", "complaint"),
    [
        (0, b"PK", Cause.MALFORMED, "not a payload of format 1"),
        (4, b"\x02", Cause.MALFORMED, "not a payload of format 1"),
        (5, b"\x01", Cause.MALFORMED, "a update is kind 2"),
        (5, b"\xff", Cause.MALFORMED, "a update is kind 2"),
        (6, b"\x04", Cause.MALFORMED, "with 3 sections"),
        (8, b"\x00\x00", Cause.WRONG_LAYOUT, "encoded for another model"),
        (24, b"\x02", Cause.MALFORMED, "section TRAINABLE"),
        (25, b"\x02", Cause.MALFORMED, "section TRAINABLE"),
        (26, b"\x01", Cause.MALFORMED, "section TRAINABLE"),
        (27, b"\x01", Cause.MALFORMED, "section TRAINABLE"),
        (28, b"\x01", Cause.MALFORMED, "section TRAINABLE"),
        (32, b"\x04", Cause.MALFORMED, "section TRAINABLE"),
        (32, b"\xff" * 8, Cause.MALFORMED, "section TRAINABLE"),
        (40, b"\xff" * 8, Cause.MALFORMED, "section TRAINABLE"),
        (60, b"\x01", Cause.MALFORMED, "padding after it is not zero"),
        (48, b"\x00\x00\xc0\x7f", Cause.NOT_FINITE, "NaN or infinite"),
        (88, b"\x00\x00\x80\xff", Cause.NOT_FINITE, "NaN or infinite"),
        (48, np.float32(2e12).tobytes(), Cause.NORM, "norm is 2e[+]12"),
        (88, np.float32(2e12).tobytes(), Cause.NORM, "norm is 2e[+]12"),
        (COUNT_AT, (MAX_INTEGER + 1).to_bytes(8, "little"), Cause.MALFORMED, "count: an integer lies outside"),
        (FLAGS_AT, (256).to_bytes(8, "little"), Cause.MALFORMED, "flags: an integer lies outside 0 to 255"),
        (FLAGS_AT, b"\xff" * 8, Cause.MALFORMED, "flags: an integer lies outside 0 to 255"),
    ],
)
def test_every_bad_byte_is_refused_with_its_reason(at: int, data: bytes, cause: Cause, complaint: str) -> None:
    with pytest.raises(PayloadError, match=complaint) as caught:
        check(UPDATE32, altered(encode_update(UPDATE, CodecId.FLOAT32), at, data))
    assert caught.value.cause is cause


def test_a_frozen_tensor_is_checked_too() -> None:
    payload = encode_snapshot(MODEL, CodecId.FLOAT32)
    with pytest.raises(PayloadError, match="NaN"):
        check(SNAPSHOT32, altered(payload, len(payload) - 8, b"\x00\x00\xc0\x7f"))


def test_norms_bind_updates_as_asked_and_snapshots_never() -> None:
    large = Values.zeros(LAYOUT)
    large.trainable[0] = 3e38
    check(SNAPSHOT32, encode_snapshot(large, CodecId.FLOAT32))
    with pytest.raises(PayloadError) as caught:
        check(UPDATE32, encode_update(large, CodecId.FLOAT32))
    assert caught.value.cause is Cause.NORM
    payload = encode_update(UPDATE, CodecId.FLOAT32)
    check(UPDATE32, payload, max_norm=MAX_NORM)
    with pytest.raises(PayloadError, match="at most 100 is allowed"):
        check(UPDATE32, payload, max_norm=100)


@settings(deadline=None)
@given(st.integers(0, 400))
def test_any_other_length_is_refused(length: int) -> None:
    payload = bytes(encode_update(UPDATE, CodecId.FLOAT32)) * 4
    if length != SIZE32:
        for read in (check, decode):
            with pytest.raises(PayloadError, match=f"not {length}"):
                read(UPDATE32, payload[:length])


@settings(deadline=None, max_examples=300)
@given(st.integers(0, SIZE32 - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_changes_only_numbers(at: int, mask: int) -> None:
    payload = bytearray(encode_update(UPDATE, CodecId.FLOAT32))
    payload[at] ^= mask
    try:
        check(UPDATE32, payload)
    except WireError:
        return
    assert encode_update(decode(UPDATE32, payload), CodecId.FLOAT32) == payload


@codecs
def test_checking_a_mapped_file_takes_a_few_blocks_of_memory(codec: CodecId) -> None:
    layout = Layout((TensorSpec("weight", (2**24,), "float32", Kind.TRAINABLE),))
    shape = Shape(layout, PayloadKind.UPDATE, codec)
    with tempfile.TemporaryFile() as file:
        file.write(encode_update(Values.zeros(layout, frozen=False), codec))
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        tracemalloc.start()
        try:
            check(shape, mapped)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 2**20 + 2**19 < layout.model_bytes // 30


# --- pipelines whose length nobody knows before -----------------------------------------------------------------------

PACKED = Pipeline(CodecId.INT4, sparse=True, lossless=True, block=16)
PACKED_UPDATE = Shape(LAYOUT, PayloadKind.UPDATE, PACKED)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_of_a_packed_payload_are_refused_or_numbers(changes: list[tuple[int, int]]) -> None:
    encoded = bytearray(encode_update(UPDATE, PACKED))
    for at, byte in changes:
        encoded[at % len(encoded)] = byte
    try:
        check(PACKED_UPDATE, encoded)
    except WireError:
        return
    decoded = decode(PACKED_UPDATE, encoded)
    assert np.isfinite(decoded.trainable).all()


@settings(deadline=None)
@given(st.integers(0, 400))
def test_a_packed_payload_of_another_length_is_refused(length: int) -> None:
    encoded = bytes(encode_update(UPDATE, PACKED))
    if length != len(encoded):
        for read in (check, decode):
            with pytest.raises(PayloadError):
                read(PACKED_UPDATE, (encoded * 4)[:length])


@pytest.mark.parametrize("length", [0, 7, 8, 2**16, 2**40, 2**64 - 1])
def test_a_packed_section_whose_length_lies(length: int) -> None:
    encoded = altered(encode_update(UPDATE, PACKED), 24 + 16, length.to_bytes(8, "little"))
    with pytest.raises(PayloadError) as caught:
        check(PACKED_UPDATE, encoded)
    assert caught.value.cause is Cause.MALFORMED


@pytest.mark.parametrize("other", [CodecId.INT4, Pipeline(CodecId.INT4, sparse=True, lossless=True, block=32)])
def test_another_pipeline_than_was_agreed_on_is_refused(other: CodecId | Pipeline) -> None:
    with pytest.raises(PayloadError):
        check(PACKED_UPDATE, encode_update(UPDATE, other))


def test_a_stream_makes_the_rounding_repeatable_and_the_values_do_without_one() -> None:
    def coded(seed: int | None) -> bytes:
        return bytes(encode_update(UPDATE, CodecId.INT4, None if seed is None else np.random.default_rng(seed)))

    assert coded(None) == coded(None)
    assert coded(1) == coded(1)
    assert len({coded(seed) for seed in range(20)}) > 1


def test_both_sides_advance_to_the_same_model() -> None:
    layout = Layout(
        (
            TensorSpec("weight", (1000,), "float32", Kind.TRAINABLE),
            TensorSpec("mean", (5,), "float32", Kind.FLOAT_BUFFER),
            TensorSpec("count", (), "int64", Kind.INTEGER_BUFFER),
            TensorSpec("backbone", (2,), "float32", Kind.FROZEN),
        )
    )
    rng = np.random.default_rng(0)
    sides = Values.zeros(layout), Values.zeros(layout)
    for version in range(5):
        model = Values.zeros(layout)
        model.trainable[:] = rng.normal(size=1000)
        model.float_buffers[:] = rng.normal(size=5)
        model.integers[:] = 10 - version
        encoded = encode_update(difference(model, sides[0]), CodecId.INT8)
        for side in sides:
            advance(Shape(layout, PayloadKind.UPDATE, CodecId.INT8), encoded, side)
        assert sides[0].digest() == sides[1].digest()
        np.testing.assert_allclose(sides[0].trainable, model.trainable, atol=0.1)
        np.testing.assert_allclose(sides[0].float_buffers, model.float_buffers, rtol=1e-5)
        assert sides[0].integers.tolist() == [10 - version]


def test_a_model_advances_only_by_an_update_of_its_own_layout() -> None:
    with pytest.raises(PayloadError, match="of its own layout"):
        advance(SNAPSHOT32, encode_snapshot(MODEL, CodecId.FLOAT32), Values.zeros(LAYOUT))
    with pytest.raises(PayloadError, match="of its own layout"):
        advance(UPDATE32, encode_update(UPDATE, CodecId.FLOAT32), Values.zeros(Layout(())))


@codecs
@pytest.mark.parametrize("kind", PayloadKind)
def test_decoding_in_place_gives_the_same_numbers(codec: CodecId, kind: PayloadKind) -> None:
    values, encode = (MODEL, encode_snapshot) if kind is PayloadKind.SNAPSHOT else (UPDATE, encode_update)
    shape, payload = Shape(LAYOUT, kind, codec), encode(values, codec)
    found = decode_in_place(shape, payload)
    assert found.digest() == decode(shape, payload).digest()
    assert not any(buffer.flags.writeable for buffer in found.buffers if buffer.size)


def test_decoding_float32_in_place_copies_nothing() -> None:
    payload = encode_snapshot(MODEL, CodecId.FLOAT32)
    found = decode_in_place(SNAPSHOT32, payload)
    whole = np.frombuffer(payload, np.uint8)
    assert all(np.shares_memory(buffer, whole) for buffer in found.buffers)


def test_bytes_that_are_no_payload_are_refused_in_place_too() -> None:
    with pytest.raises(PayloadError):
        decode_in_place(SNAPSHOT32, b"x" * SNAPSHOT32.sizes.most)
