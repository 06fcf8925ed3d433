"""The randomized Hadamard transform: each block of d values turned in space, so that no value stands out.

R(x) = H D x / √d with H the Hadamard matrix of d = 2^k rows and D a diagonal of random signs; its inverse is
D H / √d. Only sums and differences of elements, in one fixed order, so every machine gets the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHORT = 64  # runs shorter than this are slow for numpy: they are transposed first


def hadamard(table: NDArray[Any]) -> None:
    """Overwrites each row of a contiguous table with H times the row, without the 1/√d. Rows have 2^k columns."""
    width = table.shape[1]
    short = min(width, _SHORT)
    turned = np.ascontiguousarray(table.reshape(-1, short).T)
    scratch = np.empty(table.size // 2, table.dtype)
    _butterflies(turned.reshape(1, short, -1), 1, scratch)
    table.reshape(-1, short)[...] = turned.T
    _butterflies(table.reshape(table.shape[0], width // short, short), 1, scratch)


def _butterflies(table: NDArray[Any], step: int, scratch: NDArray[Any]) -> None:
    """Transforms the middle axis, whose length is a power of two: pairs `step` apart become sum and difference."""
    outer, length, inner = table.shape
    while step < length:
        pairs = table.reshape(outer * length // (2 * step), 2, step * inner)
        upper, lower = pairs[:, 0], pairs[:, 1]
        sums = scratch[: upper.size].reshape(upper.shape)
        np.add(upper, lower, out=sums)
        np.subtract(upper, lower, out=lower)
        upper[...] = sums
        step *= 2


def flips(seed: int, count: int) -> NDArray[np.uint8]:
    """A 1 for each sign that D turns. Philox's raw stream, which numpy promises not to change, lowest bit first."""
    words = np.random.Philox(key=seed).random_raw(-(-count // 64)).astype("<u8")
    return np.unpackbits(words.view(np.uint8), bitorder="little", count=count)
