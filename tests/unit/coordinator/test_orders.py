"""The book of orders: whole at any moment, with a revision that moves when something is said and when it is flushed."""

import pytest

from muster_coordinator.instructions import OrderTraining
from muster_coordinator.orders import SETTLEMENTS_KEPT, Answer, Fate, OrderBook


class Wakes(list):
    def __call__(self, changed, answers):
        self.append((changed, answers))


@pytest.fixture
def wakes():
    return Wakes()


@pytest.fixture
def book(wakes):
    return OrderBook(wakes)


def training(client, number=1):
    return OrderTraining(client, f"{number}.0.{client}", number, "base", 7, 30.0)


def test_a_notice_holds_everything_for_its_clients_and_nothing_of_others(book):
    for client in ("p/0", "p/1", "p/2"):
        book.order(training(client))
    book.flush()
    notice = book.notice(["p/0", "p/2", "p/9"])
    assert [order.client for order in notice.orders] == ["p/0", "p/2"]
    assert not notice.finished


def test_only_those_concerned_are_woken_and_only_by_flush(book, wakes):
    book.order(training("p/0"))
    before = book.revision(["p/0"])
    assert wakes == []
    book.flush()
    assert wakes == [(frozenset({"p/0"}), {})]
    assert book.revision(["p/0"]) > before
    assert book.revision(["p/1"]) == before
    book.flush()
    assert len(wakes) == 1


def test_withdrawing_and_settling_take_orders_away(book):
    book.order(training("p/0"))
    book.order(training("p/1"))
    book.withdraw("p/0", "1.0.p/0")
    book.settle("p/1", Fate("1.0.p/1", used=True, reason="committed"))
    book.flush()
    notice = book.notice(["p/0", "p/1"])
    assert notice.orders == ()
    assert notice.fates == (Fate("1.0.p/1", used=True, reason="committed"),)
    assert book.wanted("p/1", "1.0.p/1") is None
    assert book.fate("p/1", "1.0.p/1").used


def test_an_accepted_update_stays_wanted_until_it_is_settled(book, wakes):
    book.order(training("p/0"))
    book.answer("p/0", "1.0.p/0", Answer(accepted=True))
    book.flush()
    assert book.is_accepted("p/0", "1.0.p/0")
    assert book.wanted("p/0", "1.0.p/0") is not None
    assert wakes[-1][1] == {"1.0.p/0": Answer(accepted=True)}
    book.settle("p/0", Fate("1.0.p/0", used=False, reason="late"))
    assert not book.is_accepted("p/0", "1.0.p/0")


def test_a_settlement_answers_whoever_is_just_handing_in(book, wakes):
    book.settle("p/0", Fate("1.0.p/0", used=True, reason="committed"))
    book.flush()
    assert wakes[-1][1] == {"1.0.p/0": Answer(accepted=True, reason="committed")}


def test_a_refusal_comes_before_its_settlement(book, wakes):
    book.answer("p/0", "1.0.p/0", Answer(accepted=False, reason="no examples"))
    book.settle("p/0", Fate("1.0.p/0", used=False, reason="late"))
    book.flush()
    assert wakes[-1][1]["1.0.p/0"].reason == "no examples"


def test_old_settlements_are_forgotten(book):
    for number in range(SETTLEMENTS_KEPT + 3):
        book.settle("p/0", Fate(f"{number}.0.p/0", used=True, reason=""))
    fates = book.notice(["p/0"]).fates
    assert len(fates) == SETTLEMENTS_KEPT
    assert fates[-1].assignment == f"{SETTLEMENTS_KEPT + 2}.0.p/0"


def test_the_end_is_told_to_everybody_once(book, wakes):
    book.order(training("p/0"))
    book.flush()
    book.finish("all rounds are done")
    book.flush()
    book.flush()
    assert [changed for changed, _ in wakes] == [frozenset({"p/0"}), None]
    notice = book.notice(["p/5"])
    assert (notice.finished, notice.reason) == (True, "all rounds are done")
    assert book.revision(["p/5"]) > 1


def test_a_commit_wakes_nobody(book, wakes):
    book.committed(4)
    book.flush()
    assert wakes == []
    assert book.notice([]).committed == 4
