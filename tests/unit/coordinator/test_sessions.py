"""Leases of clients: who may act for whom, and for how long."""

import pytest

from muster_coordinator.sessions import JoinRefusedError, JoinWish, Patience, SessionTable

POOLS = {"a": 3, "b": 2}


@pytest.fixture
def table():
    return SessionTable(POOLS, Patience(silent_s=10, broken_s=5))


def join(table, worker, *indices, pool="a", capacity=0, now=0.0):
    return table.join(JoinWish(worker, pool, indices, capacity), f"{worker}@{now}", now)


def test_a_worker_gets_the_clients_that_it_names(table):
    assert join(table, "w", 0, 2).session.clients == ("a/0", "a/2")
    assert table.holder("a/2").worker == "w"
    assert table.holder("a/1") is None


def test_capacity_takes_what_is_free(table):
    join(table, "w", 1)
    assert join(table, "x", capacity=5).session.clients == ("a/0", "a/2")
    with pytest.raises(JoinRefusedError, match="all 3 clients of pool a have a worker") as refused:
        join(table, "y", capacity=1)
    assert refused.value.retry


def test_with_capacity_indices_are_preferred(table):
    assert join(table, "w", 2, capacity=2).session.clients == ("a/0", "a/2")
    join(table, "x", 1)
    assert join(table, "w", 1, 2, capacity=2, now=1.0).session.clients == ("a/0", "a/2")


def test_a_worker_that_comes_back_replaces_its_session(table):
    first = join(table, "w", 0).session
    again = join(table, "w", 0, now=3.0)
    assert again.closed == (first,)
    assert again.lost == ()
    assert table.get(first.id, 3.0) is None
    assert len(table) == 1


def test_the_newest_worker_has_the_client_and_keeps_it(table):
    old = join(table, "old", 0, 1).session
    new = join(table, "new", 0)
    assert new.closed == (old,)
    assert new.lost == ("a/1",)
    with pytest.raises(JoinRefusedError, match="a newer worker") as refused:
        join(table, "old", 0)
    assert refused.value.retry
    assert join(table, "old", 0, 1, now=1.0).session.clients == ("a/1",)  # what is left of it
    join(table, "new", 0, now=2.0)  # coming back, it is still the newest
    with pytest.raises(JoinRefusedError):
        join(table, "old", 0, now=3.0)


def test_a_lost_newcomer_gives_the_client_back(table):
    join(table, "old", 0)
    join(table, "new", 0)
    table.expire(20.0)
    assert join(table, "old", 0, now=20.0).session.clients == ("a/0",)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (JoinWish("w", "c", (0,)), "no pool 'c'; it has a, b"),
        (JoinWish("w", "b", (2,)), "clients 0 to 1, so there is no client 2"),
        (JoinWish("w", "a", (1, 1)), "named twice"),
        (JoinWish("w", "a"), "name the clients' indices, or how many"),
    ],
)
def test_wishes_that_never_can_be_granted(table, wish, words):
    with pytest.raises(JoinRefusedError, match=words) as refused:
        table.join(wish, "s", 0.0)
    assert not refused.value.retry


def test_silence_and_broken_streams(table):
    session = join(table, "w", 0).session
    table.stream_opened(session)
    assert table.expire(9.0) == []
    table.get(session.id, 9.0)  # a beat
    assert table.expire(18.0) == []
    table.stream_closed(session, 18.0)
    table.get(session.id, 22.0)
    assert table.expire(22.9) == []
    ((lost, reason),) = table.expire(23.0)
    assert lost is session
    assert reason == "its connection broke 5 s ago"
    assert table.holder("a/0") is None


def test_an_open_stream_of_a_silent_worker_does_not_save_it(table):
    session = join(table, "w", 0).session
    table.stream_opened(session)
    ((_, reason),) = table.expire(10.0)
    assert reason == "not heard of for 10 s"


def test_two_streams_of_one_session(table):
    session = join(table, "w", 0).session
    table.stream_opened(session)
    table.stream_opened(session)
    table.stream_closed(session, 1.0)
    assert session.broken_at is None
