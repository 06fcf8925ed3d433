"""Leases that move: workers that come and go, hand over and fetch, as the session table sees it."""

import pytest

from muster_coordinator.leases import Handover
from muster_coordinator.sessions import JoinRefusedError, JoinWish, Leasing, Patience, SessionTable

PATIENCE = Patience(silent_s=10, broken_s=5, return_s=6, come_s=10)


def clients(*indices):
    return tuple(f"a/{index}" for index in indices)


class Workers:
    """A table, and workers that do as they are told."""

    def __init__(self, **leasing):
        self.table = SessionTable({"a": 6, "b": 2}, PATIENCE, Leasing(**leasing))
        self.now = 0.0
        self._joins = 0

    def join(self, worker, *named, capacity=6, share=0, **wish):
        self._joins += 1
        asked = JoinWish(worker, "a", named, capacity, leases_move=True, share=share, **wish)
        return self.table.join(asked, f"s{self._joins}", self.now)

    def of(self, worker):
        return next(session for session in self.table if session.worker == worker)

    def has(self, worker):
        return self.of(worker).clients

    def obey(self, worker):
        """It lets go of what it is asked for, if anything, fetches what waits, and says so; what follows from that."""
        session = self.of(worker)
        handover = session.lease.handover
        gone = handover.clients[: handover.count] if handover else ()
        kept = [int(client[2:]) for client in session.clients if client not in gone]
        return self.join(worker, *kept)

    def settle(self):
        """Until nobody is asked for anything; how many times somebody joined again."""
        joins = 0
        while told := [each for each in self.table if each.lease.handover or each.lease.due]:
            joins += 1
            assert joins < 30
            self.obey(told[0].worker)
        return joins


def test_the_first_gets_all_and_who_comes_later_a_part():
    workers = Workers()
    assert workers.join("x").session.clients == clients(0, 1, 2, 3, 4, 5)
    joined = workers.join("y")
    assert joined.session.clients == ()
    assert joined.concerned == (workers.of("x"),)
    assert workers.of("x").lease.handover == Handover(3, clients(5, 4, 3, 2, 1, 0))
    again = workers.obey("x")
    assert again.lost == ()
    assert again.concerned == (workers.of("y"),)
    assert workers.has("x") == clients(0, 1, 2)
    assert workers.has("y") == ()
    assert workers.of("y").lease.due == clients(3, 4, 5)
    assert workers.table.holder("a/3") is workers.of("y"), "nobody else gets it meanwhile"
    workers.obey("y")
    assert workers.has("y") == clients(3, 4, 5)
    assert workers.table.balance(1.0) == [], "and nothing more is to be done"


def test_what_a_worker_keeps_is_up_to_it():
    workers = Workers()
    workers.join("x")
    workers.join("y")
    workers.join("x", 0, 4, 5)
    workers.obey("y")
    assert workers.has("y") == clients(1, 2, 3)


def test_a_part_of_what_is_asked_for_is_passed_on_and_the_rest_still_asked_for():
    workers = Workers()
    workers.join("x")
    workers.join("y")
    workers.join("x", 0, 1, 2, 3, 4)
    assert workers.of("y").lease.due == clients(5)
    assert workers.of("x").lease.handover.count == 2


def test_early_on_nobody_takes_more_than_its_share_and_later_somebody_must():
    workers = Workers()
    workers.join("x", share=2)
    assert workers.has("x") == clients(0, 1)
    workers.now = 4.0
    assert workers.join("y", share=2).session.clients == clients(2, 3)
    workers.now = 13.0
    assert workers.table.balance(workers.now) == []
    workers.now = 14.0
    assert {each.worker for each in workers.table.balance(workers.now)} == {"x", "y"}
    workers.settle()
    assert workers.has("x") == clients(0, 1, 4)
    assert workers.has("y") == clients(2, 3, 5)


def test_a_worker_that_is_lost_is_replaced_by_the_others_at_once():
    workers = Workers()
    workers.join("x", share=3)
    workers.join("y", share=3)
    workers.now = 6.0
    workers.table.stream_opened(workers.of("x"))
    workers.table.get(workers.of("x").id, 6.0)
    ((lost, _),) = workers.table.expire(6.0)
    assert lost.reserved == clients(3, 4, 5)
    (told,) = workers.table.balance(6.0)
    assert told.lease.due == clients(3, 4, 5)
    workers.settle()
    assert workers.has("x") == clients(0, 1, 2, 3, 4, 5)


