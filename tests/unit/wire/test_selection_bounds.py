"""What choosing the largest values may cost, and what it does where magnitudes are equal or no numbers."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from muster_wire.selection import Choice, largest

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.9])
def test_exactly_so_many_are_chosen_among_equals(share: float) -> None:
    values = np.zeros(100_000, np.float32)
    values[::50] = -1
    places = largest(values, Choice(share), RNG)
    assert places.size == round(share * values.size) == np.unique(places).size
    assert np.abs(values[places]).sum() == min(2000, places.size)


def test_what_is_no_number_is_chosen_for_the_encoder_to_find() -> None:
    values = np.linspace(0, 1, 1000, dtype=np.float32)
    values[[3, 700]] = np.nan
    assert {3, 700} <= set(largest(values, Choice(0.01), RNG).tolist())


@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_choosing_takes_little_more_than_one_copy(spread: float) -> None:
    values = (spread * RNG.standard_normal(2_000_000)).astype(np.float32)
    tracemalloc.start()
    largest(values, Choice(0.05), RNG)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.6 * values.nbytes
