"""The randomized Hadamard transform: each block of d values turned in space, so that no value stands out.

R(x) = H D x / √d with H the Hadamard matrix of d = 2^k rows and D a diagonal of random signs; its inverse is
D H / √d. Only sums and differences of elements, in one fixed order, so every machine gets the same bits.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_LOW: Final = 64  # columns that are transformed first: about the root of the usual block


def hadamard(table: NDArray[Any]) -> None:
    """Overwrites each row of a contiguous table with H times the row, without the 1/√d. Rows have 2^k columns.

    H of d = high · low columns is H_high ⊗ H_low, and each factor is applied where its axis comes first, so that numpy
    adds whole stretches and not a few neighbours at a time.
    """
    rows, width = table.shape
    low = min(width, _LOW)
    high = width // low
    turned = _transformed(np.ascontiguousarray(table.reshape(rows * high, low).T))
    turned = _transformed(np.ascontiguousarray(turned.reshape(low, rows, high).transpose(2, 1, 0)))
    table.reshape(rows, high, low)[...] = turned.reshape(high, rows, low).transpose(1, 0, 2)


def _transformed(table: NDArray[Any]) -> NDArray[Any]:
    """H times a contiguous table along its first axis; the argument is used up."""
    length, step, spare = len(table), 1, np.empty_like(table)
    while step < length:
        shape = length // (2 * step), 2, table.size // length * step
        pairs, out = table.reshape(shape), spare.reshape(shape)
        np.add(pairs[:, 0], pairs[:, 1], out=out[:, 0])
        np.subtract(pairs[:, 0], pairs[:, 1], out=out[:, 1])
        table, spare = spare, table
        step *= 2
    return table


def flips(seed: int, count: int) -> NDArray[np.uint8]:
    """A 1 for each sign that D turns. Philox's raw stream, which numpy promises not to change, lowest bit first."""
    words = np.random.Philox(key=seed).random_raw(-(-count // 64)).astype("<u8")
    return np.unpackbits(words.view(np.uint8), bitorder="little", count=count)
