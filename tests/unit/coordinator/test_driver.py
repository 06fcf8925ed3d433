"""The driver with a clock, a store and models that are only pretended: what a simulation does."""

import pytest

from driving import World
from muster_coordinator.config import config_of
from muster_coordinator.driver import Driver
from muster_coordinator.events import ClientsJoined, StopRequested, Tick, UpdateRejected, UpdateStaged
from muster_coordinator.instructions import OrderInitialisation, OrderTraining, Outcome
from muster_coordinator.recovery import History

CLIENTS = ("p/0", "p/1", "p/2")


@pytest.fixture
def world():
    return World()


@pytest.fixture
def driver(world, resolved_job, replaced):
    job = replaced(resolved_job, **{"spec.rounds.total": 1, "spec.evaluation.central": {"type": "Never"}})
    made = Driver(config_of(job, epoch=1), world.ports)
    made.start(History())
    return made


def staged(order):
    return UpdateStaged(order.client, order.assignment, examples=2, steps=1, metrics={}, size_bytes=8)


def orders(world):
    return world.book.notice(CLIENTS).orders


def run_to_first_model(driver, world):
    driver.handle(ClientsJoined("w", CLIENTS))
    (first,) = orders(world)
    assert isinstance(first, OrderInitialisation)
    driver.handle(staged(first))


def test_a_plan_is_durable_before_anybody_is_asked(driver, world):
    driver.handle(ClientsJoined("w", CLIENTS))
    stored = world.done.index("plan 0.0")
    asked = world.done.index("before OrderInitialisation")
    assert stored < asked < world.done.index("wake", asked)


def test_a_round_from_orders_to_commit(driver, world):
    run_to_first_model(driver, world)
    assert [order.base for order in orders(world)] == ["model-0"] * 3
    for order in orders(world):
        assert isinstance(order, OrderTraining)
        driver.handle(staged(order))
    assert [commit.round for commit in world.commits] == [0, 1]
    assert world.commits[1].model == "model-1"
    assert (world.commits[1].bytes_up, world.commits[1].bytes_down) == (10, 20)
    assert world.done.index("commit 1") < world.done.index("publish model-1")
    assert driver.finish.outcome is Outcome.COMPLETE
    notice = world.book.notice(CLIENTS)
    assert (notice.finished, notice.committed, notice.orders) == (True, 1, ())
    assert {fate.used for fate in notice.fates} == {True}
    assert world.answers["1.0.p/0"].accepted


def test_a_rejected_update_is_not_wanted_again(driver, world):
    run_to_first_model(driver, world)
    driver.handle(UpdateRejected("p/1", "1.0.p/1", "NaN"))
    assert sorted(order.client for order in orders(world)) == ["p/0", "p/2"]
    assert world.answers["1.0.p/1"].reason == "NaN"


def test_the_deadline_is_a_tick_at_the_time_that_was_wished_for(driver, world):
    run_to_first_model(driver, world)
    for order in orders(world)[:2]:
        driver.handle(staged(order))
    assert driver.finish is None
    assert world.time < driver.wake_at <= world.time + 60
    world.time = driver.wake_at
    driver.handle(Tick())
    assert driver.finish.outcome is Outcome.COMPLETE


def test_a_stop_leaves_the_workers_to_the_next_coordinator(driver, world):
    run_to_first_model(driver, world)
    driver.handle(StopRequested("SIGTERM"))
    assert driver.finish.outcome is Outcome.SUSPENDED
    assert not world.book.notice(CLIENTS).finished


def test_where_one_driver_ends_the_next_begins(driver, world):
    run_to_first_model(driver, world)
    later = World()
    again = Driver(driver.config, later.ports)
    again.start(History(commits=tuple(world.commits), plans=tuple(world.plans)))
    again.handle(ClientsJoined("w", CLIENTS))
    assert [order.assignment for order in orders(later)] == [order.assignment for order in orders(world)]
    assert later.plans == []
