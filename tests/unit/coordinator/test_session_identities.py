"""What a certificate's identity allows a worker to lease."""

import pytest

from muster_coordinator.sessions import JoinRefusedError, JoinWish, Patience, SessionTable
from muster_wire.trust.identity import parse_identity


@pytest.fixture
def table():
    return SessionTable({"a": 4, "b": 2}, Patience())


def join(table, worker, identity, *indices, pool="a", capacity=0):
    wish = JoinWish(worker, pool, indices, capacity, parse_identity(f"muster://job-1/{identity}"))
    return table.join(wish, f"session of {worker} in {pool}", 0.0)


def test_it_gets_what_its_certificate_speaks_for(table):
    assert join(table, "w", "a/1-2", 1, 2).session.clients == ("a/1", "a/2")
    assert join(table, "x", "a", 0).session.clients == ("a/0",)


def test_capacity_takes_only_what_its_certificate_speaks_for(table):
    assert join(table, "w", "a/1,3", capacity=9).session.clients == ("a/1", "a/3")
    with pytest.raises(JoinRefusedError) as refused:
        join(table, "x", "a/1,3", capacity=1)
    assert refused.value.retry


@pytest.mark.parametrize(("identity", "indices", "pool"), [("b", [0], "a"), ("a/1", [0], "a"), ("a/1", [1, 2], "a")])
def test_it_gets_nothing_else(table, identity, indices, pool):
    with pytest.raises(JoinRefusedError, match=f"a certificate for muster://job-1/{identity} doesn't speak") as refused:
        join(table, "w", identity, *indices, pool=pool)
    assert not refused.value.retry
    assert len(table) == 0


def test_a_workers_name_closes_no_session_of_another_pool(table):
    first = join(table, "same-name", "a", 0)
    second = join(table, "same-name", "b", 0, pool="b")
    assert second.closed == ()
    assert table.get(first.session.id, 0.0) is first.session
