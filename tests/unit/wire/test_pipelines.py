"""What every pipeline must do, whatever its stages, and what each stage promises besides."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_wire.codecs import CodecId, Pipeline, pipeline_of
from muster_wire.codecs.base import BLOCK, Codec
from muster_wire.errors import Cause, PayloadError
from muster_wire.values import Floats

NUMBERS = [codec for codec in CodecId if codec not in (CodecId.SPARSE, CodecId.LOSSLESS)]
PIPELINES = [
    Pipeline(numbers, bool(sparse), bool(lossless), 32 if numbers >= CodecId.INT8 else 0)
    for numbers, sparse, lossless in itertools.product(NUMBERS, (0, 1), (0, 1))
]
pipelines = pytest.mark.parametrize("pipeline", PIPELINES, ids=lambda pipeline: pipeline.name)
stochastic = pytest.mark.parametrize("numbers", [CodecId.INT8, CodecId.INT4, CodecId.ONE_BIT])
quick = settings(deadline=None, max_examples=25)


def values_of(seed: int, size: int, *, zeros: float = 0.3) -> Floats:
    """Heavy-tailed, of mixed magnitude, some exactly zero: what updates look like."""
    rng = np.random.default_rng(seed)
    values = rng.standard_t(3, size) * 10.0 ** rng.uniform(-4, 1)
    values[rng.random(size) < zeros] = 0
    return values.astype(np.float32)


def encode(codec: Codec, values: Floats, seed: int = 0) -> memoryview:
    encoded = codec.encode(values, np.random.default_rng(seed))
    sizes = codec.sizes(values.size)
    assert sizes.least <= len(encoded) <= sizes.most
    return encoded


def decode(codec: Codec, encoded: memoryview, size: int) -> Floats:
    values = np.full(size, np.nan, np.float32)
    codec.decode_into(encoded, values)
    return values


arrays = st.builds(values_of, st.integers(0, 2**32), st.integers(0, 300))


@pipelines
@quick
@given(values=arrays)
def test_directions_agree(pipeline: Pipeline, values: Floats) -> None:
    encoded = encode(pipeline.codec, values)
    decoded = decode(pipeline.codec, encoded, values.size)
    assert encoded == encode(pipeline.codec, values)
    assert decoded.tobytes() == decode(pipeline.codec, encoded, values.size).tobytes()
    assert pipeline.codec.check(encoded, values.size) == pytest.approx(float(np.square(decoded, dtype=float).sum()))
    np.testing.assert_array_equal(decoded[values == 0] if pipeline.sparse else 0, 0)


@pipelines
@quick
@given(values=arrays, start=st.floats(-100, 100, width=32), weight=st.floats(2**-10, 2**10, width=32))
def test_accumulating_is_decoding_then_adding(pipeline: Pipeline, values: Floats, start: float, weight: float) -> None:
    encoded = encode(pipeline.codec, values)
    decoded = decode(pipeline.codec, encoded, values.size)
    once, weighted = np.full_like(values, start), np.full_like(values, start)
    pipeline.codec.accumulate(encoded, once, 1.0)
    np.testing.assert_array_equal(once, np.float32(start) + decoded)
    pipeline.codec.accumulate(encoded, weighted, weight)
    added = np.float32(weight) * decoded
    size = np.abs(added) + np.abs(start)  # their sum may be as large, and is rounded as it is
    assert (np.abs(weighted - (np.float32(start) + added)) <= 2.0**-22 * size).all()


@pipelines
@quick
@given(values=arrays, seed=st.integers(0, 2**32))
def test_the_stages_around_the_numbers_lose_nothing(pipeline: Pipeline, values: Floats, seed: int) -> None:
    """Sparse says where the values are that aren't zero, lossless packs: what is decoded is what the numbers say."""
    sent = values[values != 0] if pipeline.sparse else values
    numbers = Pipeline(pipeline.numbers, block=pipeline.block).codec
    expected = np.zeros_like(values)
    expected[values != 0 if pipeline.sparse else slice(None)] = decode(numbers, encode(numbers, sent, seed), sent.size)
    decoded = decode(pipeline.codec, encode(pipeline.codec, values, seed), values.size)
    assert decoded.tobytes() == expected.tobytes()


@quick
@given(values=arrays)
def test_floats_come_back_as_near_as_their_format_says(values: Floats) -> None:
    for numbers, bits, least in ((CodecId.FLOAT32, 24, 0.0), (CodecId.FLOAT16, 11, 2.0**-25), (CodecId.BFLOAT16, 8, 0)):
        codec = pipeline_of(numbers).codec
        decoded = decode(codec, encode(codec, values), values.size)
        off = np.abs(decoded - values)
        assert (off <= np.maximum(np.abs(values) * 2.0**-bits, least) * (numbers is not CodecId.FLOAT32)).all()


