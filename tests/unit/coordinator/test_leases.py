"""Who is to act for which clients: given what everybody has, and held as a plan that comes to rest."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_coordinator.leases import Handover, Holder, Leases, Standing, even_shares, plan_leases


def clients(*indices):
    return tuple(f"p/{index}" for index in indices)


def holder(name, *indices, capacity=9, share=9, asks=(), allowed=None):
    return Holder(
        name,
        clients(*indices),
        capacity,
        share,
        frozenset(clients(*asks)),
        None if allowed is None else frozenset(clients(*allowed)),
    )


A, B, IDLE = holder("a", 0, 1, 2), holder("b", 3, 4, 5), holder("c")


@pytest.mark.parametrize(
    ("capacities", "has", "total", "expected"),
    [
        pytest.param([9, 9], [0, 0], 6, [3, 3], id="as many for all"),
        pytest.param([9, 9], [2, 3], 5, [2, 3], id="what can't be divided stays"),
        pytest.param([9, 9], [3, 2], 5, [3, 2], id="whoever has it"),
        pytest.param([1, 9, 9], [0, 0, 0], 7, [1, 3, 3], id="a small one takes what it can"),
        pytest.param([1, 2], [0, 0], 7, [1, 2], id="and nobody the rest"),
        pytest.param([9, 9, 9], [3, 0, 0], 1, [1, 0, 0], id="fewer clients than workers"),
        pytest.param([9], [0], 0, [0], id="none"),
    ],
)
def test_shares_are_even(capacities, has, total, expected):
    holders = [holder(f"h{n}", capacity=capacity) for n, capacity in enumerate(capacities)]
    counts = {one.name: count for one, count in zip(holders, has, strict=True)}
    assert [even_shares(holders, counts, total)[one.name] for one in holders] == expected


@pytest.mark.parametrize(
    ("standing", "gifts", "handovers"),
    [
        pytest.param(Standing((A, B)), {}, {}, id="as many each: nothing moves"),
        pytest.param(Standing((A, holder("b", 3, 4))), {}, {}, id="one more is no reason"),
        pytest.param(
            Standing((A, B, IDLE)),
            {},
            {"a": Handover(1, clients(2, 1, 0)), "b": Handover(1, clients(5, 4, 3))},
            id="who comes gets one of each, rather the newest",
        ),
        pytest.param(Standing((A, IDLE), clients(3, 4, 5)), {"c": clients(3, 4, 5)}, {}, id="free ones first"),
        pytest.param(Standing((A, B), clients(6, 7)), {"a": clients(6), "b": clients(7)}, {}, id="evenly"),
        pytest.param(Standing((A,), clients(3, 4)), {"a": clients(3, 4)}, {}, id="all to the only one"),
        pytest.param(
            Standing((replace(A, capacity=4),), clients(3, 4)), {"a": clients(3)}, {}, id="no more than it can take"
        ),
        pytest.param(
            Standing((replace(A, share=4),), unclaimed=clients(3, 4)), {"a": clients(3)}, {}, id="early: its share"
        ),
        pytest.param(
            Standing((replace(A, share=3), replace(IDLE, share=1)), unclaimed=clients(3, 4)),
            {"c": clients(3)},
            {},
            id="early: nothing is asked back while others are there to be had",
        ),
        pytest.param(
            Standing((replace(A, share=1), replace(IDLE, share=1)), free=clients(3)),
            {"c": clients(3)},
            {"a": Handover(1, clients(2, 1, 0))},
            id="whose worker is gone is given at once",
        ),
        pytest.param(Standing((A, IDLE), kept=3), {}, {}, id="those that wait for their worker are somebody's, too"),
        pytest.param(
            Standing((A, holder("b", 3), holder("c", asks=[1]))),
            {},
            {"a": Handover(1, clients(1, 2, 0))},
            id="who comes back gets what it had",
        ),
        pytest.param(
            Standing((A, holder("c", asks=[4])), clients(3, 4, 5), kept=0),
            {"c": clients(4, 3, 5)},
            {},
            id="first what it asks for",
        ),
        pytest.param(
            Standing((A, holder("c", allowed=[1]))), {}, {"a": Handover(1, clients(1))}, id="only what it may have"
        ),
        pytest.param(Standing((A, holder("c", allowed=[7]))), {}, {}, id="nothing, if it may have none of these"),
        pytest.param(
            Standing((holder("b", allowed=[8]), IDLE), clients(7, 8)),
            {"b": clients(8), "c": clients(7)},
            {},
            id="free ones to who may have them",
        ),
        pytest.param(Standing((), clients(1)), {}, {}, id="nobody is there"),
    ],
)
def test_who_gets_what(standing, gifts, handovers):
    assert plan_leases(standing) == Leases(gifts, handovers)


QUEUED = frozenset(clients(0, 1, 2))


@pytest.mark.parametrize(
    ("standing", "gifts", "handovers"),
    [
        pytest.param(Standing((A, B), queued=QUEUED), {}, {}, id="where state is lost, work stays where it is"),
        pytest.param(
            Standing((A, B), queued=QUEUED, moves_freely=True),
            {},
            {"a": Handover(1, clients(2, 1, 0))},
            id="one that is idle takes one of a queue",
        ),
        pytest.param(
            Standing((A, B, IDLE), queued=QUEUED, moves_freely=True),
            {},
            {"a": Handover(2, clients(2, 1, 0))},
            id="two take two, and one stays",
        ),
        pytest.param(
            Standing((holder("a", 0, 1), B, IDLE), free=clients(2), queued=QUEUED, moves_freely=True),
            {"c": clients(2)},
            {"a": Handover(1, clients(1, 0))},
            id="work that is free goes to who is idle, and another one takes one of the queue",
        ),
        pytest.param(
            Standing((holder("a", 0, 1), holder("b", 2, 3, 4, 5)), moves_freely=True),
            {},
            {},
            id="at rest nothing moves for the sake of numbers",
        ),
        pytest.param(
            Standing((holder("a", 0, 1, 2, 3), IDLE), moves_freely=True),
            {},
            {"a": Handover(2, clients(3, 2, 1, 0))},
            id="but for who has next to none",
        ),
    ],
)
def test_work_moves_where_state_does(standing, gifts, handovers):
    assert plan_leases(standing) == Leases(gifts, handovers)


def carried_out(standing, leases):
    """As if all were fetched, and what is asked for let go: free from now on."""
    holders, free = [], []
    for one in standing.holders:
        ask = leases.handovers.get(one.name)
        gone = [client for client in one.clients if ask and client in ask.clients[: ask.count]]
        kept = [client for client in one.clients if client not in gone]
        free += gone
        holders.append(replace(one, clients=(*kept, *leases.gifts.get(one.name, ()))))
    given = {client for gift in leases.gifts.values() for client in gift}
    left = [client for client in standing.free if client not in given]
    unclaimed = tuple(client for client in standing.unclaimed if client not in given)
    return replace(standing, holders=tuple(holders), free=(*left, *free), unclaimed=unclaimed)


@st.composite
def standings(draw):
    count = draw(st.integers(1, 5))
    owners = draw(st.lists(st.integers(-2, count - 1), max_size=14))
    had = [[client for client, owner in enumerate(owners) if owner == one] for one in range(count)]
    holders = tuple(
        holder(
            f"h{place}",
            *mine,
            capacity=len(mine) + draw(st.integers(0, 9)) + (not mine),
            share=draw(st.integers(1, 9)),
            asks=draw(st.sets(st.integers(0, 13), max_size=3)),
            allowed=draw(st.none() | st.just([*mine, 0, 1, 2])),
        )
        for place, mine in enumerate(had)
    )
    lost = [clients(*[client for client, owner in enumerate(owners) if owner == kind]) for kind in (-1, -2)]
    return Standing(
        holders,
        *lost,
        moves_freely=draw(st.booleans()),
        queued=frozenset(clients(*draw(st.sets(st.integers(0, 13))))),
    )


@given(standings())
def test_a_plan_that_is_carried_out_comes_to_rest(standing):
    everybody = {client for one in standing.holders for client in one.clients} | {*standing.free, *standing.unclaimed}
    for _ in range(20):
        leases = plan_leases(standing)
        standing = carried_out(standing, leases)
        had = [client for one in standing.holders for client in one.clients]
        assert sorted([*had, *standing.free, *standing.unclaimed]) == sorted(everybody)
        assert all(len(one.clients) <= one.capacity for one in standing.holders)
        assert all(one.may_have(client) for one in standing.holders for client in one.clients)
        if not leases.gifts and not leases.handovers:
            return
    raise AssertionError(f"it goes on for ever: {leases}")