def test_who_was_lost_and_comes_back_gets_what_it_names():
    """It may hold updates of those."""
    workers = Workers()
    workers.join("x", share=3)
    workers.join("y", share=3)
    workers.now = 6.0
    workers.table.stream_opened(workers.of("x"))
    workers.table.get(workers.of("x").id, 6.0)
    workers.table.expire(6.0)
    workers.table.balance(6.0)
    workers.settle()
    workers.join("y", 3, 4, 5)
    assert set(workers.of("x").lease.handover.clients[:3]) == set(clients(3, 4, 5))
    workers.settle()
    assert set(workers.has("y")) == set(clients(3, 4, 5))


def test_one_more_or_less_moves_no_more_than_it_must():
    workers = Workers()
    for name in "xyz":
        workers.join(name, share=2)
    before = {name: set(workers.has(name)) for name in "xyz"}
    workers.join("w")
    workers.settle()
    moved = sum(len(before[name] - set(workers.has(name))) for name in "xyz")
    assert moved == len(workers.has("w")) == 1
    assert workers.table.balance(99.0) == []


def test_after_a_restart_clients_wait_for_the_worker_that_they_had():
    workers = Workers(began=100.0, is_restarted=True)
    workers.now = 101.0
    assert workers.join("y", 3, 4).session.clients == clients(3, 4), "and nothing more, though it could"
    assert workers.join("new").session.clients == ()
    assert workers.join("x", 0, 1, 2).session.clients == clients(0, 1, 2)
    assert all(each.lease.handover is None for each in workers.table)
    workers.now = 106.9
    assert workers.table.balance(105.9) == []
    assert {each.worker for each in workers.table.balance(106.9)} == {"new", "x"}
    workers.settle()
    assert sorted(len(workers.has(name)) for name in ("x", "y", "new")) == [2, 2, 2]


def test_a_worker_that_is_gone_with_what_it_was_to_fetch_loses_that():
    workers = Workers()
    workers.join("x")
    workers.join("y")
    workers.obey("x")
    workers.now = 6.0
    workers.table.stream_opened(workers.of("x"))
    workers.table.get(workers.of("x").id, 6.0)
    ((lost, _),) = workers.table.expire(6.0)
    assert (lost.clients, lost.reserved) == ((), clients(3, 4, 5))
    assert workers.table.holder("a/3") is None


def test_work_that_waits_is_shared_where_state_outlives_a_worker():
    queued = {"a/0", "a/1"}
    workers = Workers(moves_freely=frozenset({"a"}), is_queued=queued.__contains__)
    workers.join("x", share=3)
    workers.join("y", share=3)
    assert workers.of("x").lease.handover == Handover(1, clients(1, 0))
    assert workers.of("y").lease.handover is None
    workers.settle()
    assert workers.has("x") == clients(0, 2)
    assert workers.has("y") == clients(3, 4, 5, 1)
    queued.clear()
    assert workers.table.balance(2.0) == [], "and stays where it is"


def test_a_worker_that_cant_move_leases_is_left_alone_and_told_to_wait():
    workers = Workers()
    workers.table.join(JoinWish("old", "a", (), 4), "s", 0.0)
    assert workers.join("x").session.clients == clients(4, 5)
    assert workers.of("old").lease is None
    assert workers.table.balance(20.0) == []
    with pytest.raises(JoinRefusedError, match="waiting for one to leave"):
        workers.table.join(JoinWish("older", "a", (), 4), "t", 0.0)


def test_who_names_a_client_takes_it_from_who_leases_it():
    """A worker for certain clients knows what it does; the other one comes again, without it."""
    workers = Workers()
    workers.join("x")
    joined = workers.table.join(JoinWish("own", "a", (2,)), "s", 0.0)
    assert [each.worker for each in joined.closed] == ["x"]
    assert joined.lost == clients(0, 1, 3, 4, 5)
    assert workers.join("x", 0, 1, 2, 3, 4, 5).session.clients == clients(0, 1, 3, 4, 5)


def test_pools_have_nothing_to_do_with_each_other():
    workers = Workers()
    workers.join("x")
    workers.table.join(JoinWish("x", "b", (), 9, leases_move=True), "s", 0.0)
    assert workers.has("x") == clients(0, 1, 2, 3, 4, 5)
    assert [session.clients for session in workers.table if session.pool == "b"] == [("b/0", "b/1")]
    assert all(session.lease.handover is None for session in workers.table)
