from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_wire.errors import Cause, LayoutError
from muster_wire.layout import (
    FLOAT_DTYPES,
    INTEGER_DTYPES,
    MAX_ELEMENTS,
    MAX_JSON_BYTES,
    MAX_TENSORS,
    Kind,
    Layout,
    TensorSpec,
)

SPEC = TensorSpec("weight", (2, 3), "float32", Kind.TRAINABLE)


def text(**changes: Any) -> str:
    tensor = {"name": "weight", "shape": [2, 3], "dtype": "float32", "kind": "trainable"}
    return json.dumps({"tensors": [tensor | changes]})


def test_spans_lie_end_to_end_within_each_kind_in_the_models_order() -> None:
    layout = Layout(
        (
            SPEC,
            TensorSpec("mean", (4,), "float32", Kind.FLOAT_BUFFER),
            TensorSpec("bias", (), "float16", Kind.TRAINABLE),
            TensorSpec("count", (), "int64", Kind.INTEGER_BUFFER),
            TensorSpec("embedding", (5, 0), "float32", Kind.FROZEN),
        )
    )
    assert [(s.spec.name, s.start, s.stop) for s in layout.spans] == [
        ("weight", 0, 6),
        ("mean", 0, 4),
        ("bias", 6, 7),
        ("count", 0, 1),
        ("embedding", 0, 0),
    ]
    sizes = (layout.trainable_size, layout.float_buffer_size, layout.integer_size, layout.frozen_size)
    assert sizes == (7, 4, 1, 0)
    assert layout.model_bytes == 4 * 11 + 8


kinds = st.sampled_from([Kind.TRAINABLE, Kind.FLOAT_BUFFER, Kind.INTEGER_BUFFER, Kind.FROZEN])


@st.composite
def specs(draw: st.DrawFn, name: str) -> TensorSpec:
    kind = draw(kinds)
    dtype = draw(st.sampled_from(INTEGER_DTYPES if kind is Kind.INTEGER_BUFFER else FLOAT_DTYPES))
    return TensorSpec(name, tuple(draw(st.lists(st.integers(0, 9), max_size=4))), dtype, kind)


names = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=20)
layouts = st.lists(names, unique=True, max_size=8).flatmap(
    lambda found: st.tuples(*(specs(name) for name in found)).map(Layout)
)


@settings(deadline=None)
@given(layouts)
def test_json_round_trip_and_digest(layout: Layout) -> None:
    again = Layout.from_json(layout.to_json())
    assert again == layout
    assert again.digest == layout.digest
    assert Layout.from_json(layout.to_json().encode()) == layout


def test_order_changes_the_digest() -> None:
    other = TensorSpec("bias", (3,), "float32", Kind.TRAINABLE)
    assert Layout((SPEC, other)).digest != Layout((other, SPEC)).digest


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("", "not a layout"),
        ("[]", "not a layout"),
        ("{}", "not a layout"),
        ('{"tensors": [], "more": 1}', "not a layout"),
        ("[" * 100_000, "not a layout"),
        (b'{"tensors": [{"name": "\xff"}]}', "not a layout"),
        (text(extra=1), "not a layout"),
        (text(shape=[2.5]), "not a layout"),
        (text(shape="23"), "not a layout"),
        (text(kind="secret"), "not a layout"),
        (text(kind="private"), "never leaves its client"),
        (text(name=""), "1 to 512 bytes"),
        (text(name="a" * 513), "1 to 512 bytes"),
        (text(name="ä" * 257), "1 to 512 bytes"),
        (text(name="two\nlines"), "printable"),
        (text(name="__metadata__"), "safetensors keeps this name"),
        (text(shape=[-1]), "extent outside"),
        (text(shape=[2**36 + 1]), "extent outside"),
        (text(shape=[2**80]), "extent outside"),
        (text(shape=[2**20, 2**20]), "more than the"),
        (text(shape=[1] * 17), "17 dimensions"),
        (text(dtype="int64"), "a trainable tensor is one of"),
        (text(dtype="complex64"), "a trainable tensor is one of"),
        (text(kind="integerBuffer"), "a integerBuffer tensor is one of"),
    ],
)
def test_refuses_what_is_no_layout(document: str | bytes, complaint: str) -> None:
    with pytest.raises(LayoutError, match=complaint) as caught:
        Layout.from_json(document)
    assert caught.value.cause is Cause.WRONG_LAYOUT


def test_refuses_a_repeated_name() -> None:
    with pytest.raises(LayoutError, match="same name: weight"):
        Layout((SPEC, SPEC))


def test_refuses_too_many_tensors_and_too_much_text() -> None:
    tensors = tuple(TensorSpec(str(n), (), "float32", Kind.TRAINABLE) for n in range(MAX_TENSORS + 1))
    with pytest.raises(LayoutError, match="more than the 65536"):
        Layout(tensors)
    with pytest.raises(LayoutError, match="longer than"):
        Layout.from_json(b" " * (MAX_JSON_BYTES + 1))


def test_the_largest_layout_is_allowed_without_making_room_for_it() -> None:
    assert Layout((TensorSpec("weight", (MAX_ELEMENTS,), "float32", Kind.TRAINABLE),)).total_size == MAX_ELEMENTS


@settings(deadline=None)
@given(st.binary(max_size=200) | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_any_bytes_are_a_layout_or_a_layout_error(data: bytes | str) -> None:
    try:
        layout = Layout.from_json(data)
    except LayoutError:
        return
    assert Layout.from_json(layout.to_json()) == layout