@quick
@given(values=arrays, block=st.integers(16, 100))
def test_a_sign_says_the_mean_magnitude_of_its_block(values: Floats, block: int) -> None:
    """The least-error scale: of all s, ‖x‖₁ / d makes ‖x - s·sign(x)‖ the smallest, which is ‖x‖² - ‖x‖₁² / d."""
    codec = Pipeline(CodecId.SIGN, block=block).codec
    decoded = decode(codec, encode(codec, values), values.size).astype(float)
    for start in range(0, values.size, block):
        piece, said = values[start : start + block].astype(float), decoded[start : start + block]
        assert np.abs(said) == pytest.approx(np.abs(piece).mean(), rel=1e-5)
        least = np.square(piece).sum() - np.square(np.abs(piece).sum()) / piece.size
        assert np.square(piece - said).sum() == pytest.approx(least, rel=1e-4, abs=1e-9)


@pipelines
def test_segments_join_without_a_seam(pipeline: Pipeline) -> None:
    values = values_of(1, 2 * BLOCK + 77, zeros=0.5)
    encoded = encode(pipeline.codec, values)
    decoded = decode(pipeline.codec, encoded, values.size)
    last = decode(pipeline.codec, encode(pipeline.codec, values), values.size)
    assert decoded.tobytes() == last.tobytes()
    error = np.linalg.norm(decoded - values) / np.linalg.norm(values)
    assert error < {CodecId.SIGN: 0.9, CodecId.ONE_BIT: 0.8, CodecId.INT4: 0.35}.get(pipeline.numbers, 0.02)
    total = np.ones_like(values)
    pipeline.codec.accumulate(encoded, total, 1.0)
    np.testing.assert_allclose(total, 1 + decoded, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("numbers", "levels"), [(CodecId.INT8, 127), (CodecId.INT4, 7)])
@quick
@given(values=arrays, block=st.integers(16, 100), seed=st.integers(0, 2**32))
def test_integers_are_off_by_less_than_a_step(
    numbers: CodecId, levels: int, values: Floats, block: int, seed: int
) -> None:
    codec = Pipeline(numbers, block=block).codec
    decoded = decode(codec, encode(codec, values, seed), values.size)
    for start in range(0, values.size, block):
        piece = slice(start, start + block)
        step = np.abs(values[piece]).max() / levels * (1 + 2**-7)
        assert np.abs(decoded[piece] - values[piece]).max() <= step * (1 + 1e-5)


@quick
@given(values=arrays)
def test_bfloat16_is_the_nearest_and_keeps_three_digits(values: Floats) -> None:
    codec = pipeline_of(CodecId.BFLOAT16).codec
    decoded = decode(codec, encode(codec, values), values.size)
    assert (np.abs(decoded - values) <= np.abs(values) * 2.0**-8).all()
    assert decode(codec, encode(codec, decoded), values.size).tobytes() == decoded.tobytes()


@pytest.mark.parametrize("bits", [0x3F808000, 0x3F818000, 0x00000001, 0x007FFFFF, 0x80008000, 0x7F7F7FFF])
def test_bfloat16_rounds_halves_to_even(bits: int) -> None:
    codec = pipeline_of(CodecId.BFLOAT16).codec
    value = np.array([bits], np.uint32).view(np.float32)
    low, high = bits & 0xFFFF0000, (bits & 0xFFFF0000) + 0x10000
    below, above = bits - low, high - bits
    expected = low if below < above or (below == above and low >> 16 & 1 == 0) else high
    assert decode(codec, encode(codec, value), 1).view(np.uint32)[0] == expected


@pipelines
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_the_sender_or_the_check(pipeline: Pipeline, bad: float) -> None:
    values = np.ones(100, np.float32)
    values[40] = bad
    with pytest.raises(PayloadError) as caught:
        pipeline.codec.check(pipeline.codec.encode(values, np.random.default_rng(0)), values.size)
    assert caught.value.cause is Cause.NOT_FINITE


@stochastic
def test_the_mean_of_many_encodings_is_the_value(numbers: CodecId) -> None:
    """For an unbiased code the squared error of a mean of n falls as 1/n; a bias would stay."""
    codec = pipeline_of(numbers).codec
    values, repeats = values_of(3, 8192, zeros=0.0), 200
    one, mean = 0.0, np.zeros(values.size)
    for seed in range(repeats):
        decoded = decode(codec, encode(codec, values, seed), values.size).astype(float)
        one += float(np.square(decoded - values).sum()) / repeats
        mean += decoded / repeats
    assert float(np.square(mean - values).sum()) < 1.5 * one / repeats


@quick
@given(values=st.builds(values_of, st.integers(0, 2**32), st.integers(1, 300)), seed=st.integers(0, 2**32))
def test_one_bit_keeps_the_projection_on_the_value(values: Floats, seed: int) -> None:
    """⟨x, x̂⟩ = ‖x‖² in each block: the scale that makes DRIVE unbiased."""
    codec = Pipeline(CodecId.ONE_BIT, block=64).codec
    decoded = decode(codec, encode(codec, values, seed), values.size)
    for start in range(0, values.size - values.size % 64, 64):
        piece = values[start : start + 64].astype(float)
        assert piece @ decoded[start : start + 64] == pytest.approx(piece @ piece, rel=1e-4)


