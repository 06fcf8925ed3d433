import pytest

from muster_spec.durations import DurationError, duration_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30.0), ("4h", 14400.0), ("1h30m", 5400.0), ("500ms", 0.5), ("2d", 172800.0), ("1m500ms", 60.5)],
)
def test_reads(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "0s", "-1s", "1.5h", "30 s", "30S", "1h ", "٣s"])
def test_refuses(text: str) -> None:
    with pytest.raises(DurationError, match="30s, 4h or 1h30m"):
        duration_s(text)
