"""The updates of a round, decoded, side by side in one file without a name: a row for each.

Rules that must see all updates read a few values of every row at a time. Rows are float32 whatever codec the updates
came in, so that each is decoded once however often it is read, and written through the page cache: what a round
holds is disk, and no memory of this process.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muster_coordinator.errors import DiskError, StorageError
from muster_wire.checksum import BytesLike
from muster_wire.layout import Layout
from muster_wire.payload import Shape, decode_over
from muster_wire.values import Values

_PAGE: Final = mmap.ALLOCATIONGRANULARITY


class RowFile:
    """Rows are added one after another and read in slices of one of their three parts. `close` frees the disk."""

    def __init__(self, layout: Layout, folder: Path) -> None:
        self.layout = layout
        self.count = 0
        self._folder = folder
        self._starts, self._stride = _places(layout)
        self._file = _open(folder)

    def add(self, shape: Shape, encoded: BytesLike) -> None:
        """Decode a checked update into the next row. DiskError if the disk is full."""
        if not self._stride:  # a model without values: rows of nothing
            self.count += 1
            return
        start = self.count * self._stride
        try:
            os.posix_fallocate(self._file.fileno(), start, self._stride)  # else a full disk shows as SIGBUS
        except OSError as error:
            raise DiskError(
                f"{self._folder}: no room for the updates of a round ({error.strerror}): robust aggregation keeps all "
                "of them until it closes; free some disk there, or give the coordinator a larger volume"
            ) from error
        with mmap.mmap(self._file.fileno(), self._stride, offset=start) as row:
            _decode(shape, encoded, row, self._starts)
        self.count += 1

    def read(self, part: int, columns: slice, rows: Sequence[int], into: NDArray[Any]) -> None:
        """Columns of some rows, in order, into [rows, columns] of float32 (parts 0 and 1) or int64 (part 2)."""
        offset = self._starts[part] + columns.start * into.itemsize
        for place, row in enumerate(rows):
            wanted = memoryview(into[place]).cast("B")
            if os.preadv(self._file.fileno(), [wanted], row * self._stride + offset) != len(wanted):
                raise StorageError(f"{self._folder}: an update that was staged there can't be read back")

    def close(self) -> None:
        self._file.close()


def _open(folder: Path) -> Any:
    try:
        return tempfile.TemporaryFile(dir=folder, buffering=0)
    except OSError as error:
        raise StorageError(f"{folder}: no file for the updates of a round can be made: {error.strerror}") from error


def _places(layout: Layout) -> tuple[tuple[int, int, int], int]:
    """Where the three parts of a row begin, integers first for alignment, and how far apart rows are."""
    floats = 8 * layout.integer_size
    buffers = floats + 4 * layout.trainable_size
    size = buffers + 4 * layout.float_buffer_size
    return (floats, buffers, 0), -(-size // _PAGE) * _PAGE


def _decode(shape: Shape, encoded: BytesLike, row: mmap.mmap, starts: tuple[int, int, int]) -> None:
    """A call of its own: no view of the row outlives it, so that it can be unmapped."""
    layout = shape.layout
    trainable = np.frombuffer(row, np.float32, layout.trainable_size, starts[0])
    buffers = np.frombuffer(row, np.float32, layout.float_buffer_size, starts[1])
    integers = np.frombuffer(row, np.int64, layout.integer_size, starts[2])
    decode_over(shape, encoded, Values(layout, trainable, buffers, integers, np.zeros(0, np.float32)))
