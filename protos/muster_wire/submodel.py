"""Parts of a model: some of the units of each group, drawn by a seed, and how numbers move between part and whole.

Federated dropout (Caldas et al. 2018, "Expanding the reach of federated learning by reducing client resource
requirements", section 4): a client is given a model that lacks a random share of the units, trains that and sends its
update. Here the parts of one round are windows of one random order of the units, begun at even distances, so that a
round's parts together train every unit about equally often (Alam et al. 2022, FedRolex, argue for the same between
rounds). Both sides draw for themselves: docs/wire.md says how, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muster_wire.feedback import Memory
from muster_wire.groups import Groups
from muster_wire.layout import Kind, Layout
from muster_wire.values import Floats, Values

MAX_MASKS: Final = 4096
ROUNDING: Final = 1e-9  # 55 % of 100 units are 55, though floating point says a little more

Places = NDArray[np.int64]
Index = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Draw:
    """One of the parts of a round, by numbers that fit into an order. ValueError for a draw that can't be."""

    seed: int  # the round's
    number: int
    masks: int  # parts of this round
    keep: float  # of the units of each group

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64 or not 0 <= self.number < self.masks <= MAX_MASKS or not 0 < self.keep <= 1:
            raise ValueError(f"part {self.number} of {self.masks} with a share of {self.keep} is no part of a model")


def draw_units(groups: Groups, draw: Draw) -> tuple[Places, ...]:
    """Of each group, the units that are in the part, rising; at least one."""
    words = np.random.Philox(key=draw.seed)
    return tuple(_window(words.random_raw(group.units), draw) for group in groups)


def _window(words: NDArray[np.uint64], draw: Draw) -> Places:
    units = len(words)
    count = max(math.ceil(draw.keep * units - ROUNDING), 1)
    order = np.argsort(words, kind="stable")
    places = (draw.number * units // draw.masks + np.arange(count)) % units
    return np.sort(order[places])


@dataclass(frozen=True)
class Part:
    """A part of a model with this layout: the units of each of its groups that are kept, rising."""

    whole: Layout
    units: tuple[Places, ...]

    @cached_property
    def layout(self) -> Layout:
        """The layout of the part: the same tensors, some of them smaller; no part has parts of its own."""
        shapes = {name: self._shape(name, axes) for name, axes in self._axes.items()}
        return Layout(tuple(replace(spec, shape=shapes.get(spec.name, spec.shape)) for spec in self.whole.tensors))

    def take(self, values: Values) -> Values:
        """The part of a model, as a copy."""
        part = Values.zeros(self.layout, frozen=values.has_frozen)
        for (spec, whole), (_, smaller) in zip(values.tensors(), part.tensors(), strict=True):
            smaller[...] = whole[self.index(spec.name)]
        return part

    def take_trainable(self, whole: Floats) -> Floats:
        """The same for one flat buffer of trainable values."""
        part = np.empty(self.layout.trainable_size, np.float32)
        for index, inner, outer in self._trainables(whole, part):
            outer[...] = inner[index]
        return part

    def put_trainable(self, whole: Floats, part: Floats) -> None:
        """Overwrite, in the whole's flat buffer, what lies in the part."""
        for index, inner, outer in self._trainables(whole, part):
            inner[index] = outer

    def axes(self, name: str) -> Mapping[int, Places]:
        """What is kept of a tensor, along each axis that gets smaller."""
        return self._axes.get(name, {})

    def index(self, name: str) -> Index:
        """Where the part of a tensor lies in the whole one: an index that numpy keeps in the tensor's shape."""
        axes = self._axes.get(name)
        if axes is None:
            return (...,)
        first, last = min(axes), max(axes)
        shape = self._shapes[name]
        mesh = np.ix_(*(axes.get(axis, np.arange(shape[axis])) for axis in range(first, last + 1)))
        return (slice(None),) * first + mesh

    def _trainables(self, whole: Floats, part: Floats) -> Iterator[tuple[Index, Floats, Floats]]:
        for span, other in zip(self.whole.spans, self.layout.spans, strict=True):
            if span.spec.kind is Kind.TRAINABLE:
                inner = whole[span.start : span.stop].reshape(span.spec.shape)
                outer = part[other.start : other.stop].reshape(other.spec.shape)
                yield self.index(span.spec.name), inner, outer

    @cached_property
    def _axes(self) -> Mapping[str, dict[int, Places]]:
        return places_of(self.whole.groups, self.units)

    @cached_property
    def _shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {spec.name: spec.shape for spec in self.whole.tensors}

    def _shape(self, name: str, axes: Mapping[int, Places]) -> tuple[int, ...]:
        return tuple(len(axes[axis]) if axis in axes else size for axis, size in enumerate(self._shapes[name]))


def part_of(layout: Layout, draw: Draw) -> Part:
    """What a draw leaves of a model."""
    return Part(layout, draw_units(layout.groups, draw))


def places_of(groups: Groups, units: Iterable[Places]) -> dict[str, dict[int, Places]]:
    """Of each tensor that gets smaller, what is kept along which axis."""
    axes: dict[str, dict[int, Places]] = {}
    for group, kept in zip(groups, units, strict=True):
        for member in group.members:
            spread = kept[:, None] * member.repeat + np.arange(member.repeat)
            axes.setdefault(member.tensor, {})[member.axis] = spread.reshape(-1)
    return axes


# --- what a client remembers ------------------------------------------------------------------------------------------


def narrowed(memory: Memory, part: Part | None) -> Memory:
    """What is left to send of a part; of the whole model without one.

    A client remembers in the coordinates of the whole model: what one part left over is sent with the next part that
    has those units, as if the client had been left out for the rounds between.
    """
    if part is None:
        return memory
    residual, momentum = (
        part.take_trainable(each) if each.size else each for each in (memory.residual, memory.momentum)
    )
    return Memory(residual, momentum, memory.participations)


def widened(before: Memory, after: Memory, part: Part | None) -> Memory:
    """The memory of the whole after an update of a part: what doesn't lie in the part stays as it was."""
    if part is None:
        return after
    residual = _widened(before.residual, after.residual, part)
    return Memory(residual, _widened(before.momentum, after.momentum, part), after.participations)


def _widened(before: Floats, after: Floats, part: Part) -> Floats:
    if not after.size:
        return before
    whole = before.copy() if before.size else np.zeros(part.whole.trainable_size, np.float32)
    part.put_trainable(whole, after)
    return whole
