"""A model, or the change of one, as flat buffers: one for each kind of tensor, in the layout's order.

Flat buffers are what codecs encode and what the sum adds up, with no loop over tensors. Named tensors are views.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muster_wire.checksum import Checksum128
from muster_wire.errors import LayoutError
from muster_wire.layout import Kind, Layout, Span, TensorSpec

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

_ORDER: Final = (Kind.TRAINABLE, Kind.FLOAT_BUFFER, Kind.INTEGER_BUFFER, Kind.FROZEN)  # of the buffers


@dataclass(frozen=True, slots=True, eq=False)
class Values:
    """The numbers of a model. An update is the same without frozen tensors: differences, and absolute integers.

    Buffers are one-dimensional and contiguous; LayoutError if one doesn't fit the layout.
    """

    layout: Layout
    trainable: Floats
    float_buffers: Floats
    integers: Integers
    frozen: Floats

    def __post_init__(self) -> None:
        layout = self.layout
        _check("trainable", self.trainable, np.float32, (layout.trainable_size,))
        _check("float buffers", self.float_buffers, np.float32, (layout.float_buffer_size,))
        _check("integers", self.integers, np.int64, (layout.integer_size,))
        _check("frozen", self.frozen, np.float32, (layout.frozen_size, 0))

    @classmethod
    def zeros(cls, layout: Layout, *, frozen: bool = True) -> Values:
        """A model of zeros, to be filled through `tensors`; without `frozen`, an update of zeros."""
        return cls(
            layout,
            np.zeros(layout.trainable_size, np.float32),
            np.zeros(layout.float_buffer_size, np.float32),
            np.zeros(layout.integer_size, np.int64),
            np.zeros(layout.frozen_size if frozen else 0, np.float32),
        )

    @classmethod
    def gather(cls, layout: Layout, arrays: Mapping[str, NDArray[Any]]) -> Values:
        """Copies named arrays into flat buffers, converting to float32 and int64. LayoutError names what is missing."""
        values = cls.zeros(layout)
        for spec, view in values.tensors():
            array = arrays.get(spec.name)
            if array is None:
                raise LayoutError(f"{spec.name}: the layout has this tensor and the model hasn't")
            if array.shape != spec.shape:
                raise LayoutError(f"{spec.name}: the model has shape {array.shape} and the layout {spec.shape}")
            view[...] = array
        return values

    def tensors(self) -> Iterator[tuple[TensorSpec, NDArray[Any]]]:
        """Every tensor in order, as a view of its buffer in its own shape; an update has no frozen ones."""
        for span in self.layout.spans:
            if span.spec.kind is not Kind.FROZEN or self.has_frozen:
                yield span.spec, self._view(span)

    def sealed(self) -> Values:
        """The same numbers as read-only views: what is shared between threads is given out like this."""
        return Values(self.layout, *map(_read_only, self.buffers))

    @property
    def has_frozen(self) -> bool:
        return self.frozen.size == self.layout.frozen_size

    @property
    def buffers(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        return self.trainable, self.float_buffers, self.integers, self.frozen

    def digest(self) -> str:
        """XXH3-128 over the layout's digest and the buffers: the name of a version of a model."""
        state = Checksum128()
        state.update(self.layout.digest.encode())
        for buffer in self.buffers:
            state.update(buffer.data)
        return state.hexdigest()

    def _view(self, span: Span) -> NDArray[Any]:
        buffer = self.buffers[_ORDER.index(span.spec.kind)]
        return buffer[span.start : span.stop].reshape(span.spec.shape)


def difference(local: Values, base: Values) -> Values:
    """The update that leads from `base` to `local`: float differences, and the local integers as they are."""
    if local.layout != base.layout:
        raise LayoutError("the local model and its base have different layouts")
    return Values(
        local.layout,
        local.trainable - base.trainable,
        local.float_buffers - base.float_buffers,
        local.integers,
        np.zeros(0, np.float32),
    )


def applied(update: Values, base: Values) -> Values:
    """Where an update leads to from `base`: the opposite of `difference`."""
    if update.layout != base.layout:
        raise LayoutError("the update and its base have different layouts")
    return Values(
        base.layout,
        base.trainable + update.trainable,
        base.float_buffers + update.float_buffers,
        update.integers,
        base.frozen,
    )


def _check(name: str, buffer: NDArray[Any], dtype: type[np.generic], sizes: tuple[int, ...]) -> None:
    if buffer.ndim != 1 or buffer.dtype != dtype or buffer.size not in sizes or not buffer.flags.c_contiguous:
        raise LayoutError(
            f"{name}: the layout wants {sizes[0]} contiguous values of {np.dtype(dtype)}, "
            f"not shape {buffer.shape} of {buffer.dtype}"
        )


def _read_only(buffer: NDArray[Any]) -> NDArray[Any]:
    view = buffer.view()
    view.flags.writeable = False
    return view
