"""Sums of parts of a model: who had an element counts for it, and nobody else."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_coordinator.partial import PartialSum
from muster_coordinator.strategies import add
from muster_coordinator.sums import BLOCK, Sum
from muster_wire.codecs import CodecId
from muster_wire.groups import Group, Member
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import PayloadKind, Shape, encode_update
from muster_wire.submodel import Draw, Part, part_of
from muster_wire.values import Values

UNITS = 5
LAYOUT = Layout(
    (
        TensorSpec("up.weight", (UNITS, 3), "float32", Kind.TRAINABLE),
        TensorSpec("scale", (), "float32", Kind.TRAINABLE),
        TensorSpec("frozen", (2, UNITS), "float32", Kind.FROZEN),
        TensorSpec("norm.running_var", (UNITS,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("norm.seen", (UNITS,), "int64", Kind.INTEGER_BUFFER),
        TensorSpec("down.weight", (2, 2 * UNITS), "float32", Kind.TRAINABLE),
    ),
    (
        Group(
            UNITS,
            (
                Member("up.weight", 0),
                Member("frozen", 1),
                Member("norm.running_var", 0),
                Member("norm.seen", 0),
                Member("down.weight", 1, 2),
            ),
        ),
    ),
)
STEP = add


def random_values(layout: Layout, seed: int, *, frozen: bool = False) -> Values:
    rng = np.random.default_rng(seed)
    values = Values.zeros(layout, frozen=frozen)
    for buffer in (values.trainable, values.float_buffers, values.frozen):
        buffer[...] = rng.standard_normal(buffer.size, np.float32)
    values.integers[...] = rng.integers(-50, 50, values.integers.size)
    return values


def part(*units: int) -> Part:
    return Part(LAYOUT, (np.array(units),))


def shape_of(layout: Layout, codec: CodecId = CodecId.FLOAT32) -> Shape:
    return Shape(layout, PayloadKind.UPDATE, codec)


def fold(total: PartialSum, update: Values, weight: float, piece: Part) -> None:
    total.fold_part(shape_of(piece.layout), encode_update(update, CodecId.FLOAT32), weight, piece)


BASE = random_values(LAYOUT, 99, frozen=True)

pieces = st.lists(
    st.tuples(
        st.sets(st.integers(0, UNITS - 1), min_size=1).map(lambda units: part(*sorted(units))),
        st.integers(1, 10**6).map(float) | st.floats(2.0**-20, 2.0**60),
        st.integers(0, 2**32),
    ),
    min_size=1,
    max_size=6,
)


@given(pieces)
def test_an_element_is_averaged_over_those_who_had_it(chosen):
    """Against the plainest way to say it: element by element, in float64."""
    total = PartialSum(LAYOUT)
    sums = [np.zeros(view.shape) for _, view in random_values(LAYOUT, 0).tensors()]
    weights = [np.zeros(each.shape) for each in sums]
    most = [np.full(each.shape, -(2**62)) for each in sums]
    for piece, weight, seed in chosen:
        update = random_values(piece.layout, seed)
        fold(total, update, weight, piece)
        for place, (spec, view) in enumerate(update.tensors()):
            index = piece.index(spec.name)
            sums[place][index] += weight * view.astype(np.float64)
            weights[place][index] += weight
            most[place][index] = np.maximum(most[place][index], view)
    made = total.finish(BASE, STEP)
    bases = {spec.name: view for spec, view in BASE.tensors()}
    for place, (spec, view) in enumerate(made_without_frozen(made).tensors()):
        had = weights[place] > 0
        if spec.kind is Kind.INTEGER_BUFFER:
            expected = np.where(had, most[place], bases[spec.name])
        else:
            mean = sums[place] / np.where(had, weights[place], 1)
            expected = np.where(had, bases[spec.name] + mean, bases[spec.name])
            np.testing.assert_array_equal(view[~had], bases[spec.name][~had])
        np.testing.assert_allclose(view, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(made.frozen, BASE.frozen)


def made_without_frozen(values: Values) -> Values:
    return Values(values.layout, *values.buffers[:3], np.zeros(0, np.float32))


@given(
    st.lists(st.tuples(st.floats(2.0**-40, 2.0**60), st.integers(0, 2**32)), min_size=1, max_size=6),
    st.sampled_from([CodecId.FLOAT32, CodecId.FLOAT16, CodecId.INT8, CodecId.INT4, CodecId.ONE_BIT]),
)
def test_where_everybody_has_everything_it_is_the_plain_sum_bit_for_bit(updates, codec):
    plain, partial = Sum(LAYOUT), PartialSum(LAYOUT)
    for number, (weight, seed) in enumerate(updates):
        everything = part_of(LAYOUT, Draw(5, number % 2, 2, 1.0))
        update = random_values(LAYOUT, seed)
        plain.fold_payload(shape_of(LAYOUT, codec), encode_update(update, codec), weight)
        same = Values(everything.layout, *update.buffers)
        partial.fold_part(shape_of(everything.layout, codec), encode_update(same, codec), weight, everything)
    one, other = plain.finish(BASE, STEP), partial.finish(BASE, STEP)
    for mine, theirs in zip(one.buffers, other.buffers, strict=True):
        assert mine.tobytes() == theirs.tobytes()


def test_a_lone_client_of_a_part_is_taken_at_its_word_and_the_rest_stays():
    total, piece = PartialSum(LAYOUT), part(1, 3)
    update = random_values(piece.layout, 1)
    fold(total, update, 17.0, piece)
    made = total.finish(BASE, STEP)
    taken, before = piece.take(made), piece.take(BASE)
    np.testing.assert_array_equal(taken.trainable, before.trainable + update.trainable)
    rest = part(0, 2, 4)
    np.testing.assert_array_equal(rest.take(made).integers, rest.take(BASE).integers)
    np.testing.assert_array_equal(rest.take(made).float_buffers, rest.take(BASE).float_buffers)


def test_weights_far_apart_do_not_overflow():
    total = PartialSum(LAYOUT)
    for weight, piece in ((1.0, part(0, 1)), (2.0**60, part(1, 2))):
        update = Values.zeros(piece.layout, frozen=False)
        update.trainable.fill(1.0)
        fold(total, update, weight, piece)
    made = total.finish(Values.zeros(LAYOUT), STEP)
    up = next(view for spec, view in made.tensors() if spec.name == "up.weight")
    np.testing.assert_array_equal(up[:, 0], [1, 1, 1, 0, 0])


def test_tensors_of_many_blocks_are_made_block_by_block():
    rows, columns = 600, 500
    layout = Layout(
        (TensorSpec("x", (rows, columns), "float32", Kind.TRAINABLE),),
        (Group(rows, (Member("x", 0),)), Group(columns, (Member("x", 1),))),
    )
    assert rows * columns > 5 * BLOCK
    total = PartialSum(layout)
    weights = np.zeros((rows, columns))
    for number in range(3):
        piece = part_of(layout, Draw(1, number, 3, 0.6))
        update = Values.zeros(piece.layout)
        update.trainable.fill(number + 1)
        fold(total, update, float(number + 1), piece)
        weights[piece.index("x")] += number + 1
    expected = np.zeros((rows, columns))
    for number in range(3):
        expected[part_of(layout, Draw(1, number, 3, 0.6)).index("x")] += (number + 1) ** 2
    made = total.finish(Values.zeros(layout), STEP).trainable.reshape(rows, columns)
    np.testing.assert_allclose(made, expected / np.where(weights > 0, weights, 1), rtol=1e-6)
    assert (weights == 0).any()


def test_memory_is_that_of_one_model_whatever_the_number_of_clients():
    size = 512
    layout = Layout(
        (TensorSpec("x", (size, size), "float32", Kind.TRAINABLE),),
        (Group(size, (Member("x", 0),)), Group(size, (Member("x", 1),))),
    )
    base = Values.zeros(layout)
    encoded = []
    for number in range(8):
        piece = part_of(layout, Draw(1, number, 8, 0.75))
        encoded.append((piece, bytes(encode_update(random_values(piece.layout, number), CodecId.FLOAT32))))
    tracemalloc.start()
    total = PartialSum(layout)
    for piece, payload in encoded:
        total.fold_part(shape_of(piece.layout), payload, 1.0, piece)
    total.finish(base, STEP)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3.5 * layout.model_bytes


def test_weights_that_no_update_has_are_refused():
    total, piece = PartialSum(LAYOUT), part(0)
    for weight in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="weight"):
            fold(total, Values.zeros(piece.layout, frozen=False), weight, piece)
