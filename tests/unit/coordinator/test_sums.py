"""The promises of sums.py: one client alone, any order, equal bits, bounded memory."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from muster_coordinator.strategies import FedAvg, FedProx, Step, Strategy, add
from muster_coordinator.sums import MAX_WEIGHT, Sum
from muster_wire.codecs import CodecId
from muster_wire.errors import PayloadError
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import MAX_NORM, PayloadKind, Shape, check, encode_update
from muster_wire.values import Floats, Values, difference

SIZE = 6
LAYOUT = Layout(
    (
        TensorSpec("weight", (SIZE,), "float32", Kind.TRAINABLE),
        TensorSpec("variance", (2,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("count", (), "int64", Kind.INTEGER_BUFFER),
        TensorSpec("backbone", (2,), "float32", Kind.FROZEN),
    )
)
SHAPE = Shape(LAYOUT, PayloadKind.UPDATE, CodecId.FLOAT32)
EPSILON = float(np.finfo(np.float32).eps)
STEP = add

floats = st.floats(-(2.0**30), 2.0**30, width=32)
vectors = hnp.arrays(np.float32, SIZE, elements=floats)
weights = st.integers(1, 10**7).map(float) | st.floats(2.0**-20, 2.0**40)
updates = st.lists(st.tuples(weights, vectors), min_size=1, max_size=6)


def model(trainable: Floats, variance: tuple[float, float] = (0, 0), count: int = 0) -> Values:
    values = Values.zeros(LAYOUT)
    values.trainable[:], values.float_buffers[:], values.integers[:] = trainable, variance, count
    values.frozen[:] = [7, 8]
    return values


def average(base: Values, locals_: list[tuple[float, Values]]) -> Values:
    total = Sum(LAYOUT)
    for weight, local in locals_:
        total.fold_payload(SHAPE, encode_update(difference(local, base), CodecId.FLOAT32), weight)
    return total.finish(base, STEP)


def mean_update(deltas: list[tuple[float, Floats]]) -> Floats:
    zero = model(np.zeros(SIZE, np.float32))
    return average(zero, [(weight, model(delta)) for weight, delta in deltas]).trainable


@settings(deadline=None, max_examples=300)
@given(base=vectors, local=vectors, weight=weights)
def test_one_client_alone_gives_its_own_model_to_within_one_ulp(base: Floats, local: Floats, weight: float) -> None:
    got = average(model(base, tuple(base[:2]), 3), [(weight, model(local, tuple(local[:2]), 2))])
    ulp = np.spacing(np.maximum(np.abs(base), np.abs(local)))
    assert (np.abs(got.trainable.astype(float) - local) <= ulp).all()
    assert got.integers.tolist() == [2]
    assert got.frozen.tolist() == [7, 8]


@settings(deadline=None, max_examples=300)
@given(base=vectors, steps=hnp.arrays(np.float32, SIZE, elements=st.floats(-0.5, 0.5, width=32)), weight=weights)
def test_a_client_that_moved_less_than_half_way_gets_its_own_model_to_the_bit(
    base: Floats, steps: Floats, weight: float
) -> None:
    """Where local lies between base/2 and 2·base the difference is exact (Sterbenz), and so is everything else."""
    local = base + base * steps
    assert average(model(base), [(weight, model(local))]).trainable.tobytes() == (local + np.float32(0)).tobytes()


@settings(deadline=None, max_examples=300)
@given(updates)
def test_the_mean_is_right_to_its_stated_error(deltas: list[tuple[float, Floats]]) -> None:
    exact = sum(w * d.astype(np.longdouble) for w, d in deltas) / sum(w for w, _ in deltas)
    size = sum(w * np.abs(d.astype(np.longdouble)) for w, d in deltas) / sum(w for w, _ in deltas)
    assert (np.abs(mean_update(deltas) - exact) <= 4 * len(deltas) * EPSILON * size + 1e-37).all()


@settings(deadline=None, max_examples=300)
@given(updates, st.randoms(use_true_random=False))
def test_another_order_of_arrival_changes_little(deltas: list[tuple[float, Floats]], random: object) -> None:
    shuffled = list(deltas)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    size = sum(w * np.abs(d.astype(float)) for w, d in deltas) / sum(w for w, _ in deltas)
    change = np.abs(mean_update(deltas).astype(float) - mean_update(shuffled))
    assert (change <= 4 * len(deltas) * EPSILON * size + 1e-37).all()


@settings(deadline=None)
@given(vectors, updates)
def test_the_same_sequence_gives_the_same_bits(base: Floats, found: list[tuple[float, Floats]]) -> None:
    locals_ = [(weight, model(local)) for weight, local in found]
    assert average(model(base), locals_).digest() == average(model(base), locals_).digest()


def step_of(strategy: Strategy) -> Step:
    return lambda base, mean: strategy.optimizer.step(base, mean, ())[0]


@settings(deadline=None)
@given(vectors, updates)
def test_fedprox_at_mu_0_sums_to_fedavgs_model_bit_for_bit(base: Floats, found: list[tuple[float, Floats]]) -> None:
    digests = []
    for strategy in (FedAvg(), FedProx()):
        total = Sum(LAYOUT)
        for examples, local in found:
            encoded = encode_update(difference(model(local), model(base)), CodecId.FLOAT32)
            total.fold_payload(SHAPE, encoded, float(math.ceil(examples)))
        digests.append(total.finish(model(base), step_of(strategy)).digest())
    assert digests[0] == digests[1]


@settings(deadline=None)
@given(updates, st.integers(-30, 30))
def test_weights_matter_only_as_ratios(deltas: list[tuple[float, Floats]], power: int) -> None:
    scaled = [(weight * 2.0**power, delta) for weight, delta in deltas]
    assume(all(weight <= MAX_WEIGHT for weight, _ in scaled))
    assert mean_update(scaled).tobytes() == mean_update(deltas).tobytes()


def test_equal_weights_average_plainly_whatever_they_are() -> None:
    deltas = [(37.0, np.full(SIZE, value, np.float32)) for value in (1, 2, 6)]
    assert mean_update(deltas).tolist() == [3.0] * SIZE


@pytest.mark.parametrize("order", list(itertools.permutations([1e-30, 1.0, 1e15])))
def test_weights_of_any_size_in_any_order_neither_overflow_nor_get_lost(order: tuple[float, ...]) -> None:
    side = MAX_NORM / math.sqrt(SIZE) * 0.99
    got = mean_update([(weight, np.full(SIZE, side if weight == 1e15 else -side, np.float32)) for weight in order])
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got, side, rtol=1e-6)


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf, 2.0**65])
def test_a_weight_that_no_update_can_have_is_refused_and_changes_nothing(weight: float) -> None:
    total = Sum(LAYOUT)
    encoded = encode_update(difference(model(np.ones(SIZE)), model(np.zeros(SIZE))), CodecId.FLOAT32)
    with pytest.raises(ValueError, match="weight is above 0"):
        total.fold_payload(SHAPE, encoded, weight)
    assert total.folded == 0
    total.fold_payload(SHAPE, encoded, 5.0)
    assert total.finish(model(np.zeros(SIZE)), STEP).trainable.tolist() == [1.0] * SIZE


def test_a_payload_that_does_not_fit_changes_nothing() -> None:
    total = Sum(LAYOUT)
    encoded = encode_update(difference(model(np.ones(SIZE)), model(np.zeros(SIZE))), CodecId.FLOAT32)
    with pytest.raises(PayloadError):
        total.fold_payload(SHAPE, encoded[:-8], 100.0)
    total.fold_payload(SHAPE, encoded, 5.0)
    assert total.folded == 1
    assert total.finish(model(np.zeros(SIZE)), STEP).trainable.tolist() == [1.0] * SIZE


def test_integers_are_the_largest_of_the_clients_and_buffers_the_plain_mean() -> None:
    base = model(np.zeros(SIZE), (1, 1), 10)
    locals_ = [(1.0, model(np.zeros(SIZE), (2, 4), 12)), (3.0, model(np.zeros(SIZE), (6, 8), 11))]
    got = average(base, locals_)
    assert got.integers.tolist() == [12]
    assert got.float_buffers.tolist() == [5, 7]


def test_a_variance_that_collapses_is_zero_and_not_just_below_it() -> None:
    base = model(np.zeros(SIZE), (1e6, 3e5))
    third = model(np.zeros(SIZE), (1e-6, 0.0))
    got = average(base, [(weight, third) for weight in (3.0, 1.1, 0.7, 13.3)])
    assert (got.float_buffers >= 0).all()
    assert (got.float_buffers <= 1).all()


def test_a_buffer_that_is_rightly_negative_stays_so() -> None:
    got = average(model(np.zeros(SIZE), (1, -1)), [(1.0, model(np.zeros(SIZE), (-0.5, -2)))])
    assert got.float_buffers.tolist() == [-0.5, -2]


def test_a_sum_needs_updates_and_its_own_base() -> None:
    with pytest.raises(ValueError, match="after at least one update"):
        Sum(LAYOUT).finish(model(np.zeros(SIZE)), STEP)
    total = Sum(LAYOUT)
    total.fold_payload(SHAPE, encode_update(Values.zeros(LAYOUT, frozen=False), CodecId.FLOAT32), 1.0)
    with pytest.raises(ValueError, match="the model it was opened for"):
        total.finish(Values.zeros(Layout(())), STEP)


@pytest.mark.parametrize("codec", CodecId)
def test_a_round_of_many_clients_takes_the_memory_of_one_model(codec: CodecId) -> None:
    layout = Layout((TensorSpec("weight", (2**22,), "float32", Kind.TRAINABLE),))
    base = Values.zeros(layout)
    shape = Shape(layout, PayloadKind.UPDATE, codec)
    encoded = encode_update(Values.zeros(layout, frozen=False), codec)
    tracemalloc.start()
    try:
        total = Sum(layout)
        for weight in range(1, 5):
            check(shape, encoded)
            total.fold_payload(shape, encoded, float(weight))
        total.finish(base, STEP)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < layout.model_bytes + 3 * 2**20
