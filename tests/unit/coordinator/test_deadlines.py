"""Deadlines that adapt, against FedBalancer's algorithms 3 and 4 worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from choosing import histories_of
from fake_world import FakeWorld, Order, config_for
from muster_coordinator.deadlines import AdaptiveDeadline, choose_deadline, most_efficient, ratio_after
from muster_coordinator.histories import RoundSeen, Table
from muster_coordinator.instructions import OrderTraining
from muster_spec.clients import ClientId

NAN = float("nan")


def seen(*losses: float) -> list[RoundSeen]:
    return [RoundSeen(loss, 0.0, NAN, NAN) for loss in losses]


def times(*elapsed: float, train: float = NAN) -> Table:
    return histories_of(len(elapsed), elapsed_s=elapsed, train_s=train).table


def chosen(cohort: Table, everybody: Table | None = None, rounds: tuple[RoundSeen, ...] = (), **policy: Any) -> float:
    control = AdaptiveDeadline(**{"least_s": 1.0, "epochs": 1, "is_elastic": False, **policy})
    everybody = cohort if everybody is None else everybody
    return choose_deadline(control, 100.0, cohort, everybody, rounds, minimum=2).seconds


@pytest.mark.parametrize(
    ("minimum", "best"),
    [(1, 2.0), (2, 12.0), (3, 12.0), (4, 12.0), (5, 80.0)],  # 1/2; then 2/10, 3/11, 4/12 = 0.33; then 5/80
)
def test_the_most_efficient_deadline_has_most_updates_a_second(minimum: int, best: float) -> None:
    assert most_efficient(np.array([80.0, 10.0, 12.0, 2.0, 11.0]), minimum) == best


def test_the_ratio_follows_the_loss_window_by_window() -> None:
    falling, rising = [1.0] * 20 + [0.5] * 20, [1.0] * 20 + [2.0] * 20
    assert ratio_after(seen(*falling[:39])) == 1.0
    assert ratio_after(seen(*falling)) == pytest.approx(0.95)
    assert ratio_after(seen(*falling, *[0.4] * 20)) == pytest.approx(0.90)
    assert ratio_after(seen(*falling, *[0.6] * 20)) == pytest.approx(1.0)
    assert ratio_after(seen(*rising)) == 1.0  # never above it
    assert ratio_after(seen(*np.linspace(1000, 0, 1000))) == 0.0  # nor below nothing


def test_between_one_epoch_and_all_of_them_the_ratio_decides() -> None:
    # whole: 10, 11, 50; of four epochs in 8 s one takes 2 s, so a single one is done at 4, 5, 44. Peaks: 11 and 5
    cohort = times(10.0, 11.0, 50.0, train=8.0)
    assert chosen(cohort, epochs=4) == pytest.approx(1.1 * 11)
    fell = tuple(seen(*np.linspace(100, 0, 420)))  # 20 windows of less and less: the ratio is at 0.05·0
    assert chosen(cohort, rounds=fell, epochs=4, is_elastic=True) == pytest.approx(1.1 * 5)
    # where clients don't stop by themselves, two of them have to be done with everything
    assert chosen(cohort, rounds=fell, epochs=4) == pytest.approx(1.1 * 11)


def test_the_deadline_stays_within_the_jobs_bounds() -> None:
    assert chosen(times(10.0, 11.0), least_s=30.0) == 30.0
    assert chosen(times(500.0, 600.0)) == 100.0


def test_nothing_is_adapted_before_half_of_all_clients_are_known() -> None:
    cohort = times(10.0, 11.0, 12.0)
    assert chosen(cohort, times(10.0, 11.0, NAN, NAN)) == 100.0
    assert chosen(cohort, times(10.0, 11.0, 12.0, NAN)) == pytest.approx(1.1 * 12)
    assert chosen(cohort, times(*[10.0] * 201, *[NAN] * 999)) == pytest.approx(1.1 * 12)


def test_who_is_not_known_yet_takes_the_usual_time() -> None:
    assert chosen(times(10.0, NAN, NAN), times(10.0, 30.0, 30.0, NAN, NAN)) == pytest.approx(1.1 * 30)


def test_who_is_not_timed_yet_takes_the_time_that_its_machine_suggests() -> None:
    # the middle one of five machines trains for 10 s; one at half its speed is reckoned with 20, one at a third with 30
    flops, train = [6.0, 6.0, 6.0, 3.0, 2.0], [10.0, 10.0, 10.0, NAN, NAN]
    table = histories_of(5, elapsed_s=train, train_s=train, flops=flops).table
    assert chosen(table[2:4], table) == pytest.approx(1.1 * 20)
    assert chosen(table[3:5], table) == pytest.approx(1.1 * 30)


def slow_world(adaptive: AdaptiveDeadline | None) -> FakeWorld:
    """Five clients take ten seconds, and one sixty; the engine's clock moves as they work."""
    world = FakeWorld(config_for({"a": 6}, total=6, min_updates=None, deadline_s=90.0, deadline_control=adaptive))
    world.join()
    world.work(ClientId("a/0"))
    while world.finish is None:
        for client in world.config.clients[:5]:
            _ = world.clients[client].wanted and (setattr(world, "now", world.now + 2.0), world.work(client))
        if world.clients[ClientId("a/5")].wanted and world.wake and world.wake > world.now + 50:
            world.now += 50.0
            world.work(ClientId("a/5"))
        elif world.finish is None and world.wake and not any(each.wanted for each in world.clients.values()):
            raise AssertionError("nobody is asked")
        elif world.wake and world.clients[ClientId("a/5")].wanted:
            world.sleep(max(world.wake - world.now, 0.0))
    return world


def test_rounds_close_sooner_where_one_client_makes_all_others_wait() -> None:
    fixed, adaptive = (slow_world(each) for each in (None, AdaptiveDeadline(1.0, 1, is_elastic=False)))
    lengths = [commit.seconds for commit in adaptive.commits[1:]]
    assert [commit.seconds for commit in fixed.commits[1:]] == [60.0] * 6
    assert lengths[0] == 60.0  # nobody is known yet
    assert max(lengths[1:]) < 12.0
    plans = [plan for plan in adaptive.plans.values() if plan.round > 1]
    assert all(plan.deadline_reason.startswith("between ") for plan in plans)


def test_an_attempt_after_a_failed_one_has_the_whole_deadline() -> None:
    def slow(_: ClientId, order: Order) -> str | None:
        return "never" if isinstance(order, OrderTraining) and order.assignment.startswith("3.0.") else None

    world = FakeWorld(config_for({"a": 3}, total=4, deadline_control=AdaptiveDeadline(5.0, 1, is_elastic=False)), slow)
    world.join()
    world.now += 1
    world.run()
    assert world.plans[3, 1].deadline_s == 60.0
    assert world.plans[3, 1].deadline_reason == ""
