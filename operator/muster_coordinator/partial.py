"""The sum of a round whose clients trained parts of the model: each element is averaged over those who had it.

For an element e, with r_i the relative weights of sums.py and P(e) the updates whose part has e,

    mean(e) = Σ_{i ∈ P(e)} r_i Δ_i(e) / Σ_{i ∈ P(e)} r_i            next(e) = step(base(e), mean(e))

as in HeteroFL (Diao et al. 2021, equation 5); an element that nobody had keeps its value. Integers are the maximum over
whoever had them. Where everybody has everything this is the plain sum, bit for bit.

The denominators are never stored. Updates of one part share one weight, a part is some places along each axis, and so
a tensor's denominators are a sum of outer products, made block by block when the round is over. Memory is that of the
plain sum, and one decoded update.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_coordinator.clipping import scale_of
from muster_coordinator.staging import Upload
from muster_coordinator.strategies import Step, Wide
from muster_coordinator.sums import BLOCK, Sum, average
from muster_wire import payload
from muster_wire.checksum import BytesLike
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import Shape
from muster_wire.submodel import Part
from muster_wire.values import Values

_NOBODYS = np.iinfo(np.int64).min


@dataclass(slots=True)
class _Share:
    """What the updates of one part weigh together."""

    part: Part
    weight: float


class PartialSum(Sum):
    """A sum of updates of parts. A part is told by its units, so that equal ones count as one."""

    def __init__(self, layout: Layout, clip_norm: float | None = None) -> None:
        super().__init__(layout, clip_norm)
        self._shares: dict[tuple[bytes, ...], _Share] = {}

    def fold(self, upload: Upload, weight: float) -> None:
        """Decodes a checked update of a part into the sum. ValueError for a weight that no update can have."""
        if upload.part is None:
            raise ValueError("an update without its part can't be put in its places")
        scale = scale_of(upload.checked.norm, self._clip_norm)
        self.fold_part(upload.shape, upload.view(), weight, upload.part, scale)

    def fold_part(self, shape: Shape, encoded: BytesLike, weight: float, part: Part, scale: float = 1.0) -> None:
        """The same for bytes that lie elsewhere, and with them scaled; it is the whole weight that counts."""
        relative = self._relative(weight)
        update = Values.zeros(part.layout, frozen=False)
        update.integers.fill(_NOBODYS)
        payload.accumulate(shape, encoded, update, relative * scale)
        for (spec, total), (_, piece) in zip(self._total.tensors(), update.tensors(), strict=True):
            index = part.index(spec.name)
            if spec.kind is Kind.INTEGER_BUFFER:
                total[index] = np.maximum(total[index], piece)
            else:
                total[index] += piece
        self._count(relative)
        key = tuple(units.tobytes() for units in part.units)
        self._shares.setdefault(key, _Share(part, 0.0)).weight += relative

    def _rescale(self, factor: float) -> None:
        super()._rescale(factor)
        for share in self._shares.values():
            share.weight /= factor

    def finish(self, base: Values, step: Step) -> Values:
        """The next model, as `Sum.finish` makes it."""
        total, folded = self._closed(base)
        steps = {Kind.TRAINABLE: step, Kind.FLOAT_BUFFER: average(folded)}
        before = {spec.name: view for spec, view in base.tensors()}
        for spec, view in total.tensors():
            if spec.kind in steps and view.size:
                self._advance(spec, np.atleast_1d(view), np.atleast_1d(before[spec.name]), steps[spec.kind])
        np.copyto(total.integers, base.integers, where=total.integers == _NOBODYS)
        return Values(self.layout, total.trainable, total.float_buffers, total.integers, base.frozen)

    def _advance(self, spec: TensorSpec, total: NDArray[np.float32], base: NDArray[np.float32], step: Step) -> None:
        rows = max(1, BLOCK * len(total) // total.size)
        for start in range(0, len(total), rows):
            block = slice(start, start + rows)
            weights = self._weights(spec, block)
            mean = total[block] / np.where(weights > 0, weights, 1.0)
            moved = step(base[block].astype(np.float64), mean)
            total[block] = np.where(weights > 0, moved, base[block])

    def _weights(self, spec: TensorSpec, rows: slice) -> Wide:
        """What the updates that had them weigh, for each element of these rows; of one unit where an axis is whole."""
        weights: Wide = np.zeros(1)
        for share in self._shares.values():
            weights = weights + share.weight * _presence(share.part, spec, rows)
        return weights


def _presence(part: Part, spec: TensorSpec, rows: slice) -> Wide:
    """One where a tensor's element is in the part, and zero where it isn't."""
    present: Wide = np.ones(1)
    for axis, places in part.axes(spec.name).items():
        along = np.zeros(spec.shape[axis])
        along[places] = 1.0
        along = along[rows] if axis == 0 else along
        present = present * along.reshape([-1] + [1] * (len(spec.shape) - 1 - axis))
    return present
