"""The benchmark of models beyond 2 GiB still goes round, with one that fits anywhere."""

import pytest

from large import Giant, has_right_values, measure, places


def test_known_values_are_followed_through_to_the_stored_file(tmp_path):
    measure(Giant(0.002, tmp_path), tmp_path)
    assert has_right_values(tmp_path / "storage" / "final.safetensors")


@pytest.mark.parametrize(("values", "known"), [(2**20, 4), (2**30, 6)])
def test_beyond_2_gib_values_about_that_border_are_known_too(values, known):
    assert len(places(values)) == known
    assert {place % values for place in places(values)} >= {0, 1, values - 2, values - 1}
