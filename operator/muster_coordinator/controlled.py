"""The sum of a round with control variates (strategies/scaffold.py): beside Σ w_i Δ_i, another Σ u_i Δ_i.

Each update is decoded into both as it comes. Memory is two models, however many clients there are.
"""

from __future__ import annotations

from muster_coordinator.staging import Upload
from muster_coordinator.sums import Sum
from muster_wire import payload
from muster_wire.checksum import BytesLike
from muster_wire.layout import Layout
from muster_wire.payload import Shape
from muster_wire.values import Floats, Values


class ControlledSum(Sum):
    """Two sums of the same updates."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._beside = Values.zeros(layout, frozen=False)

    @property
    def beside(self) -> Floats:
        """The other sum's trainable values, in the weights' own unit."""
        return self._beside.trainable

    def fold_beside(self, upload: Upload, weight: float) -> None:
        """Decodes an upload into the other sum."""
        self.fold_payload_beside(upload.shape, upload.view(), weight)

    def fold_payload_beside(self, shape: Shape, encoded: BytesLike, weight: float) -> None:
        """The same for bytes that lie elsewhere."""
        payload.accumulate(shape, encoded, self._beside, weight)
