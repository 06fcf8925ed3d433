"""What takes the sum's place where a rule must see all updates at once (robust/): they are kept until the round closes.

`fold` puts an update into a file; `finish` reads some values of all of them at a time into fixed buffers. Memory is
the one model that comes out and those buffers, however many clients there are; a rule that asks for inner products
also gets n² of them. Disk is a float32 model for each update. What the last round came to, where a rule starts from
that, is read beside them from the file that it is kept in (serverstate.py).

Float buffers and integers become the middle value of all updates, under every rule: a running variance or a counter is
as good a place for an attack as a weight, and distances, which span the trainable values, would not see it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from muster_coordinator.clipping import scale_of
from muster_coordinator.robust import Rule
from muster_coordinator.robust.base import Wide, columns_in_order, middle
from muster_coordinator.rowfile import RowFile
from muster_coordinator.staging import Upload
from muster_coordinator.strategies import Step
from muster_wire.checksum import BytesLike
from muster_wire.layout import Layout
from muster_wire.payload import Shape
from muster_wire.values import Floats, Values

BUFFER_BYTES: Final = 2**21  # of float32 values that are read at a time
_WORKING_COPIES: Final = 6  # of the buffer: sorted, widened, and what a rule makes of it
_SQUARES: Final = 4  # n² numbers of eight bytes: products, distances, and what a rule makes of them
_NARROWEST: Final = 64
_TRAINABLE, _FLOAT_BUFFERS, _INTEGERS = 0, 1, 2


def comparing_bytes(updates: int) -> int:
    """Memory beside models that comparing so many updates takes, and one row that a rule may start from."""
    rows = updates + 1
    return (1 + _WORKING_COPIES) * max(BUFFER_BYTES, 4 * _NARROWEST * rows) + _SQUARES * 8 * rows**2


class Compared:
    """The updates of one round, for a rule. `finish` or `close` ends it."""

    def __init__(self, layout: Layout, rule: Rule, clip_norm: float | None, folder: Path) -> None:
        self.layout = layout
        self._rule = rule
        self._clip_norm = clip_norm
        self._rows = RowFile(layout, folder)
        self._scales: list[float] = []
        self._start: Floats | None = None

    @property
    def folded(self) -> int:
        return self._rows.count

    def fold(self, upload: Upload, weight: float) -> None:  # noqa: ARG002 -- everybody counts once, see robust/base.py
        """Keeps a complete, checked upload."""
        self.fold_payload(upload.shape, upload.view(), scale_of(upload.checked.norm, self._clip_norm))

    def fold_payload(self, shape: Shape, encoded: BytesLike, scale: float = 1.0) -> None:
        """The same for bytes that lie elsewhere."""
        self._rows.add(shape, encoded)
        self._scales.append(scale)

    def finish(self, base: Values, step: Step, start: Floats | None = None) -> Values:
        """The next model; it shares the base's frozen tensors. ValueError for fewer updates than the rule needs.

        `start` is what the last round came to, for rules that start from that; None: no change.
        """
        self._start = start
        try:
            return self._finish(base, step)
        finally:
            self.close()

    def _finish(self, base: Values, step: Step) -> Values:
        if self.folded < self._rule.least or base.layout != self.layout:
            raise ValueError(f"{self._rule.name} is for at least {self._rule.least} updates of one model")
        result = Values.zeros(self.layout, frozen=False)
        self._combine(base.trainable, step, result.trainable)
        self._take_middle(base.float_buffers, result.float_buffers)
        self._take_middle_integers(result)
        return Values(self.layout, result.trainable, result.float_buffers, result.integers, base.frozen)

    def close(self) -> None:
        self._rows.close()

    # --- passes over the rows -----------------------------------------------------------------------------------------

    def _combine(self, base: Floats, step: Step, result: Floats) -> None:
        count = self.folded + self._rule.starts_from_last
        shares = self._rule.shares(self._products(count) if self._rule.needs_products else np.zeros((count, count)))
        rows = [row for row, share in enumerate(shares) if share]
        kept = shares[rows]
        for columns, block in self._blocks(_TRAINABLE, result.size, rows):
            result[columns] = step(base[columns].astype(np.float64), self._rule.combine(block, kept))

    def _products(self, count: int) -> Wide:
        """Inner products of all rows' trainable values, in float64."""
        total = np.zeros((count, count))
        for _, block in self._blocks(_TRAINABLE, self.layout.trainable_size, range(count)):
            wide = block.astype(np.float64)
            total += wide @ wide.T
        return total

    def _take_middle(self, base: Floats, result: Floats) -> None:
        """A median moves variances below zero only by its own rounding: what the majority says is not negative."""
        for columns, block in self._blocks(_FLOAT_BUFFERS, result.size, range(self.folded)):
            moved = base[columns] + middle(columns_in_order(block))
            noise = 2 * float(np.finfo(np.float32).eps) * base[columns]
            moved[(moved < 0) & (moved >= -noise)] = 0.0
            result[columns] = moved

    def _take_middle_integers(self, result: Values) -> None:
        """The lower of the two in the middle: integers have no halves, and each is one that a client sent."""
        rows, width = range(self.folded), _width(self.folded, 8)
        for columns in _columns(result.integers.size, width):
            block = np.empty((self.folded, columns.stop - columns.start), np.int64)
            self._rows.read(_INTEGERS, columns, rows, block)
            place = (self.folded - 1) // 2
            result.integers[columns] = np.partition(block, place, axis=0)[place]

    def _blocks(self, part: int, size: int, rows: range | list[int]) -> Iterator[tuple[slice, Floats]]:
        """Some columns at a time, of these rows, each scaled as clipping says. The buffer is used again.

        The row after those of the updates is the start, and none of theirs to clip.
        """
        width = min(_width(len(rows), 4), max(size, 1))
        updates = [row for row in rows if row < self.folded]
        scales = np.array([self._scales[row] if row < self.folded else 1 for row in rows], np.float32)[:, None]
        buffer = np.empty(len(rows) * width, np.float32)
        for columns in _columns(size, width):
            block = buffer[: len(rows) * (columns.stop - columns.start)].reshape(len(rows), -1)
            self._rows.read(part, columns, updates, block)
            if len(updates) < len(rows):
                block[-1] = 0 if self._start is None else self._start[columns]
            if (scales != 1).any():
                block *= scales
            yield columns, block


def _width(rows: int, item_bytes: int) -> int:
    return max(BUFFER_BYTES // (item_bytes * max(rows, 1)), _NARROWEST)


def _columns(size: int, width: int) -> Iterator[slice]:
    for start in range(0, size, width):
        yield slice(start, min(start + width, size))
