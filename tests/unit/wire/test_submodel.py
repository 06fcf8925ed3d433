"""Groups of units, what a draw leaves of a model, and how numbers move between part and whole."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_wire.errors import LayoutError, PayloadError
from muster_wire.feedback import Memory
from muster_wire.groups import Group, Member, groups_digest
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.messages import draw_from, draw_message
from muster_wire.submodel import Draw, Part, draw_units, narrowed, part_of, widened
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values

TENSORS = (
    TensorSpec("conv.weight", (4, 1, 3, 3), "float32", Kind.TRAINABLE),
    TensorSpec("conv.bias", (4,), "float32", Kind.TRAINABLE),
    TensorSpec("norm.running_mean", (4,), "float32", Kind.FLOAT_BUFFER),
    TensorSpec("norm.count", (4,), "int64", Kind.INTEGER_BUFFER),
    TensorSpec("fixed.weight", (3, 4, 2), "float32", Kind.FROZEN),
    TensorSpec("hidden.weight", (5, 8), "float32", Kind.TRAINABLE),
    TensorSpec("out.weight", (2, 5), "float32", Kind.TRAINABLE),
    TensorSpec("out.bias", (2,), "float32", Kind.TRAINABLE),
)
CHANNELS = Group(
    4,
    (
        Member("conv.weight", 0),
        Member("conv.bias", 0),
        Member("norm.running_mean", 0),
        Member("norm.count", 0),
        Member("fixed.weight", 1),
        Member("hidden.weight", 1, 2),
    ),
)
HIDDEN = Group(5, (Member("hidden.weight", 0), Member("out.weight", 1)))
LAYOUT = Layout(TENSORS, (CHANNELS, HIDDEN))


def model() -> Values:
    values = Values.zeros(LAYOUT)
    for start, (_, view) in enumerate(values.tensors()):
        view[...] = 1000 * start + np.arange(view.size).reshape(view.shape)
    return values


PART = Part(LAYOUT, (np.array([1, 3]), np.array([0, 2, 4])))


# --- groups -----------------------------------------------------------------------------------------------------------


def test_groups_are_part_of_a_layouts_text_and_of_its_name():
    text = LAYOUT.to_json()
    assert Layout.from_json(text) == LAYOUT
    assert json.loads(text)["groups"][1] == {"units": 5, "members": [["hidden.weight", 0, 1], ["out.weight", 1, 1]]}
    assert LAYOUT.digest != Layout(TENSORS).digest
    assert "groups" not in Layout(TENSORS).to_json()
    assert groups_digest(LAYOUT.groups) != groups_digest(LAYOUT.groups[:1])


@pytest.mark.parametrize(
    ("group", "said"),
    [
        ({"units": 4, "members": [["nobody", 0, 1]]}, "none of this name"),
        ({"units": 4, "members": [["conv.bias", 1, 1]]}, "1 axes"),
        ({"units": 4, "members": [["conv.bias", -1, 1]]}, "axis -1"),
        ({"units": 3, "members": [["conv.bias", 0, 1]]}, "are not the 4 of axis 0"),
        ({"units": 2, "members": [["conv.bias", 0, 1]]}, "are not the 4 of axis 0"),
        ({"units": 4, "members": [["conv.bias", 0, 0]]}, "are not the 4"),
        ({"units": -4, "members": [["conv.bias", 0, -1]]}, "at least one unit"),
        ({"units": 4, "members": []}, "one member"),
        ({"units": 4, "members": [["conv.bias", 0, 1], ["conv.bias", 0, 1]]}, "twice in one"),
        ({"units": 4, "members": [["conv.bias", 0, 1, 9]]}, "not a layout"),
        ({"units": 4, "members": [["conv.bias", 0.5, 1]]}, "not a layout"),
        ({"units": 2**70, "members": [["conv.bias", 0, 1]]}, "layout|are not"),
        ({"units": 4, "members": [["conv.bias", 0, 1]], "more": 1}, "not a layout"),
    ],
)
def test_hostile_groups_are_refused(group, said):
    document = json.loads(Layout(TENSORS).to_json()) | {"groups": [group]}
    with pytest.raises(LayoutError, match=said):
        Layout.from_json(json.dumps(document))


def test_an_axis_is_in_one_group_only():
    with pytest.raises(LayoutError, match="in two groups"):
        Layout(TENSORS, (HIDDEN, Group(5, (Member("out.weight", 1),))))


# --- draws ------------------------------------------------------------------------------------------------------------


def test_a_draw_is_the_same_everywhere():
    """The numbers of docs/wire.md: whoever changes them parts from every client out there."""
    draw = Draw(seed=7, number=1, masks=4, keep=0.5)
    found = [units.tolist() for units in draw_units((Group(10, (Member("x", 0),)), HIDDEN), draw)]
    words = np.random.Philox(key=7).random_raw(15)
    orders = np.argsort(words[:10], kind="stable"), np.argsort(words[10:], kind="stable")
    assert found == [sorted(orders[0][2:7].tolist()), sorted(orders[1][1:4].tolist())]
    assert found == [[1, 2, 3, 6, 7], [0, 1, 4]]


@given(units=st.integers(1, 40), masks=st.integers(1, 8), keep=st.floats(0.01, 1), seed=st.integers(0, 2**64 - 1))
def test_parts_have_the_share_that_is_kept_and_together_wear_units_evenly(units, masks, keep, seed):
    groups = (Group(units, (Member("x", 0),)),)
    parts = [draw_units(groups, Draw(seed, number, masks, keep))[0] for number in range(masks)]
    count = max(math.ceil(keep * units - 1e-9), 1)
    for part in parts:
        assert len(part) == count == len(set(part.tolist()))
        assert (np.diff(part) > 0).all()
        assert 0 <= part[0] <= part[-1] < units
    times = np.bincount(np.concatenate(parts), minlength=units)
    assert times.max() - times.min() <= max(1, math.ceil(masks / units))


def test_a_share_of_one_keeps_everything():
    assert part_of(LAYOUT, Draw(1, 0, 2, 1.0)).layout == Layout(TENSORS)


def test_floating_point_adds_no_unit():
    assert len(draw_units((Group(100, (Member("x", 0),)),), Draw(1, 0, 1, 0.55))[0]) == 55


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": 4},
        {"masks": 0},
        {"masks": 2**32 - 1},
        {"keep": 0.0},
        {"keep": 1.5},
        {"keep": math.nan},
        {"keep": -1.0},
    ],
)
def test_hostile_draws_are_refused(wrong):
    message = pb.SubModel(seed=1, number=1, masks=4, keep=0.5)
    assert draw_message(draw_from(message), "") == message
    with pytest.raises(PayloadError, match="no part of a model"):
        draw_from(pb.SubModel(**({"seed": 1, "number": 1, "masks": 4, "keep": 0.5} | wrong)))


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_a_part_has_the_slices_of_its_units():
    values, part = model(), PART.take(model())
    whole, smaller = ({spec.name: view for spec, view in each.tensors()} for each in (values, part))
    assert {name: view.shape for name, view in smaller.items()} == {
        "conv.weight": (2, 1, 3, 3),
        "conv.bias": (2,),
        "norm.running_mean": (2,),
        "norm.count": (2,),
        "fixed.weight": (3, 2, 2),
        "hidden.weight": (3, 4),
        "out.weight": (2, 3),
        "out.bias": (2,),
    }
    np.testing.assert_array_equal(smaller["conv.weight"], whole["conv.weight"][[1, 3]])
    np.testing.assert_array_equal(smaller["fixed.weight"], whole["fixed.weight"][:, [1, 3]])
    np.testing.assert_array_equal(smaller["hidden.weight"], whole["hidden.weight"][[0, 2, 4]][:, [2, 3, 6, 7]])
    np.testing.assert_array_equal(smaller["out.weight"], whole["out.weight"][:, [0, 2, 4]])
    np.testing.assert_array_equal(smaller["norm.count"], whole["norm.count"][[1, 3]])
    np.testing.assert_array_equal(smaller["out.bias"], whole["out.bias"])


def test_axes_that_are_not_neighbours_keep_the_tensors_shape():
    layout = Layout(
        (TensorSpec("x", (2, 3, 4), "float32", Kind.TRAINABLE),),
        (Group(2, (Member("x", 0),)), Group(4, (Member("x", 2),))),
    )
    values = Values.zeros(layout)
    values.trainable[...] = np.arange(24)
    part = Part(layout, (np.array([1]), np.array([0, 3])))
    assert part.take(values).trainable.tolist() == [12, 15, 16, 19, 20, 23]


@given(st.integers(0, 2**32), st.floats(0.05, 1), st.integers(0, 2))
def test_what_is_put_back_is_what_was_taken(seed, keep, number):
    part = part_of(LAYOUT, Draw(seed, number, 3, keep))
    whole = model().trainable
    taken = part.take_trainable(whole)
    np.testing.assert_array_equal(taken, part.take(model()).trainable)
    changed = whole.copy()
    part.put_trainable(changed, taken + 0.5)
    np.testing.assert_array_equal(part.take_trainable(changed), taken + 0.5)
    assert (changed != whole).sum() == taken.size


def test_a_client_remembers_in_the_coordinates_of_the_whole_model():
    whole = Memory(model().trainable, np.zeros(0, np.float32), 3)
    assert narrowed(whole, None) is whole
    smaller = narrowed(whole, PART)
    np.testing.assert_array_equal(smaller.residual, PART.take(model()).trainable)
    assert (smaller.momentum.size, smaller.participations) == (0, 3)

    after = Memory(-smaller.residual, np.ones_like(smaller.residual), 4)
    wide = widened(whole, after, PART)
    assert widened(whole, after, None) is after
    np.testing.assert_array_equal(PART.take_trainable(wide.residual), after.residual)
    assert wide.momentum.sum() == smaller.residual.size
    assert wide.participations == 4
    elsewhere = np.ones_like(whole.residual)
    PART.put_trainable(elsewhere, np.zeros_like(after.residual))
    np.testing.assert_array_equal(wide.residual * elsewhere, whole.residual * elsewhere)
    nothing = widened(whole, Memory(np.zeros(0, np.float32), np.zeros(0, np.float32), 4), PART)
    np.testing.assert_array_equal(nothing.residual, whole.residual)
