"""What FedMA has to know of a model's inside: a chain of layers, each of whose units the next one reads.

Wang et al. 2020, "Federated learning with matched averaging": networks of dense and convolutional layers, matched one
layer after the other. Which axes carry the same units a layout's groups say (groups.py). Here they have to make one
chain: the units of each layer come from one weight and its bias, and one weight reads them. So no residual connections,
no batch norm, no shared weights. Both sides cut and grow tensors by these rules (docs/wire.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muster_wire.errors import LayoutError
from muster_wire.groups import Group
from muster_wire.layout import Kind, Layout, TensorSpec

CLASSES: Final = "muster.classes"  # with the last layer of a client: how many examples it has of each class

Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: [units, inputs, …] and, where there is one, its bias [units]. Each unit of the layer before lies in
    `repeat` neighbouring inputs: a flattened channel in as many as it has places.
    """

    weight: str
    bias: str | None
    repeat: int = 1

    @property
    def tensors(self) -> tuple[str, ...]:
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


Chain = tuple[Layer, ...]


def chain_of(layout: Layout) -> Chain:
    """The layers of a model, first to last. LayoutError, with the reason, for a model that is no such chain."""
    shapes = {spec.name: spec.shape for spec in layout.tensors if spec.kind is Kind.TRAINABLE}
    odd = next((spec for spec in layout.tensors if spec.kind is not Kind.TRAINABLE), None)
    if odd is not None:
        raise LayoutError(
            f"{odd.name}: layers with running statistics (batch norm) or frozen parameters aren't matched"
        )
    empty = next((spec for spec in layout.tensors if not spec.size), None)
    if empty is not None:
        raise LayoutError(f"{empty.name}: a layer without values isn't matched")
    if CLASSES in shapes:
        raise LayoutError(
            f"{CLASSES}: this name is taken by what clients send with their last layer; rename the tensor"
        )
    made = [_layer_of(group, shapes) for group in layout.groups]
    if not made:
        raise LayoutError("no layer of this model has units that only one other layer reads")
    by_weight = {layer.weight: (layer, reader, repeat) for layer, reader, repeat in made}
    read = {reader for _, reader, _ in made}
    first = [layer.weight for layer, _, _ in made if layer.weight not in read]
    chain, name, repeat = [], first[0] if len(first) == 1 else "", 1
    while name in by_weight:
        layer, reader, following = by_weight.pop(name)
        chain.append(replace(layer, repeat=repeat))
        name, repeat = reader, following
    used = {tensor for layer in chain for tensor in layer.tensors} | {name}
    chain.append(Layer(name, _last_bias(shapes, name, used), repeat))
    left = shapes.keys() - {tensor for layer in chain for tensor in layer.tensors}
    if by_weight or left or name not in shapes:
        where = min(left or by_weight or {name})
        raise LayoutError(f"{where}: the model's layers don't form one chain, each read by the next one only")
    return tuple(chain)


def _layer_of(group: Group, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Layer, str, int]:
    """What makes a group's units, what reads them, and how many inputs each of them has there."""
    makers = [m for m in group.members if m.axis == 0 and len(shapes.get(m.tensor, ())) > 1]
    biases = [m for m in group.members if m.axis == 0 and len(shapes.get(m.tensor, ())) == 1]
    readers = [m for m in group.members if m.axis == 1]
    if len(makers) != 1 or len(biases) > 1 or len(readers) != 1 or len(group.members) != 2 + len(biases):
        raise LayoutError(f"{group.members[0].tensor}: its units are made or read by more than one layer")
    if any(member.repeat > 1 for member in (*makers, *biases)):
        raise LayoutError(f"{makers[0].tensor}: each of its units is made as several, which aren't matched")
    return Layer(makers[0].tensor, biases[0].tensor if biases else None), readers[0].tensor, readers[0].repeat


def _last_bias(shapes: Mapping[str, tuple[int, ...]], weight: str, used: set[str]) -> str | None:
    rows = shapes.get(weight, (0,))[0]
    return next((name for name, shape in shapes.items() if name not in used and shape == (rows,)), None)


def widths_of(layout: Layout, chain: Chain) -> tuple[int, ...]:
    """Units of every layer but the last, whose outputs are the model's."""
    shapes = {spec.name: spec.shape for spec in layout.tensors}
    return tuple(shapes[layer.weight][0] for layer in chain[:-1])


def with_units(layout: Layout, chain: Chain, widths: Sequence[int]) -> Layout:
    """The same model with so many units in each layer but the last."""
    shapes = {spec.name: list(spec.shape) for spec in layout.tensors}
    units: dict[str, int] = {}
    for at, width in enumerate(widths):
        units[chain[at].weight] = width
        for name in chain[at].tensors:
            shapes[name][0] = width
        shapes[chain[at + 1].weight][1] = width * chain[at + 1].repeat
    tensors = tuple(replace(spec, shape=tuple(shapes[spec.name])) for spec in layout.tensors)
    groups = tuple(Group(_units_of(group, units), group.members) for group in layout.groups)
    return Layout(tensors, groups)


def _units_of(group: Group, units: Mapping[str, int]) -> int:
    return next((units[member.tensor] for member in group.members if member.axis == 0 and member.tensor in units), 0)


def layer_layout(layout: Layout, chain: Chain, phase: int, units: int) -> Layout:
    """What a client sends in this phase: one layer with its own units, which reads the layer before as it was matched.

    With the last layer comes how many examples of each class it has seen.
    """
    specs = {spec.name: spec for spec in layout.tensors}
    is_last = phase == len(chain) - 1
    made = [specs[name] for name in chain[phase].tensors]
    if is_last:
        rows = made[0].shape[0]
        return Layout((*made, TensorSpec(CLASSES, (rows,), "float32", Kind.TRAINABLE)))
    return Layout(tuple(replace(spec, shape=(units, *spec.shape[1:])) for spec in made))


def spread(weight: NDArray[Any], places: Places, width: int, repeat: int) -> NDArray[Any]:
    """The weight that reads a layer of `width` units, of which this client's own are at these places: Π W.

    Of the other units it takes nothing.
    """
    wide = np.zeros((weight.shape[0], width * repeat, *weight.shape[2:]), weight.dtype)
    wide[:, inputs_of(places, repeat)] = weight
    return wide


def inputs_of(places: Places, repeat: int) -> Places:
    """Where the inputs from these units lie."""
    where: Places = (places[:, None] * repeat + np.arange(repeat)).reshape(-1)
    return where
