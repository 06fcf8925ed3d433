from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from muster_wire.codecs import CODECS, Codec, CodecId, FixedCodec, codec_id
from muster_wire.codecs.base import BLOCK
from muster_wire.errors import Cause, PayloadError
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Floats

FLOATS = [CODECS[CodecId.FLOAT32], CODECS[CodecId.FLOAT16]]  # what all codecs must do is in test_pipelines.py
RNG = np.random.default_rng(0)
codecs = pytest.mark.parametrize("codec", FLOATS, ids=lambda codec: codec.id.name)
halves = hnp.arrays(np.float32, st.integers(0, 50), elements=st.floats(-65000, 65000, width=32))


def encode(codec: Codec, values: Floats) -> memoryview:
    return codec.encode(values, RNG)


def decode(codec: Codec, encoded: memoryview, count: int) -> Floats:
    values = np.empty(count, np.float32)
    codec.decode_into(encoded, values)
    return values


def test_the_registry_has_every_codec_of_the_proto() -> None:
    in_proto = {f"CODEC_{codec.name}": int(codec) for codec in CODECS} | {"CODEC_UNSPECIFIED": 0}
    assert in_proto == dict(pb.CodecId.items())
    assert set(CODECS) == set(CodecId)


@pytest.mark.parametrize("number", [0, 10, -1, 2**31])
def test_an_unknown_codec_is_refused(number: int) -> None:
    with pytest.raises(PayloadError, match=f"{number} is not a codec; there are 1") as caught:
        codec_id(number)
    assert caught.value.cause is Cause.MALFORMED


@codecs
@settings(deadline=None)
@given(values=halves)
def test_round_trip(codec: Codec, values: Floats) -> None:
    again = decode(codec, encode(codec, values), values.size)
    if codec.exact:
        assert again.tobytes() == values.tobytes()
    np.testing.assert_array_equal(again, values if codec.exact else values.astype(np.float16).astype(np.float32))
    assert encode(codec, again) == encode(codec, values)


@codecs
@settings(deadline=None)
@given(values=halves, weight=st.floats(2**-20, 2**20, width=32), start=st.floats(-1e6, 1e6, width=32))
def test_accumulating_is_decoding_then_adding_in_float32(
    codec: Codec, values: Floats, weight: float, start: float
) -> None:
    encoded = encode(codec, values)
    total = np.full(values.size, start, np.float32)
    expected = total + np.float32(weight) * decode(codec, encoded, values.size)
    codec.accumulate(encoded, total, weight)
    assert total.tobytes() == expected.tobytes()


@codecs
@pytest.mark.parametrize("weight", [1.0, 0.37])
def test_blocks_join_without_a_seam(codec: Codec, weight: float) -> None:
    values = np.random.default_rng(1).normal(size=2 * BLOCK + 7).astype(np.float32)
    total = np.ones_like(values)
    encoded = encode(codec, values)
    expected = total + np.float32(weight) * decode(codec, encoded, values.size)
    codec.accumulate(encoded, total, weight)
    np.testing.assert_array_equal(total, expected)
    assert codec.check(encoded, values.size) == pytest.approx(
        float(np.square(decode(codec, encoded, values.size), dtype=float).sum())
    )


@codecs
@pytest.mark.parametrize("place", [0, BLOCK - 1, BLOCK, BLOCK + 4])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_found_wherever_they_are(codec: Codec, place: int, bad: float) -> None:
    values = np.ones(BLOCK + 5, np.float32)
    encoded = encode(codec, values)
    wire = np.frombuffer(encoded, np.float32 if codec.id is CodecId.FLOAT32 else np.float16)
    wire[place] = bad
    with pytest.raises(PayloadError, match="NaN or infinite") as caught:
        codec.check(encoded, values.size)
    assert caught.value.cause is Cause.NOT_FINITE


def test_huge_values_are_finite_and_their_squares_are_summed_in_float64() -> None:
    codec = CODECS[CodecId.FLOAT32]
    values = np.array([3e38, -3e38], np.float32)
    assert codec.check(encode(codec, values), 2) == pytest.approx(2 * 9e76)


@pytest.mark.parametrize("value", [65520.0, -1e30, math.inf, math.nan])
def test_float16_refuses_what_it_cannot_say(value: float) -> None:
    codec = CODECS[CodecId.FLOAT16]
    with pytest.raises(PayloadError, match="65504") as caught:
        encode(codec, np.array([1.0, value], np.float32))
    assert caught.value.cause is Cause.NOT_FINITE


def test_float16_keeps_its_own_limits() -> None:
    codec = CODECS[CodecId.FLOAT16]
    values = np.array([65504, -65504, 65519, 6e-8, 1e-9], np.float32)
    assert decode(codec, encode(codec, values), 5).tolist() == [65504, -65504, 65504, 2.0**-24, 0]


def test_every_half_there_is_widens_alike_in_all_directions() -> None:
    codec = CODECS[CodecId.FLOAT16]
    every = np.arange(2**16, dtype="<u2").view("<f2")
    finite = every[np.isfinite(every)]
    decoded, total = decode(codec, finite.data.cast("B"), finite.size), np.zeros(finite.size, np.float32)
    codec.accumulate(finite.data.cast("B"), total, 1.0)
    assert decoded.tobytes() == finite.astype(np.float32).tobytes()
    np.testing.assert_array_equal(total, decoded)
    assert codec.check(finite.data.cast("B"), finite.size) == pytest.approx(
        float(np.square(finite.astype(float)).sum())
    )
    for bad in every[~np.isfinite(every)]:
        with pytest.raises(PayloadError, match="NaN or infinite"):
            codec.check(np.array([bad]).data.cast("B"), 1)


@codecs
def test_no_direction_needs_memory_that_grows_with_the_model(codec: FixedCodec) -> None:
    values = np.ones(8 * 2**20 // 4 * 4, np.float32)
    encoded, total = encode(codec, values), np.zeros_like(values)
    tracemalloc.start()
    try:
        codec.encode_into(values, encoded, RNG)
        codec.check(encoded, values.size)
        codec.decode_into(encoded, total)
        codec.accumulate(encoded, total, 0.5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * 4 * BLOCK < values.nbytes // 10
