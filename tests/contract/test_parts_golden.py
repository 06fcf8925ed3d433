"""Golden bytes of parts of a model: what docs/wire.md says of groups and draws, written out."""

from __future__ import annotations

import pytest

from muster_wire.groups import Group, Member, groups_digest
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.messages import draw_from, draw_message
from muster_wire.submodel import Draw, draw_units, part_of
from muster_wire.v1 import federation_pb2 as pb

LAYOUT = Layout(
    (
        TensorSpec("up.weight", (4, 3), "float32", Kind.TRAINABLE),
        TensorSpec("up.bias", (4,), "float32", Kind.TRAINABLE),
        TensorSpec("down.weight", (2, 8), "float32", Kind.TRAINABLE),
    ),
    (Group(4, (Member("up.weight", 0), Member("up.bias", 0), Member("down.weight", 1, 2))),),
)
LAYOUT_JSON = (
    '{"tensors":['
    '{"name":"up.weight","shape":[4,3],"dtype":"float32","kind":"trainable"},'
    '{"name":"up.bias","shape":[4],"dtype":"float32","kind":"trainable"},'
    '{"name":"down.weight","shape":[2,8],"dtype":"float32","kind":"trainable"}],'
    '"groups":[{"units":4,"members":[["up.weight",0,1],["up.bias",0,1],["down.weight",1,2]]}]}'
)
GROUPS_DIGEST = "90f5852dd6babbbaf19f039c6f9e7567"
SEED = 0x0102030405060708


def test_the_layouts_text_and_the_groups_digest() -> None:
    assert LAYOUT.to_json() == LAYOUT_JSON
    assert LAYOUT.digest == "bd0e2eaf576ad172b1f5d94596f7298f"
    assert groups_digest(LAYOUT.groups) == GROUPS_DIGEST


def test_the_parts_layout() -> None:
    part = part_of(LAYOUT, Draw(SEED, 1, 3, 0.5))
    assert [units.tolist() for units in part.units] == [[0, 3]]
    assert part.layout.to_json() == (
        '{"tensors":['
        '{"name":"up.weight","shape":[2,3],"dtype":"float32","kind":"trainable"},'
        '{"name":"up.bias","shape":[2],"dtype":"float32","kind":"trainable"},'
        '{"name":"down.weight","shape":[2,4],"dtype":"float32","kind":"trainable"}]}'
    )


@pytest.mark.parametrize(
    ("number", "units"), [(0, [0, 2, 3, 4, 6, 7]), (1, [1, 3, 4, 7, 9, 10]), (2, [1, 2, 5, 6, 8, 10])]
)
def test_the_units_of_a_draw(number: int, units: list[int]) -> None:
    (found,) = draw_units((Group(11, (Member("up.bias", 0),)),), Draw(SEED, number, 3, 0.5))
    assert found.tolist() == units


def test_what_an_order_says() -> None:
    encoded = bytes.fromhex("08 888e98a8c0e0808101 10 01 18 03 21 000000000000e03f 2a 20") + GROUPS_DIGEST.encode()
    message = draw_message(Draw(SEED, 1, 3, 0.5), GROUPS_DIGEST)
    assert draw_from(pb.SubModel.FromString(message.SerializeToString())) == Draw(SEED, 1, 3, 0.5)
    assert message.SerializeToString() == encoded
