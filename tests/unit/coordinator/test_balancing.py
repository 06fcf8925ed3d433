"""The loss above which examples teach most, as the rounds so far say, and how it reaches clients."""

from __future__ import annotations

import pytest

from fake_world import FakeWorld, config_for
from muster_coordinator.balancing import loss_threshold
from muster_coordinator.histories import RoundSeen
from muster_coordinator.instructions import OrderTraining, Sampling
from muster_coordinator.orders import Notice
from muster_coordinator.records import AssignmentId
from muster_coordinator.translate import Told, orders_of
from muster_spec.clients import ClientId
from muster_wire.codecs import Pipeline
from muster_wire.feedback import Recipe

A0 = ClientId("a/0")
NAN = float("nan")


def rounds(*losses: float, low: float = 1.0, high: float = 3.0) -> list[RoundSeen]:
    return [RoundSeen(loss, 0.0, low, high) for loss in losses]


def test_it_begins_at_the_least_loss_and_rises_while_the_training_loss_falls() -> None:
    """Algorithms 2 and 3 with windows of 20 rounds and steps of 0.05, by hand."""
    falling = [100.0 - number for number in range(100)]
    assert loss_threshold([]) is None
    assert loss_threshold(rounds(NAN, low=NAN, high=NAN)) is None
    assert loss_threshold(rounds(*falling[:39])) == 1.0
    assert loss_threshold(rounds(*falling[:40])) == pytest.approx(1.0 + 2.0 * 0.05)
    assert loss_threshold(rounds(*falling[:100])) == pytest.approx(1.0 + 2.0 * 0.2)
    assert loss_threshold(rounds(*falling[:60], *[60.0] * 20)) == pytest.approx(1.0 + 2.0 * 0.05)
    assert loss_threshold(rounds(*sorted(falling))) == 1.0  # never below
    assert loss_threshold([*rounds(*falling[:40]), *rounds(0.0, low=NAN, high=NAN)]) == pytest.approx(1.1)


def test_the_plan_has_the_threshold_and_orders_the_time_as_well() -> None:
    world = FakeWorld(config_for({"a": 3}, total=3, is_balanced=True))
    world.says = {"metrics": {"loss": 1.0, "lossLow": 0.5, "lossHigh": 2.5}}
    world.join()
    world.work(A0)
    seen = []
    for _ in range(2):
        orders = [next(iter(each.wanted.values())) for each in world.clients.values()]
        seen += [order.sampling for order in orders if isinstance(order, OrderTraining)]
        for name in world.config.clients:
            world.work(name)
    deadlines = [1060.0 - 6.0] * 3  # a tenth of the 60 s is kept while nobody knows how long an update takes
    assert seen[:3] == [Sampling(deadline, None) for deadline in deadlines]
    assert [each.threshold for each in seen[3:] if each] == [0.5] * 3
    assert [plan.loss_threshold for plan in world.plans.values()] == [None, None, 0.5, 0.5]


def test_nobody_chooses_unless_the_job_says_so() -> None:
    world = FakeWorld(config_for({"a": 3}, total=1))
    world.join()
    world.work(A0)
    (order,) = world.clients[A0].wanted.values()
    assert isinstance(order, OrderTraining)
    assert order.sampling is None


def test_a_worker_hears_of_it() -> None:
    def told(sampling: Sampling | None) -> tuple[bool, bool, float, int]:
        order = OrderTraining(A0, AssignmentId("1.0.a/0"), 1, "base", 7, deadline=160.0, sampling=sampling)
        notice = Notice(1, (order,), (), finished=False, reason="", committed=0)
        around = Told(lambda digest: digest, lambda _: Recipe(Pipeline()))
        train = orders_of(notice, around, now=100.0).assignments[0].train
        there = train.HasField("sampling")
        return there, train.sampling.HasField("threshold"), train.sampling.threshold, train.sampling.budget_ms

    assert told(None) == (False, False, 0.0, 0)
    assert told(Sampling()) == (True, False, 0.0, 0)
    assert told(Sampling(finish_by=150.0, threshold=0.25)) == (True, True, 0.25, 50_000)
