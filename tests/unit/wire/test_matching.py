"""Chains of layers: which models are one, and how their tensors grow and are read."""

import numpy as np
import pytest

from muster_wire.errors import LayoutError
from muster_wire.groups import Group, Member
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.matching import CLASSES, Layer, chain_of, inputs_of, layer_layout, spread, widths_of, with_units


def spec(name, *shape, kind=Kind.TRAINABLE):
    return TensorSpec(name, shape, "int64" if kind is Kind.INTEGER_BUFFER else "float32", kind)


def network(*more, groups=None):
    """Two convolutions and a dense layer that reads 2 x 2 places of each channel."""
    tensors = [
        spec("a.weight", 4, 1, 3, 3),
        spec("a.bias", 4),
        spec("b.weight", 6, 4, 3, 3),
        spec("b.bias", 6),
        spec("c.weight", 10, 24),
        spec("c.bias", 10),
    ]
    usual = (
        Group(4, (Member("a.weight", 0), Member("a.bias", 0), Member("b.weight", 1))),
        Group(6, (Member("b.weight", 0), Member("b.bias", 0), Member("c.weight", 1, 4))),
    )
    return Layout((*tensors, *more), usual if groups is None else groups)


CHAIN = (Layer("a.weight", "a.bias"), Layer("b.weight", "b.bias"), Layer("c.weight", "c.bias", 4))


def test_a_network_is_a_chain_whatever_order_its_groups_come_in():
    assert chain_of(network()) == CHAIN
    assert chain_of(Layout(network().tensors, network().groups[::-1])) == CHAIN
    assert widths_of(network(), CHAIN) == (4, 6)


@pytest.mark.parametrize(
    ("layout", "what"),
    [
        (network(spec("n.running_mean", 6, kind=Kind.FLOAT_BUFFER)), "batch norm"),
        (network(spec("n.count", kind=Kind.INTEGER_BUFFER)), "batch norm"),
        (network(spec("frozen", 6, kind=Kind.FROZEN)), "frozen"),
        (network(spec("stray.weight", 3, 3)), "stray.weight"),
        (network(groups=()), "only one other layer reads"),
        (network(groups=network().groups[:1]), "don't form one chain"),
        (
            network(
                spec("d.weight", 3, 4),
                groups=(Group(4, (*network().groups[0].members, Member("d.weight", 1))), network().groups[1]),
            ),
            "more than one layer",
        ),
        (
            network(groups=(Group(2, (Member("a.weight", 0, 2), Member("b.weight", 1, 2))), network().groups[1])),
            "made as several",
        ),
        (network(spec(CLASSES, 10)), "rename the tensor"),
        (network(spec("none.weight", 0, 6)), "without values"),
    ],
)
def test_other_models_are_refused_with_the_reason(layout, what):
    with pytest.raises(LayoutError, match=what):
        chain_of(layout)


def test_layers_grow_with_what_reads_them():
    grown = with_units(network(), CHAIN, (5, 9))
    shapes = {each.name: each.shape for each in grown.tensors}
    assert shapes == {
        "a.weight": (5, 1, 3, 3),
        "a.bias": (5,),
        "b.weight": (9, 5, 3, 3),
        "b.bias": (9,),
        "c.weight": (10, 36),
        "c.bias": (10,),
    }
    assert [group.units for group in grown.groups] == [5, 9]
    assert chain_of(grown) == CHAIN
    assert with_units(grown, CHAIN, (4, 6)) == network()


def test_what_a_client_sends_is_its_own_units_of_one_layer():
    grown = with_units(network(), CHAIN, (5, 6))
    hidden = layer_layout(grown, CHAIN, 1, 6)
    assert [(each.name, each.shape) for each in hidden.tensors] == [("b.weight", (6, 5, 3, 3)), ("b.bias", (6,))]
    last = layer_layout(grown, CHAIN, 2, 0)
    assert [(each.name, each.shape) for each in last.tensors] == [
        ("c.weight", (10, 24)),
        ("c.bias", (10,)),
        (CLASSES, (10,)),
    ]


def test_a_layer_reads_its_units_where_they_have_gone():
    weight = np.arange(12, dtype=np.float32).reshape(2, 6)  # three units of two inputs each
    places = np.array([3, 0, 2])
    wide = spread(weight, places, 5, 2)
    assert inputs_of(places, 2).tolist() == [6, 7, 0, 1, 4, 5]
    assert wide.shape == (2, 10)
    assert wide[:, inputs_of(places, 2)].tolist() == weight.tolist()
    assert wide[:, [2, 3, 8, 9]].tolist() == [[0.0] * 4] * 2
