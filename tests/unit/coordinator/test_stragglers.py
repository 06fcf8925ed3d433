"""Clients that stop in time, and what their work counts."""

from __future__ import annotations

import math

import pytest

from fake_world import FakeWorld, config_for
from muster_coordinator.events import ClientsProfiled, UpdateStaged
from muster_coordinator.instructions import OrderTraining
from muster_coordinator.orders import Notice
from muster_coordinator.records import ClientProfile
from muster_coordinator.stragglers import PartialWork, stop_by
from muster_coordinator.translate import Told, orders_of
from muster_spec.clients import ClientId
from muster_wire.codecs import Pipeline
from muster_wire.feedback import Recipe

A0 = ClientId("a/0")


@pytest.mark.parametrize(
    ("examples", "steps", "share"),
    [
        (100, 20, 1.0),  # two epochs of ten batches
        (100, 5, 0.25),
        (95, 5, 0.25),  # the last batch is a short one, and one all the same
        (100, 99, 1.0),
        (100, 0, 1.0),  # a task that counts none
    ],
)
def test_work_counts_by_the_share_of_steps_done(examples: int, steps: int, share: float) -> None:
    assert PartialWork(epochs=2, batch_size=10, max_steps=None).share(examples, steps) == share


def test_the_most_steps_are_the_whole_work_and_some_strategies_weigh_steps_themselves() -> None:
    assert PartialWork(2, 10, max_steps=10).share(100, 5) == 0.5
    assert PartialWork(2, 10, None, is_weighed=False).share(100, 5) == 1.0


@pytest.mark.parametrize(
    ("upload_s", "stop"),
    [(4.0, 1000 - 3 - 6), (0.0, 1000 - 3), (math.nan, 1000 - 6), (500.0, 1000 - 30)],  # of a deadline of 60 s
)
def test_time_is_kept_for_the_update_to_come_in(upload_s: float, stop: float) -> None:
    assert stop_by(1000.0, 60.0, upload_s) == pytest.approx(stop)


def partial_world(**choices: object) -> FakeWorld:
    return FakeWorld(config_for({"a": 3}, total=2, partial=PartialWork(1, 2, None), **choices))


def hand_in(world: FakeWorld, name: ClientId, steps: int, upload_s: float = 2.0) -> None:
    (order,) = world.clients[name].wanted.values()
    del world.clients[name].wanted[order.assignment]
    update = UpdateStaged(name, order.assignment, 20, steps, {}, 100, upload_s=upload_s)
    world.clients[name].held[order.assignment] = update
    world.stage(update)


def test_an_update_weighs_its_examples_times_the_share_of_its_work() -> None:
    world = partial_world()
    world.join()
    world.work(A0)
    for name, steps in zip(world.config.clients, (10, 5, 1), strict=True):
        hand_in(world, name, steps)
    assert [used.weight for used in world.commits[1].used] == [20.0, 10.0, 2.0]
    assert [used.examples for used in world.commits[1].used] == [20, 20, 20]


def test_orders_say_when_to_stop_and_use_what_is_known_of_the_line() -> None:
    world = partial_world()
    world.join()
    world.work(A0)
    first = next(iter(world.clients[A0].wanted.values()))
    assert isinstance(first, OrderTraining)
    assert first.stop_by == first.deadline - 6.0  # nobody has sent anything yet
    for name in world.config.clients:
        hand_in(world, name, 10)
    second = next(iter(world.clients[A0].wanted.values()))
    assert isinstance(second, OrderTraining)
    assert second.stop_by == pytest.approx(second.deadline - 3.0 - 1.5 * 2.0)


def test_of_updates_that_nobody_saw_come_the_surveyed_line_says_how_long_they_take() -> None:
    world = partial_world()
    world.join()
    profile = ClientProfile(flops=1e9, memory_bytes=2**30, latency_s=0.1, up_bytes_per_s=50.0, down_bytes_per_s=1e9)
    world.post(ClientsProfiled(world.clients[A0].worker, (A0,), profile))
    world.work(A0)
    for name in world.config.clients:
        hand_in(world, name, 10, upload_s=0.0)
    slow, unknown = (next(iter(world.clients[name].wanted.values())) for name in world.config.clients[:2])
    assert isinstance(slow, OrderTraining)
    assert isinstance(unknown, OrderTraining)
    assert slow.stop_by == pytest.approx(slow.deadline - 3.0 - 1.5 * 100 / 50.0)
    assert unknown.stop_by == pytest.approx(unknown.deadline - 6.0)


def test_a_worker_hears_how_long_it_may_train() -> None:
    def budget(stop_by: float | None) -> int:
        order = OrderTraining(A0, first, 1, "base", 7, deadline=160.0, stop_by=stop_by)  # type: ignore[arg-type]
        notice = Notice(1, (order,), (), finished=False, reason="", committed=0)
        return orders_of(notice, told, now=100.0).assignments[0].train.budget_ms

    first, told = "1.0.a/0", Told(lambda digest: digest, lambda _: Recipe(Pipeline()))
    assert (budget(None), budget(150.0), budget(99.0)) == (0, 50_000, 1)


def test_without_it_nobody_is_told_to_stop() -> None:
    world = FakeWorld(config_for({"a": 3}, total=1))
    world.join()
    world.work(A0)
    (order,) = world.clients[A0].wanted.values()
    assert isinstance(order, OrderTraining)
    assert order.stop_by is None
