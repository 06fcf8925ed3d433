"""Adaptive k, and chains of deltas: decisions without any bytes."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_wire.adaptive import Search, Seen, adapt
from muster_wire.chain import MAX_DELTAS, Audience, Chain, Route, Start, route, wants_keyframe


def play(rounds: int, best: float, least: float = 0.001, most: float = 0.1) -> list[float]:
    """A world where the time to lower the loss by one is convex in its logarithm, and least at `best`."""

    def speed(share: float) -> float:
        return 1 / (1 + math.log(share / best) ** 2)

    search, shares, loss = Search.start(least, most), [], 1e6
    for _ in range(rounds):
        after, probed = loss - speed(search.share), loss - speed(search.probe)
        search = adapt(search, Seen(loss, after, probed, 1.0, 1.0))
        shares.append(search.share)
        loss = after
    return shares


@pytest.mark.parametrize("best", [0.003, 0.01, 0.03, 0.07])
def test_the_share_goes_where_training_is_fastest(best: float) -> None:
    tail = play(400, best)[-100:]
    assert sum(tail) / len(tail) == pytest.approx(best, rel=0.5)


def test_the_share_stays_between_its_bounds() -> None:
    assert all(0.001 <= share <= 0.1 for best in (1e-6, 10.0) for share in play(60, best, 0.0011, 0.099))


def test_the_cost_of_a_smaller_share_decides() -> None:
    search = Search.start(0.01, 0.1)
    cheaper = adapt(search, Seen(2.0, 1.0, 1.1, seconds=10.0, seconds_probe=5.0))
    dearer = adapt(search, Seen(2.0, 1.0, 1.9, seconds=10.0, seconds_probe=9.0))
    assert cheaper.share < search.share < dearer.share
    assert adapt(search, Seen(2.0, 1.0, 1.0, 10.0, 10.0)).share == search.share


@pytest.mark.parametrize(
    "seen",
    [
        Seen(1.0, 1.5, 0.5, 1.0, 1.0),
        Seen(1.0, 0.5, 1.5, 1.0, 1.0),
        Seen(math.nan, 0.5, 0.5, 1.0, 1.0),
        Seen(1.0, 0.5, 0.5, 0.0, 1.0),
        Seen(1.0, 0.5, 0.5, math.inf, 1.0),
    ],
)
def test_nothing_is_learnt_from_a_round_that_says_nothing(seen: Seen) -> None:
    search = Search.start(0.01, 0.1)
    assert adapt(search, seen) == search


@pytest.mark.parametrize("bounds", [(0, 0.1), (0.2, 0.1), (0.1, 1.1), (-1, 1), (math.nan, 1)])
def test_bounds_that_hold_nothing(bounds: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="shares are above 0"):
        Search.start(*bounds)


CHAIN = Chain(keyframe=5, snapshot=100, deltas={6: 30, 7: 40, 8: 50}, plain=400)


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (8, Route(Start.HELD, (), 0)),
        (7, Route(Start.HELD, (8,), 50)),
        (5, Route(Start.HELD, (6, 7, 8), 120)),
        (4, Route(Start.KEYFRAME, (6, 7, 8), 220)),
        (9, Route(Start.KEYFRAME, (6, 7, 8), 220)),
        (None, Route(Start.KEYFRAME, (6, 7, 8), 220)),
    ],
)
def test_the_way_to_the_newest_version(held: int | None, expected: Route) -> None:
    assert route(CHAIN, held) == expected
    assert CHAIN.newest == 8


def test_a_chain_of_nothing_is_its_keyframe() -> None:
    assert route(Chain(3, 100, {}, 400), None) == Route(Start.KEYFRAME, (), 100)
    assert route(Chain(3, 100, {}, 400), 3) == Route(Start.HELD, (), 0)


def test_a_long_way_is_left_out() -> None:
    chain = replace(CHAIN, plain=110)
    assert route(chain, None) == route(chain, 5) == Route(Start.PLAIN, (), 110)
    assert route(chain, 6) == Route(Start.HELD, (7, 8), 90)


@pytest.mark.parametrize(
    ("held", "newcomers", "expected"),
    [
        ({8: 10}, 0, False),  # everybody is up to date: a delta costs less
        ({5: 10}, 0, True),  # everybody is so far behind that they had better begin anew
        ({8: 10}, 1, False),
        ({8: 1}, 10, True),  # many will come that hold nothing
        ({}, 0, False),
    ],
)
def test_when_the_chain_is_cut(held: dict[int, int], newcomers: float, expected: bool) -> None:
    assert wants_keyframe(CHAIN, 100, 40, Audience(held, newcomers)) is expected


@pytest.mark.parametrize(("count", "size"), [(MAX_DELTAS, 1), (32, 200)])
def test_a_chain_ends_somewhere_though_nobody_walks_it_all(count: int, size: int) -> None:
    up_to_date = Audience({count: 10})
    for length, expected in ((count - 1, False), (count, True)):
        chain = Chain(0, 10_000, dict.fromkeys(range(1, length + 1), size), 400)
        assert wants_keyframe(chain, 10_000, size, up_to_date) is expected


@given(
    st.lists(st.integers(1, 100), max_size=20),
    st.integers(1, 500),
    st.integers(1, 900),
    st.one_of(st.none(), st.integers(-3, 30)),
)
def test_every_way_ends_at_the_newest(deltas: list[int], snapshot: int, plain: int, held: int | None) -> None:
    chain = Chain(2, snapshot, dict(zip(itertools.count(3), deltas, strict=False)), plain)
    way = route(chain, held)
    start = {Start.HELD: held, Start.KEYFRAME: chain.keyframe, Start.PLAIN: chain.newest}[way.start]
    assert start is not None
    assert list(way.deltas) == list(range(start + 1, chain.newest + 1))
    assert way.size <= plain
