"""The sum of one round: staged updates go in one at a time and are gone, the next model comes out.

Memory is one model, however many clients there are. Weights are taken relative to the first one, r_i = w_i / w_1
rounded to float32, and for each element of a trainable tensor or float buffer

    s    = fl(… fl(fl(r_1 Δ_1) + fl(r_2 Δ_2)) … + fl(r_n Δ_n))      in float32
    mean = s / Σ r_i                                                 in float64
    next = step(base, mean), for FedAvg base + mean                  in float64, rounded once to float32

Integers are the elementwise maximum of the updates'. What follows, with ε = 2⁻²³ (numpy's `eps` of float32):

- A lone client has r = 1 exactly, so the next model is fl(base + fl(local - base)): its own model to within one ulp of
  the larger of |base| and |local|.
- Each product and each addition is off by at most ε/2 of itself, and each r_i too, so another order of arrival changes
  the mean by no more than 4·n·ε·Σ|w_i Δ_i| / Σ w_i, and equal orders give equal bits.
- Norms of checked updates end at 2⁴⁰, and the unit moves up by a power of two (which rounds nothing) before a relative
  weight passes 2³², so no sum can overflow, whatever the weights.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from muster_coordinator.clipping import scale_of
from muster_coordinator.staging import Upload
from muster_coordinator.strategies import Step, Wide
from muster_wire import payload
from muster_wire.checksum import BytesLike
from muster_wire.layout import Layout
from muster_wire.payload import Shape
from muster_wire.values import Floats, Values

MAX_WEIGHT: Final = 2.0**64

BLOCK: Final = 32_768
_MAX_RELATIVE: Final = 2.0**32
_EPSILON: Final = float(np.finfo(np.float32).eps)


class Sum:
    """A running weighted sum of updates to one model. `finish` ends it; a round that fails just drops it."""

    def __init__(self, layout: Layout, clip_norm: float | None = None) -> None:
        self.layout = layout
        self._clip_norm = clip_norm
        self._total = Values.zeros(layout, frozen=False)
        self._total.integers.fill(np.iinfo(np.int64).min)
        self._unit = 0.0  # the first weight
        self._weight = 0.0  # of all, in units of the first
        self._folded = 0

    @property
    def folded(self) -> int:
        """How many updates are in it."""
        return self._folded

    def fold(self, upload: Upload, weight: float) -> None:
        """Decodes a complete, checked upload into the sum. ValueError for a weight that no update can have."""
        self.fold_payload(upload.shape, upload.view(), weight, scale_of(upload.checked.norm, self._clip_norm))

    def fold_payload(self, shape: Shape, encoded: BytesLike, weight: float, scale: float = 1.0) -> None:
        """The same for bytes that lie elsewhere, and with them scaled; it is the whole weight that counts."""
        relative = self._relative(weight)
        payload.accumulate(shape, encoded, self._total, relative * scale)
        self._count(relative)

    def _count(self, relative: float) -> None:
        """One more update is in it."""
        self._weight += relative
        self._folded += 1

    def _relative(self, weight: float) -> float:
        """The weight in the sum's unit, as float32 holds it."""
        if not 0 < weight <= MAX_WEIGHT:
            raise ValueError(f"an update's weight is above 0 and at most {MAX_WEIGHT:g}, not {weight:g}")
        self._unit = self._unit or weight
        if weight > self._unit * _MAX_RELATIVE:
            self._rescale(2.0 ** math.ceil(math.log2(weight / self._unit)))
        return float(np.float32(weight / self._unit))

    def _rescale(self, factor: float) -> None:
        """Makes the unit larger by a power of two, and so what is summed already smaller."""
        self._unit *= factor
        self._weight /= factor
        for buffer in (self._total.trainable, self._total.float_buffers):
            np.multiply(buffer, np.float32(1 / factor), out=buffer)

    def finish(self, base: Values, step: Step) -> Values:
        """The next model. It takes over this sum's memory, and shares the base's frozen tensors.

        `step` makes the next trainable values from the base's and the mean update, elementwise, block by block; float
        buffers are always averaged plainly.
        """
        total, folded = self._closed(base)
        _advance(total.trainable, base.trainable, self._weight, step)
        _advance(total.float_buffers, base.float_buffers, self._weight, average(folded))
        return Values(self.layout, total.trainable, total.float_buffers, total.integers, base.frozen)

    def _closed(self, base: Values) -> tuple[Values, int]:
        """What has been summed, and of how many updates: no more can come."""
        if not self._folded or base.layout != self.layout:
            raise ValueError("a sum is finished with the model it was opened for, and after at least one update")
        total, folded = self._total, self._folded
        self._total, self._folded = Values.zeros(Layout(())), 0
        return total, folded


def _advance(total: Floats, base: Floats, weight: float, step: Step) -> None:
    """Overwrites the sum with the next values."""
    for start in range(0, total.size, BLOCK):
        block = slice(start, start + BLOCK)
        mean = total[block].astype(np.float64)
        mean /= weight
        total[block] = step(base[block].astype(np.float64), mean)


def average(folded: int) -> Step:
    """A plain average that a variance survives.

    Variances are not negative, but one that shrank by more than float32 can resolve may come out just below zero, and
    batch norm would take its root. What is negative only by the rounding of the sum is zero.
    """

    def step(base: Wide, mean: Wide) -> Wide:
        moved = base + mean
        noise = 4 * folded * _EPSILON * base
        moved[(moved < 0) & (moved >= -noise)] = 0.0
        return moved

    return step
