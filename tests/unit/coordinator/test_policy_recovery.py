"""What the records of a job come to, and which records are refused."""

from __future__ import annotations

import msgspec
import pytest

from fake_world import FakeWorld, config_for
from muster_coordinator.config import LatePolicy
from muster_coordinator.recovery import History, HistoryError, restore

CONFIG = config_for(total=8, federated=True, central=True, patience=100)


def finished() -> FakeWorld:
    world = FakeWorld(CONFIG)
    world.run()
    return world


WORLD = finished()
COMMITS, PLANS, EVALUATIONS = tuple(WORLD.commits), tuple(WORLD.plans.values()), tuple(WORLD.evaluations)


def test_restoring_gives_what_the_coordinator_knew() -> None:
    restored = restore(CONFIG, History(COMMITS, PLANS, EVALUATIONS))
    assert restored.progress == WORLD.state.progress
    assert restored.plan is None
    assert restored.initialisers == WORLD.state.initialisers


def test_order_does_not_matter() -> None:
    assert restore(CONFIG, History(COMMITS[::-1], PLANS[::-1], EVALUATIONS[::-1])) == restore(
        CONFIG, History(COMMITS, PLANS, EVALUATIONS)
    )


def test_the_newest_plan_that_is_not_committed_is_under_way() -> None:
    restored = restore(CONFIG, History(COMMITS[:4], PLANS[:5], EVALUATIONS[:3]))
    assert restored.plan == PLANS[4]
    assert restored.progress.committed == 3


def test_nothing_is_a_history_too() -> None:
    restored = restore(CONFIG, History())
    assert (restored.progress.committed, restored.plan, restored.owed) == (-1, None, {})


def test_the_newest_few_used_updates_of_each_client_are_known() -> None:
    progress = restore(CONFIG, History(COMMITS, PLANS, EVALUATIONS)).progress
    assert progress.used["a/1"] == ("5.0.a/1", "6.0.a/1", "7.0.a/1", "8.0.a/1")


@pytest.mark.parametrize(
    ("history", "message"),
    [
        (History(COMMITS[1:]), "round 1 is there, but not round 0"),
        (History((*COMMITS[:3], *COMMITS[4:])), "round 4 is there, but not round 3"),
        (History((*COMMITS, COMMITS[3])), "round 3 is there twice"),
        (History(COMMITS[:3], PLANS[4:5]), "round 4 is planned, but round 3 is not committed"),
        (History(COMMITS[:4], (PLANS[4], PLANS[4])), "attempt 0 of round 4 is there twice"),
        (History(COMMITS[:3], (), EVALUATIONS), "round 3 is measured, but its commit is not there"),
        (History(COMMITS, (), (*EVALUATIONS, EVALUATIONS[0])), "round 1 is there twice"),
    ],
)
def test_records_that_contradict_one_another_are_refused(history: History, message: str) -> None:
    with pytest.raises(HistoryError, match=message):
        restore(CONFIG, history)


def test_a_round_from_another_model_is_refused() -> None:
    strange = msgspec.structs.replace(COMMITS[2], base="model-of-another-job")
    with pytest.raises(HistoryError, match="round 2 started from model-of-another-job, not from model-1"):
        restore(CONFIG, History((*COMMITS[:2], strange)))
    plan = msgspec.structs.replace(PLANS[3], base="model-of-another-job")
    with pytest.raises(HistoryError, match="round 3 starts from model-of-another-job, not from model-2"):
        restore(CONFIG, History(COMMITS[:3], (plan,)))


@pytest.mark.parametrize(("staleness", "owed"), [(3, {"1.0.a/2"}), (1, set())])
def test_late_work_is_still_owed_while_it_is_of_use(staleness: int, owed: set[str]) -> None:
    config = config_for(min_updates=2, late=LatePolicy(staleness, 1.0), total=9)
    world = FakeWorld(config)
    world.join()
    for name in (0, 0, 1, 0, 1):  # a/2 is at work since round 1
        world.work(config.clients[name])
    assert world.commits[-1].round == 2
    history = History(tuple(world.commits), tuple(world.plans.values()))
    assert set(restore(config, history).owed) == owed
    assert set(world.state.owed) == owed


def test_late_work_that_a_later_round_has_used_is_not_owed_any_more() -> None:
    config = config_for(min_updates=2, late=LatePolicy(3, 1.0), total=9)
    world = FakeWorld(config)
    world.join()
    for name in (0, 0, 1, 2, 0, 1):  # a/2 is late for round 1, and in round 2
        world.work(config.clients[name])
    assert "1.0.a/2" in [used.assignment for used in world.commits[2].used]
    assert restore(config, History(tuple(world.commits), tuple(world.plans.values()))).owed == {}
