from __future__ import annotations

import pytest

from muster_wire.errors import VersionError
from muster_wire.version import CURRENT, Version, negotiate


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [((1, 3), (1, 3), (1, 3)), ((1, 3), (1, 2), (1, 2)), ((1, 3), (1, 4), (1, 3)), ((2, 0), (2, 1), (2, 0))],
)
def test_one_minor_version_apart_agrees_on_the_older(
    ours: tuple[int, int], theirs: tuple[int, int], agreed: tuple[int, int]
) -> None:
    assert negotiate(Version(*theirs), Version(*ours)) == Version(*agreed)


@pytest.mark.parametrize(
    ("ours", "theirs", "behind"),
    [
        ((1, 3), (1, 1), "the other side"),
        ((1, 3), (1, 5), "this side"),
        ((1, 3), (2, 3), "this side"),
        ((2, 0), (1, 9), "the other side"),
    ],
)
def test_further_apart_is_refused_naming_both_and_who_is_behind(
    ours: tuple[int, int], theirs: tuple[int, int], behind: str
) -> None:
    with pytest.raises(VersionError) as caught:
        negotiate(Version(*theirs), Version(*ours))
    assert str(Version(*theirs)) in caught.value.reason
    assert str(Version(*ours)) in caught.value.reason
    assert caught.value.reason.endswith(f"upgrade {behind}")


def test_we_can_talk_to_ourselves() -> None:
    assert negotiate(CURRENT) == CURRENT
