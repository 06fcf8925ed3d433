"""Sums of updates some of which have only their last layers: each tensor is averaged over those who had it.

SALF (Lang et al. 2024, arXiv 2403.18375). With U_l the updates that have layer l, r_i their weights in sums.py, and
c_l = 1 / (1 - p_l) its correction (reach.py),

    Δ_l = c_l Σ_{i ∈ U_l} r_i Δ_{i,l} / Σ_{i ∈ U_l} r_i        next_l = step(base_l, Δ_l)

and base_l where U_l is empty: their (1/|U_l| Σ w_i - p_l w) / (1 - p_l). Memory is that of the plain sum, and one
decoded update. With nothing missing it is the plain sum, bit for bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np

from muster_coordinator.clipping import scale_of
from muster_coordinator.staging import Upload
from muster_coordinator.strategies import Step
from muster_coordinator.sums import BLOCK, Sum, average
from muster_wire import payload
from muster_wire.checksum import BytesLike
from muster_wire.layout import Kind, Layout, Span
from muster_wire.payload import Shape
from muster_wire.reduced import missing_of
from muster_wire.values import Floats, Values


class LayeredSum(Sum):
    """A sum of updates that may lack trainable tensors."""

    def __init__(self, layout: Layout, clip_norm: float | None = None) -> None:
        super().__init__(layout, clip_norm)
        self._lacking: defaultdict[str, float] = defaultdict(float)  # weight of the updates without the tensor

    def fold(self, upload: Upload, weight: float) -> None:
        """Decodes a checked update into the sum. ValueError for one of another model, or for an impossible weight."""
        scale = scale_of(upload.checked.norm, self._clip_norm)
        self.fold_layers(upload.shape, upload.view(), weight, scale)

    def fold_layers(self, shape: Shape, encoded: BytesLike, weight: float, scale: float = 1.0) -> None:
        """The same for bytes that lie elsewhere, and with them scaled."""
        if shape.layout == self.layout:
            self.fold_payload(shape, encoded, weight, scale)
            return
        missing = missing_of(shape.layout, self.layout)
        if missing is None:
            raise ValueError("an update has the model's tensors, or the model's without some that are trained")
        relative = self._relative(weight)
        update = Values.zeros(shape.layout, frozen=False)
        update.integers.fill(np.iinfo(np.int64).min)
        payload.accumulate(shape, encoded, update, relative * scale)
        pieces = {spec.name: view for spec, view in update.tensors()}
        for spec, total in self._total.tensors():
            if spec.kind is Kind.INTEGER_BUFFER:
                np.maximum(total, pieces[spec.name], out=total)
            elif spec.name in pieces:
                np.add(total, pieces[spec.name], out=total)
        for name in missing:
            self._lacking[name] += relative
        self._count(relative)

    def _rescale(self, factor: float) -> None:
        super()._rescale(factor)
        for name in self._lacking:
            self._lacking[name] /= factor

    def finish(self, base: Values, step: Step, corrections: Mapping[str, float] | None = None) -> Values:
        """The next model, as `Sum.finish` makes it; means of tensors are multiplied by their corrections."""
        weight = self._weight
        total, folded = self._closed(base)
        for span in _trainable(self.layout):
            left = weight - self._lacking[span.spec.name]
            factor = (corrections or {}).get(span.spec.name, 1.0)
            _advance(total.trainable, base.trainable, span, left if left > weight * 1e-9 else 0.0, factor, step)
        plainly = average(folded)
        for start in range(0, total.float_buffers.size, BLOCK):
            block = slice(start, start + BLOCK)
            mean = total.float_buffers[block].astype(np.float64) / weight
            total.float_buffers[block] = plainly(base.float_buffers[block].astype(np.float64), mean)
        return Values(self.layout, total.trainable, total.float_buffers, total.integers, base.frozen)


def _trainable(layout: Layout) -> Iterator[Span]:
    return (span for span in layout.spans if span.spec.kind is Kind.TRAINABLE)


def _advance(total: Floats, base: Floats, span: Span, weight: float, factor: float, step: Step) -> None:
    """Overwrites one tensor's sum with its next values; with the base's where nobody had it."""
    for start in range(span.start, span.stop, BLOCK):
        block = slice(start, min(start + BLOCK, span.stop))
        before, mean = base[block].astype(np.float64), total[block].astype(np.float64)
        mean = factor * (mean / weight) if weight else np.zeros_like(mean)
        total[block] = step(before, mean)
