"""What is asked of a layout that somebody sent: whether its layers make a chain, and what it lacks of another one.

Few changes of a layout's text leave a layout, so here bytes say one by one what is in it, and all of them make one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from muster_coordinator.layered import LayeredSum
from muster_coordinator.strategies import add
from muster_wire.codecs import Pipeline
from muster_wire.errors import LayoutError
from muster_wire.groups import Group, Member
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.matching import CLASSES, chain_of, layer_layout, widths_of, with_units
from muster_wire.payload import PayloadKind, Shape, encode_update
from muster_wire.reduced import layout_without, missing_of, reduced
from muster_wire.values import Values

NAMES = ("a", "b", "c", "d", "e", CLASSES)
KINDS = (*[Kind.TRAINABLE] * 13, Kind.FLOAT_BUFFER, Kind.INTEGER_BUFFER, Kind.FROZEN)
MOST_VALUES = 2**12  # what is added up follows from the layout, and not from the bytes


class Told:
    """Bytes as numbers, one after the other, and then zeros for ever."""

    def __init__(self, data: bytes) -> None:
        self._left = iter(data)

    def below(self, bound: int) -> int:
        return next(self._left, 0) % bound

    def layout(self) -> Layout:
        """Tensors, and groups to which their axes are fitted. Raises LayoutError."""
        count = 1 + self.below(len(NAMES))
        kinds = [KINDS[self.below(len(KINDS))] for _ in range(count)]
        shapes = [[self.below(8) for _ in range(self.below(4))] for _ in range(count)]
        groups = tuple(self._group(shapes) for _ in range(self.below(5)))
        tensors = [
            TensorSpec(name, tuple(shape), "int64" if kind is Kind.INTEGER_BUFFER else "float32", kind)
            for name, kind, shape in zip(NAMES, kinds, shapes, strict=False)
        ]
        return Layout(tuple(tensors), groups)

    def _group(self, shapes: list[list[int]]) -> Group:
        units, members = 1 + self.below(4), []
        for _ in range(1 + self.below(4)):
            tensor, axis, repeat = self.below(len(shapes)), self.below(2), 1 + self.below(8) // 6
            if axis < len(shapes[tensor]):
                shapes[tensor][axis] = units * repeat
            members.append(Member(NAMES[tensor], axis, repeat))
        return Group(units, tuple(members))


def chain(data: bytes) -> None:
    """A model that is taken for a chain can be cut into its layers, which can grow, and it is the same chain then."""
    try:
        layout = Told(data).layout()
        layers = chain_of(layout)
    except LayoutError:
        return
    named = [name for layer in layers for name in layer.tensors]
    assert sorted(named) == sorted(spec.name for spec in layout.tensors)
    widths = widths_of(layout, layers)
    assert with_units(layout, layers, widths) == layout
    wider = with_units(layout, layers, [width + 1 for width in widths])
    assert chain_of(wider) == layers
    for phase, layer in enumerate(layers):
        part = layer_layout(layout, layers, phase, widths[phase] if phase < len(widths) else 0)
        assert {spec.name for spec in part.tensors} - {CLASSES} == set(layer.tensors)


def chains() -> Iterator[bytes]:
    """Two layers, the first with a bias; three; one that reads itself."""
    yield bytes([2, 0, 0, 0, 2, 3, 2, 1, 3, 2, 2, 3, 1, 2, 2, 0, 0, 0, 1, 0, 0, 2, 1, 0])
    yield bytes([2, 0, 0, 0, 2, 3, 2, 2, 2, 3, 2, 3, 2, 2, 2, 1, 0, 0, 0, 1, 1, 6, 1, 1, 1, 0, 0, 2, 1, 0])
    yield bytes([0, 0, 2, 3, 3, 1, 2, 1, 0, 0, 0, 0, 1, 0])


def lacking(data: bytes) -> None:
    """A model, and an update that may lack some of it or be another's: what is taken adds up, the rest stays."""
    told = Told(data)
    try:
        whole = told.layout()
        sent = _sent(whole, told)
    except LayoutError:
        return
    missing = missing_of(sent, whole)
    if missing is None:
        return
    assert layout_without(whole, missing) == sent
    if whole.total_size <= MOST_VALUES:
        _fold(whole, sent, missing)


def _sent(whole: Layout, told: Told) -> Layout:
    """Of the model's tensors some, turned round or not, one of them changed or none."""
    some = [spec for spec in whole.tensors if told.below(4)]
    turned = some[::-1] if told.below(8) == 1 else some
    match told.below(8):
        case 1:
            turned = [replace(spec, shape=(*spec.shape, 1)) for spec in turned[:1]] + turned[1:]
        case 2:
            turned = [replace(spec, kind=Kind.FROZEN) for spec in turned[:1]] + turned[1:]
        case 3:
            turned = [*turned, TensorSpec("stranger", (2,), "float32", Kind.TRAINABLE)]
    return Layout(tuple(turned), whole.groups if told.below(8) == 1 else ())


def _fold(whole: Layout, sent: Layout, missing: tuple[str, ...]) -> None:
    ones = Values.zeros(whole, frozen=False)
    ones.trainable[...] = 1
    update, total = reduced(ones, missing), LayeredSum(whole)
    shape = Shape(sent, PayloadKind.UPDATE, Pipeline())
    total.fold_layers(shape, encode_update(update, Pipeline()), 2.0)
    made = total.finish(Values.zeros(whole), add)
    for spec, values in made.tensors():
        is_there = spec.kind is Kind.TRAINABLE and spec.name not in missing
        assert np.array_equal(values, np.full(spec.shape, float(is_there)))


def some_lacking() -> Iterator[bytes]:
    """Of two trained tensors and buffers: all, the first alone, none."""
    model = [3, 0, 13, 0, 14, 1, 4, 1, 2, 2, 2, 3, 0, 0]
    for there in ((1, 1, 1, 1), (1, 1, 0, 1), (0, 1, 0, 1)):
        yield bytes([*model, *there])
