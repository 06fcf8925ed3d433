"""Sums of updates that lack layers, against their equation in numpy; and what makes up for layers that seldom come."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from muster_coordinator.layered import LayeredSum
from muster_coordinator.reach import MOST, Reach
from muster_coordinator.records import AssignmentId, RoundCommit, UsedUpdate
from muster_coordinator.strategies import add
from muster_coordinator.sums import Sum
from muster_spec.clients import ClientId
from muster_wire.codecs import CodecId
from muster_wire.errors import PayloadError
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import PayloadKind, Shape, encode_update
from muster_wire.reduced import layout_without, missing_of, reduced
from muster_wire.values import Values

LAYOUT = Layout(
    (
        TensorSpec("first", (3, 2), "float32", Kind.TRAINABLE),
        TensorSpec("running", (2,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("last", (4,), "float32", Kind.TRAINABLE),
        TensorSpec("count", (), "int64", Kind.INTEGER_BUFFER),
    )
)


def values(seed: int) -> Values:
    rng, made = np.random.default_rng(seed), Values.zeros(LAYOUT, frozen=False)
    made.trainable[:] = rng.standard_normal(10, np.float32)
    made.float_buffers[:] = rng.standard_normal(2, np.float32)
    made.integers[:] = seed
    return made


def fold(total: Any, update: Values, weight: float) -> None:
    encoded = encode_update(update, CodecId.FLOAT32)
    shape = Shape(update.layout, PayloadKind.UPDATE, CodecId.FLOAT32)
    if isinstance(total, LayeredSum):
        total.fold_layers(shape, encoded, weight)
    else:
        total.fold_payload(shape, encoded, weight)


def test_each_tensor_is_averaged_over_those_who_sent_it() -> None:
    base, updates, weights = values(9), [values(seed) for seed in (1, 2, 3)], (10.0, 30.0, 5.0)
    total = LayeredSum(LAYOUT)
    fold(total, reduced(updates[0], ("first",)), weights[0])
    fold(total, updates[1], weights[1])
    fold(total, updates[2], weights[2])
    made = total.finish(base, add, {"first": 1.5, "last": 1.0})
    first = sum(w * u.trainable[:6].astype(float) for w, u in zip(weights[1:], updates[1:], strict=True)) / 35
    last = sum(w * u.trainable[6:].astype(float) for w, u in zip(weights, updates, strict=True)) / 45
    running = sum(w * u.float_buffers.astype(float) for w, u in zip(weights, updates, strict=True)) / 45
    np.testing.assert_allclose(made.trainable[:6], base.trainable[:6] + 1.5 * first, rtol=1e-6)
    np.testing.assert_allclose(made.trainable[6:], base.trainable[6:] + last, rtol=1e-6)
    np.testing.assert_allclose(made.float_buffers, base.float_buffers + running, rtol=1e-5)
    assert made.integers == [3]


def test_what_nobody_sent_stays() -> None:
    base, total = values(9), LayeredSum(LAYOUT)
    for seed, weight in ((1, 0.1), (2, 0.7)):
        fold(total, reduced(values(seed), ("first",)), weight)
    made = total.finish(base, add, {"first": 9.0})
    assert made.trainable[:6].tobytes() == base.trainable[:6].tobytes()
    assert not np.array_equal(made.trainable[6:], base.trainable[6:])


def test_with_nothing_missing_it_is_the_plain_sum_to_the_bit() -> None:
    """Weights far apart, so that the unit moves up as well."""
    base, plain, layered = values(9), Sum(LAYOUT), LayeredSum(LAYOUT)
    for seed, weight in ((1, 1.0), (2, 1e12), (3, 7.0)):
        for total in (plain, layered):
            fold(total, values(seed), weight)
    one, other = plain.finish(base, add), layered.finish(base, add)
    assert one.digest() == other.digest()


def test_denominators_move_with_the_unit() -> None:
    base, total = values(9), LayeredSum(LAYOUT)
    fold(total, reduced(values(1), ("first",)), 1.0)
    fold(total, values(2), 1e12)
    fold(total, values(3), 1e12)
    made = total.finish(base, add)
    mean = (values(2).trainable[:6].astype(float) + values(3).trainable[:6]) / 2
    np.testing.assert_allclose(made.trainable[:6], base.trainable[:6] + mean, rtol=1e-5)


def test_only_trainable_tensors_may_be_missing_and_not_all_of_them() -> None:
    assert missing_of(LAYOUT, LAYOUT) == ()
    assert missing_of(layout_without(LAYOUT, ("first",)), LAYOUT) == ("first",)
    assert missing_of(layout_without(LAYOUT, ("first", "last")), LAYOUT) is None
    assert missing_of(layout_without(LAYOUT, ("running",)), LAYOUT) is None
    assert missing_of(Layout(LAYOUT.tensors[::-1]), LAYOUT) is None
    wider = TensorSpec("last", (5,), "float32", Kind.TRAINABLE)
    assert missing_of(Layout((LAYOUT.tensors[1], wider, LAYOUT.tensors[3])), LAYOUT) is None
    stranger = Values.zeros(Layout((wider,)), frozen=False)
    with pytest.raises((ValueError, PayloadError)):
        fold(LayeredSum(LAYOUT), stranger, 1.0)


# --- corrections ------------------------------------------------------------------------------------------------------


def commit(number: int, *missing: tuple[str, ...], failed: int = 0) -> RoundCommit:
    used = tuple(
        UsedUpdate(
            client=ClientId(f"a/{index}"),
            assignment=AssignmentId(f"{number}.0.a/{index}"),
            round=number,
            examples=1,
            weight=1.0,
            steps=1,
            metrics={},
            missing=lacks,
        )
        for index, lacks in enumerate(missing)
    )
    return RoundCommit(
        round=number,
        attempt=0,
        epoch=1,
        base="",
        model="m",
        used=used,
        failed={ClientId(f"a/{9 + index}"): "late" for index in range(failed)},
        failed_attempts=0,
        started_s=0.0,
        seconds=1.0,
        bytes_up=0,
        bytes_down=0,
    )


def test_corrections_follow_from_how_often_a_layer_came() -> None:
    reach = Reach().after(commit(0, ())).after(commit(1, (), ())).after(commit(2, ("first",), (), failed=1))
    assert (reach.asked, reach.sent, reach.lacking) == (5, 4, {"first": 1})
    chance = (3 + 1) / (5 + 2)
    assert reach.corrections(3) == {"first": pytest.approx(1 / (1 - (1 - chance) ** 3))}
    assert Reach().corrections(3) == {}
    never = Reach(asked=10_000, sent=10_000, lacking={"first": 10_000})
    assert never.corrections(1) == {"first": MOST}


def test_corrected_layers_go_as_far_in_the_mean_as_if_everybody_sent_them() -> None:
    """Every way in which three clients may have the layer, by its chance: what the paper shows, and FedAvg lacks."""
    chance, updates = 0.4, np.array([1.0, 5.0, 3.0])
    nobody = (1 - chance) ** 3
    expected, averaged = 0.0, 0.0
    for there in product((0, 1), repeat=3):
        odds = np.prod([chance if one else 1 - chance for one in there])
        sent = updates[np.array(there, bool)]
        expected += odds * (sent.mean() / (1 - nobody) if len(sent) else 0.0)
        averaged += odds * sent.sum() / 3  # an average in which what is missing counts as nothing
    assert expected == pytest.approx(updates.mean())
    assert averaged == pytest.approx(chance * updates.mean())
