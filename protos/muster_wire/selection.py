"""Top-k: which values of an update are sent. Pure choice; `codecs.sparse` puts what was chosen on the wire.

The k largest magnitudes, of each tensor or of the whole buffer. Exact, by partial sorting; or past a threshold
estimated from a sample, which spares sorting all of a large model: the threshold that keeps the right share of the
sample, and an exact choice among what passes it where that is too many (hierarchical selection: Deep Gradient
Compression, Lin et al. 2018, section 5).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from muster_wire.codecs import Random
from muster_wire.codecs.base import blocks
from muster_wire.layout import Kind, Layout
from muster_wire.values import Floats

Places = NDArray[np.int64]

_SAMPLE_SHARE: Final = 0.01
_SMALLEST_SAMPLE: Final = 4096
_TOLERANCE: Final = 1.25  # times k: as many may pass an estimated threshold


@dataclass(frozen=True, slots=True)
class Choice:
    """How many, and sought where and how."""

    share: float = 1.0  # above 0 and at most 1
    per_tensor: bool = False
    sampled: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of values sent is above 0 and at most 1, not {self.share:g}")


EVERYTHING: Final = Choice()


def choose(values: Floats, layout: Layout, choice: Choice, rng: Random) -> Floats:
    """The values with everything that was not chosen set to zero."""
    if choice.share == 1:
        return values
    chosen = np.zeros_like(values)
    for start, stop in _stretches(layout, choice):
        places = largest(values[start:stop], choice, rng)
        chosen[start:stop][places] = values[start:stop][places]
    return chosen


def largest(values: Floats, choice: Choice, rng: Random) -> Places:
    """Where the largest magnitudes of one stretch lie, at least one if there are values; in no order."""
    if not values.size:
        return np.zeros(0, np.int64)
    wanted = max(1, round(choice.share * values.size))
    if not choice.sampled or values.size <= 2 * _SMALLEST_SAMPLE:
        return _largest(values, wanted)
    magnitudes = np.abs(values)
    passing = np.flatnonzero(magnitudes >= _threshold(magnitudes, choice.share, rng))
    if passing.size <= _TOLERANCE * wanted:
        return passing
    return passing[_largest(magnitudes[passing], wanted)]


def _largest(values: Floats, wanted: int) -> Places:
    """Exactly so many; of equal magnitudes the first. Sorting places would take two models of memory for them."""
    if wanted >= values.size:
        return np.arange(values.size)
    magnitudes = np.abs(values)
    magnitudes.partition(values.size - wanted)
    least = magnitudes[values.size - wanted]
    del magnitudes
    above = np.concatenate([_above(values[block], least) + block.start for block in blocks(values.size)])
    return np.concatenate((above, _first(values, least, wanted - above.size)))


def _above(values: Floats, magnitude: np.float32) -> Places:
    """Where values of larger magnitudes lie, and NaN, for whoever encodes it to find."""
    return np.flatnonzero(~(np.abs(values) <= magnitude))


def _first(values: Floats, magnitude: np.float32, count: int) -> Places:
    """Where the first values of this magnitude lie. There may be many more: zeros, most of all."""
    found: list[Places] = []
    for block in blocks(values.size):
        if count <= 0:
            break
        here = np.flatnonzero(np.abs(values[block]) == magnitude)[:count]
        found.append(here + block.start)
        count -= here.size
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _threshold(magnitudes: Floats, share: float, rng: Random) -> np.float32:
    """That `share` of a random sample reaches. The sample holds enough values past it to tell."""
    size = int(max(_SMALLEST_SAMPLE, _SAMPLE_SHARE * magnitudes.size, min(100 / share, magnitudes.size / 4)))
    sample = magnitudes[rng.integers(0, magnitudes.size, size)]
    rank = max(1, round(share * size))
    return np.float32(np.partition(sample, size - rank)[size - rank])


def _stretches(layout: Layout, choice: Choice) -> Iterator[tuple[int, int]]:
    if not choice.per_tensor:
        yield 0, layout.trainable_size
        return
    for span in layout.spans:
        if span.spec.kind is Kind.TRAINABLE:
            yield span.start, span.stop
