"""What a worker lets go of, and what it doesn't: the client in its hands, and those whose updates it holds."""

import pytest
from small_task import work
from test_worker_loop import TOP, at_work, first_model, settled, train

from fakes.federation import FakeFederation
from muster.leases import Leases
from muster.orders import Handover
from muster.task import Client


def client(index):
    return Client("p", index, index, 4, 4, 7)


@pytest.fixture
def told():
    return []


@pytest.fixture
def leases(told):
    leases = Leases({f"p/{index}": client(index) for index in range(4)})
    leases.changed = lambda: told.append(sorted(leases.clients))
    return leases


class Book:
    """Which clients can't be let go; and which have been."""

    def __init__(self, *held):
        self.held = set(held)
        self.released = []

    def release(self, name):
        if name not in self.held:
            self.released.append(name)
        return name not in self.held


ASKED = Handover(("p/3", "p/2", "p/1", "p/0"), 2)


def test_the_first_ones_that_it_can_let_go(leases, told):
    book = Book("p/2")
    with leases.hand("p/3"):
        assert leases.let_go(ASKED, book.release)
    assert book.released == ["p/1", "p/0"]
    assert told == [["p/2", "p/3"]]
    assert leases.has_left("p/1")
    assert not leases.has_left("p/2")


def test_no_more_than_asked_for_however_often_it_is_looked_at(leases):
    assert leases.let_go(ASKED, Book().release)
    assert not leases.let_go(ASKED, Book().release)
    assert sorted(leases.clients) == ["p/0", "p/1"]


def test_what_can_go_now_goes_and_the_rest_when_it_can(leases, told):
    book = Book("p/1", "p/2")
    with leases.hand("p/0"):
        assert leases.let_go(ASKED, book.release)
    assert sorted(leases.clients) == ["p/0", "p/1", "p/2"]
    book.held.clear()
    assert leases.let_go(ASKED, book.release)
    assert told[-1] == ["p/0", "p/1"]


def test_a_client_that_was_let_go_is_in_nobodys_hand_until_it_is_granted_again(leases):
    leases.let_go(Handover(("p/3",), 1), Book().release)
    with leases.hand("p/3") as found:
        assert found is None
    leases.grant({"p/3": client(3)})
    assert not leases.has_left("p/3")
    with leases.hand("p/3") as found:
        assert found == client(3)


def test_nobody_is_let_go_while_the_coordinator_is_told_who_is_there(leases, told):
    with leases.fixed():
        assert not leases.let_go(ASKED, Book().release)
    assert not leases.let_go(None, Book().release)
    assert told == []
    assert leases.let_go(ASKED, Book().release)


# --- a whole worker ---------------------------------------------------------------------------------------------------


def joined_for(federation):
    """What each Join named: the indices of the clients that the worker had by then."""
    return [tuple(request.indices) for request in federation.joins]


def test_a_worker_without_clients_waits_and_fetches_some_when_it_is_told_so():
    federation, base = FakeFederation(work(), clients=2), first_model()
    federation.grant()
    with at_work(federation, indices=(), capacity=4, share=3):
        federation.until(lambda: federation.listeners)
        asked = federation.joins[0]
        assert (asked.leases_move, asked.capacity, asked.share, list(asked.indices)) == (True, 4, 3, [])
        federation.grant(1)
        federation.order(more=True)
        federation.until(lambda: len(federation.joins) == 2)
        federation.order(train("1.0.p/1", federation.publish(base), index=1))
        federation.until(lambda: federation.update("1.0.p/1") is not None)


def test_a_worker_for_certain_clients_keeps_them():
    federation = FakeFederation(work())
    with at_work(federation):
        federation.until(lambda: federation.listeners)
    assert not federation.joins[0].leases_move


def test_clients_at_rest_are_let_go_at_once_and_the_others_once_their_updates_are_settled():
    federation, base = FakeFederation(work(), clients=3), first_model()
    with at_work(federation, indices=(), capacity=4):
        digest = federation.publish(base)
        federation.order(train("1.0.p/0", digest), train("1.0.p/1", digest, index=1))
        for assignment in ("1.0.p/0", "1.0.p/1"):
            federation.until(lambda assignment=assignment: federation.update(assignment) is not None)
        federation.grant(0, 1)
        federation.order(train("1.0.p/0", digest), train("1.0.p/1", digest, index=1), handover=(2, [2, 1, 0]))
        federation.until(lambda: len(federation.joins) == 2)
        assert joined_for(federation)[1] == (0, 1)
        assert sorted(federation.joins[1].held_assignments) == ["1.0.p/0", "1.0.p/1"]
        federation.order(train("1.0.p/0", digest), train("1.0.p/1", digest, index=1), handover=(1, [1, 0]))
        federation.until(lambda: federation.listeners == 1 and federation.beats)
        assert joined_for(federation)[-1] == (0, 1), "their updates are held"
        federation.grant(0)
        done = [*settled("1.0.p/0", used=True), *settled("1.0.p/1", used=True)]
        again = (train("2.0.p/0", digest), train("2.0.p/1", digest, index=1))
        federation.order(*again, settlements=done, handover=(1, [1, 0]))
        federation.until(lambda: len(federation.joins) == 3)
        assert joined_for(federation)[2] in {(0,), (1,)}
        kept = joined_for(federation)[2][0]
        federation.grant(kept)
        federation.order(again[kept])
        federation.until(lambda: federation.update(f"2.0.p/{kept}") is not None)
    assert federation.update(f"2.0.p/{1 - kept}") is None, "whoever acts for it next does that"
    assert not federation.reports


def test_what_was_known_of_a_client_is_not_used_when_it_comes_back():
    """It took part elsewhere meanwhile, so what this worker kept of it would be counted twice."""
    federation, base = FakeFederation(work(), clients=2), first_model()
    with at_work(federation, indices=(), capacity=4):
        digest = federation.publish(base)
        federation.order(train("1.0.p/1", digest, index=1, recipe=TOP))
        federation.until(lambda: federation.update("1.0.p/1") is not None)
        federation.grant(0)
        federation.order(settlements=settled("1.0.p/1", used=True), handover=(1, [1]))
        federation.until(lambda: len(federation.joins) == 2)
        federation.grant(0, 1)
        federation.order(more=True)
        federation.until(lambda: len(federation.joins) == 3)
        federation.order(train("5.0.p/1", digest, index=1, recipe=TOP, participations=2))
        federation.until(lambda: federation.update("5.0.p/1") is not None)
    assert federation.offers[-1].memory_lost


@pytest.mark.parametrize(("took_part", "is_lost"), [(1, False), (2, True)])
def test_memory_that_others_have_gone_past_is_lost(took_part, is_lost):
    federation, base = FakeFederation(work()), first_model()
    with at_work(federation):
        digest = federation.publish(base)
        federation.order(train("1.0.p/0", digest, recipe=TOP))
        federation.until(lambda: federation.update("1.0.p/0") is not None)
        done = settled("1.0.p/0", used=True)
        federation.order(train("5.0.p/0", digest, recipe=TOP, participations=took_part), settlements=done)
        federation.until(lambda: federation.update("5.0.p/0") is not None)
    assert federation.offers[-1].memory_lost == is_lost
