from __future__ import annotations

import pytest

from muster_spec.quantities import QuantityError, size_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000", 1000),
        ("512Mi", 2**29),
        ("2Gi", 2**31),
        ("1.5G", 1_500_000_000),
        ("0.5Ki", 512),
        ("3k", 3000),
        ("1Ti", 2**40),
    ],
)
def test_amounts_of_memory(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize("text", ["", "2 Gi", "-1", "2gi", "Gi", "1e9", "2GiB", "1.", "٣Gi"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(QuantityError, match="512Mi"):
        size_bytes(text)