def test_one_bit_has_the_error_that_the_paper_promises() -> None:
    values = values_of(0, 2**16, zeros=0)
    codec = pipeline_of(CodecId.ONE_BIT).codec
    decoded = decode(codec, encode(codec, values), values.size)
    error = float(np.square(decoded - values).sum() / np.square(values).sum())
    assert error == pytest.approx(np.pi / 2 - 1, rel=0.05)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 65, 4095, 4097])
def test_one_bit_ends_anywhere(size: int) -> None:
    codec = pipeline_of(CodecId.ONE_BIT).codec
    values = values_of(size, size, zeros=0)
    decoded = decode(codec, encode(codec, values), size)
    assert np.isfinite(decoded).all()
    assert float(decoded.astype(float) @ values) > 0


def test_lossless_shrinks_what_is_redundant_and_never_grows_much() -> None:
    values = values_of(0, 2**18, zeros=0)
    noise = np.random.default_rng(0).integers(0, 2**32, 2**16, np.uint32) & 0xBFFFFFFF
    for numbers, most in ((CodecId.INT8, 0.87), (CodecId.INT4, 0.75), (CodecId.FLOAT16, 0.9), (CodecId.BFLOAT16, 0.75)):
        plain = len(encode(Pipeline(numbers).codec, values))
        assert len(encode(Pipeline(numbers, lossless=True).codec, values)) < most * plain
    assert len(encode(Pipeline(lossless=True).codec, noise.view(np.float32))) <= 4 * 2**16 + 4 * 4


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 1.0])
def test_places_take_little_more_than_their_entropy(share: float) -> None:
    rng = np.random.default_rng(0)
    values = (rng.random(2**20) < share).astype(np.float32)
    entries = int(values.sum())
    bits = (len(encode(Pipeline(CodecId.SIGN, sparse=True, block=4096).codec, values)) * 8 / entries) - 1
    entropy = 0 if share == 1 else -np.log2(share) - (1 - share) / share * np.log2(1 - share)
    assert bits < entropy + (1.1 if share == 1 else 0.3)


# --- hostile bytes ----------------------------------------------------------------------------------------------------


def survives(codec: Codec, data: bytes, size: int) -> None:
    """Checking refuses, or decoding works."""
    sizes = codec.sizes(size)
    if not sizes.least <= len(data) <= sizes.most:
        return  # refused before a codec sees it
    try:
        codec.check(memoryview(data), size)
    except PayloadError:
        return
    assert np.isfinite(decode(codec, memoryview(data), size)).all()
    codec.accumulate(memoryview(data), np.zeros(size, np.float32), 1.0)


@pipelines
@settings(deadline=None, max_examples=80)
@given(seed=st.integers(0, 5), data=st.data())
def test_changed_bytes_are_refused_or_numbers(pipeline: Pipeline, seed: int, data: st.DataObject) -> None:
    values = values_of(seed, 200)
    encoded = bytearray(encode(pipeline.codec, values))
    changes = st.lists(st.tuples(st.integers(0, len(encoded) - 1), st.integers(0, 255)), min_size=1, max_size=4)
    for at, byte in data.draw(changes):
        encoded[at] = byte
    survives(pipeline.codec, bytes(encoded), values.size)


@pipelines
@quick
@given(seed=st.integers(0, 5), data=st.data())
def test_cut_and_stretched_bytes_are_refused(pipeline: Pipeline, seed: int, data: st.DataObject) -> None:
    values = values_of(seed, 200)
    codec, encoded = pipeline.codec, bytes(encode(pipeline.codec, values))
    length = data.draw(st.integers(0, len(encoded) + 8).filter(lambda length: length != len(encoded)))
    sizes = codec.sizes(values.size)
    if sizes.least <= length <= sizes.most:
        with pytest.raises(PayloadError):
            codec.check(memoryview((encoded + bytes(8))[:length]), values.size)


@pipelines
@settings(deadline=None, max_examples=40)
@given(data=st.binary(max_size=400), size=st.integers(0, 60))
def test_garbage_is_refused_or_numbers(pipeline: Pipeline, data: bytes, size: int) -> None:
    survives(pipeline.codec, data, size)


@pipelines
def test_no_direction_needs_memory_that_grows_with_the_model(pipeline: Pipeline) -> None:
    codec, values = pipeline.codec, values_of(0, 2**21, zeros=0.9)
    encoded, total = encode(codec, values), np.zeros_like(values)
    tracemalloc.start()
    try:
        codec.check(encoded, values.size)
        codec.decode_into(encoded, total)
        codec.accumulate(encoded, total, 0.5)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * 2**19 < values.nbytes // 5
