"""Rounds that nobody waits for: FedBuff's buffer and FedCompass's groups, against the engine in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fake_world import FakeWorld, Order, config_for
from muster_coordinator.compass import Group, Speed, assign
from muster_coordinator.config import EngineConfig, LatePolicy, config_of
from muster_coordinator.events import PauseWished, UpdateRejected
from muster_coordinator.importance import Importance
from muster_coordinator.instructions import (
    OrderEvaluation,
    OrderTraining,
    Outcome,
    Reason,
    Settle,
    StoreCommit,
    StorePlan,
    Withdraw,
)
from muster_coordinator.late import damping
from muster_coordinator.modes import Buffered, Grouped
from muster_coordinator.orders import Notice
from muster_coordinator.records import Absence, AssignmentId, Stint, UsedUpdate
from muster_coordinator.selection import SELECTORS
from muster_coordinator.state import Evaluating
from muster_coordinator.sums import Sum
from muster_coordinator.translate import Told, orders_of
from muster_coordinator.weighing import Weighing
from muster_spec.clients import ClientId
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.feedback import Recipe
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import PayloadKind, Shape, encode_update
from muster_wire.values import Values

A = [ClientId(f"a/{index}") for index in range(8)]
UNIFORM = Weighing(Importance((("Uniform", 1.0),)))
Behave = Callable[[ClientId, Order], str | None]


def buffered(size: int = 2, clients: int = 4, staleness: int = 20, **choices: object) -> EngineConfig:
    config = config_for({"a": clients}, **{"total": 6, "weighing": UNIFORM, **choices})
    return replace(config, mode=Buffered(size), late=LatePolicy(staleness, 0.5), cohort=size)


def grouped(clients: int = 4, staleness: int = 20, **choices: object) -> EngineConfig:
    config = config_for({"a": clients}, **{"total": 6, **choices})
    return replace(config, mode=Grouped(1.5, 10, 100), late=LatePolicy(staleness, 0.5))


def opened(config: EngineConfig, behave: Behave = lambda client, order: None) -> FakeWorld:  # noqa: ARG005
    """A world with a first model, in which everybody has been asked for version 1."""
    world = FakeWorld(config, behave)
    world.join()
    assert world.work(A[0])
    return world


def of_type(world: FakeWorld, kind: type) -> list:
    return [each for each in world.carried_out if isinstance(each, kind)]


def wanted(world: FakeWorld, name: ClientId) -> list[str]:
    return [each for each, order in world.clients[name].wanted.items() if isinstance(order, OrderTraining)]


# --- Asynchronous -----------------------------------------------------------------------------------------------------


def test_a_version_is_made_of_as_many_updates_as_the_buffer_holds() -> None:
    world = opened(buffered(size=2))
    world.work(A[2])
    assert len(world.commits) == 1
    world.work(A[0])
    assert [used.client for used in world.commits[1].used] == [A[2], A[0]]
    assert world.commits[1].owed == ("1.0.a/1", "1.0.a/3")
    assert wanted(world, A[0]) == ["2.0.a/0"]  # from the new model
    assert wanted(world, A[1]) == ["1.0.a/1"]  # goes on
    assert not of_type(world, Withdraw)


def test_stale_updates_count_less_and_as_the_paper_divides() -> None:
    """Algorithm 1 of FedBuff by hand: Σ s_i Δ_i / K with s = (1 + τ)^-1/2, where a mean would divide by Σ s_i."""
    world = opened(buffered(size=2))
    for name in (A[0], A[2], A[0], A[2], A[0], A[2]):
        assert world.work(name)
    assert [len(commit.used) for commit in world.commits[1:]] == [2, 2, 2]
    world.work(A[1])  # began at version 0, and three have been made since
    world.work(A[0])
    commit = next(each for each in of_type(world, StoreCommit) if each.round == 4)
    assert [(used.client, used.round, used.weight) for used in commit.used] == [(A[1], 1, 0.5), (A[0], 4, 1.0)]
    assert commit.scale == pytest.approx((0.5 + 1.0) / 2)
    first, second = np.array([4.0, -2.0]), np.array([1.0, 8.0])
    mean = (0.5 * first + 1.0 * second) / 1.5
    np.testing.assert_allclose(commit.scale * mean, (0.5 * first + second) / 2)


def test_the_sum_of_a_version_is_the_papers() -> None:
    """The same through the real codecs and the real sum, with weights by examples: Σ p_i s_i Δ_i / Σ p_i."""
    layout = Layout((TensorSpec("weight", (3,), "float32", Kind.TRAINABLE),))
    base, changes = np.float32([1, 1, 1]), (np.float32([4, 0, -8]), np.float32([0, 6, 3]))
    examples, staleness = (30, 10), (3, 0)
    used = [
        UsedUpdate(
            client=A[place],
            assignment=AssignmentId(str(place)),
            round=5 - age,
            examples=count,
            weight=1.0,
            steps=1,
            metrics={},
            discount=(1 + age) ** -0.5,
        )
        for place, (count, age) in enumerate(zip(examples, staleness, strict=True))
    ]
    weighing = Weighing()
    weights = [each.weight for each in weighing.weigh(used)]
    scale = weighing.scale(used) * damping(used, weighing.importance.of(used), 5, 0.5)
    total = Sum(layout)
    for change, weight in zip(changes, weights, strict=True):
        update = Values.zeros(layout, frozen=False)
        update.trainable[...] = change
        total.fold_payload(
            Shape(layout, PayloadKind.UPDATE, CodecId.FLOAT32), encode_update(update, CodecId.FLOAT32), weight
        )
    model = Values.zeros(layout)
    model.trainable[...] = base
    made = total.finish(model, lambda before, mean: before + scale * mean)
    by_hand = base + (30 * 0.5 * changes[0] + 10 * 1.0 * changes[1]) / (30 + 10)
    np.testing.assert_allclose(made.trainable, by_hand, rtol=1e-6)


def test_updates_that_are_all_as_stale_move_the_model_less() -> None:
    """Of a plain weighted mean nobody could tell: its weights cancel."""
    world = opened(buffered(size=1))
    for _ in range(3):
        world.work(A[0])
    world.work(A[1])
    commit = of_type(world, StoreCommit)[-1]
    assert [used.client for used in commit.used] == [A[1]]
    assert commit.scale == pytest.approx((1 + 3) ** -0.5)


def test_so_many_clients_train_at_one_time() -> None:
    config = buffered(size=3, clients=8, asked=2, selector=SELECTORS["Random"], total=10)
    world = opened(config)
    seen = set()
    for _ in range(40):
        busy = [name for name in config.clients if wanted(world, name)]
        assert len(busy) == 2 or world.finish
        seen.update(busy)
        if world.finish:
            break
        world.work(busy[0])
    assert world.finish
    assert seen == set(config.clients)


def test_nobody_is_asked_while_an_update_of_theirs_waits() -> None:
    world = opened(buffered(size=3, clients=4))
    world.work(A[0])
    world.work(A[1])
    assert not wanted(world, A[0])
    assert not wanted(world, A[1])
    assert len(of_type(world, StorePlan)) == 2  # of the first model, and of version 1


def test_who_comes_later_is_asked_at_once() -> None:
    world = FakeWorld(buffered(size=2))
    world.join(A[0], A[1], A[2])
    world.work(A[0])
    world.sleep(60)  # nobody else comes
    assert wanted(world, A[2]) == ["1.0.a/2"]
    world.join(A[3])
    assert wanted(world, A[3]) == ["1.1.a/3"]
    assert world.plans[1, 1].cohort[0].client == A[3]


def test_work_that_is_too_old_is_withdrawn() -> None:
    world = opened(buffered(size=1, staleness=1))
    for _ in range(2):
        world.work(A[0])
    withdrawn = {each.client for each in of_type(world, Withdraw)}
    assert withdrawn == {A[1], A[2], A[3]}
    assert wanted(world, A[1]) == ["3.0.a/1"]
    world.work(A[0])
    assert world.commits[3].absences == {A[1]: Absence.OVERTAKEN, A[2]: Absence.OVERTAKEN, A[3]: Absence.OVERTAKEN}


def test_work_that_has_had_its_time_is_given_up() -> None:
    world = opened(buffered(size=2))
    world.sleep(30)
    world.work(A[0])
    world.work(A[1])
    world.sleep(31)  # A[2] and A[3] were asked 61 s ago
    assert {each.client for each in of_type(world, Withdraw)} == {A[2], A[3]}
    world.work(A[0])
    world.work(A[1])
    assert world.commits[2].failed == {A[2]: "no update in time", A[3]: "no update in time"}
    assert world.commits[2].absences == {A[2]: Absence.LATE, A[3]: Absence.LATE}
    assert wanted(world, A[2]) == ["3.0.a/2"]


def test_a_version_is_made_of_fewer_where_nobody_else_can_be_asked() -> None:
    world = opened(buffered(size=4), lambda client, order: "boom" if client == A[3] else None)  # noqa: ARG005
    for name in A[:4]:
        world.work(name)
    assert [used.client for used in world.commits[1].used] == A[:3]
    assert "nobody else can be asked" in world.commits[1].reason
    assert world.commits[1].failed == {A[3]: "boom"}


def test_a_client_that_failed_is_not_asked_again_for_the_same_version() -> None:
    world = opened(buffered(size=3), lambda client, order: "boom" if client == A[3] else None)  # noqa: ARG005
    world.work(A[3])
    assert not wanted(world, A[3])
    for name in A[:3]:
        world.work(name)
    assert wanted(world, A[3]) == ["2.0.a/3"]


def test_a_task_that_raises_everywhere_ends_the_job() -> None:
    world = opened(buffered(size=2), lambda client, order: "boom" if isinstance(order, OrderTraining) else None)  # noqa: ARG005
    finish = world.run()
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, Reason.TASK_FAILED)
    assert "boom" in finish.message


def test_versions_that_fail_in_a_row_end_the_job() -> None:
    world = opened(buffered(size=4, max_failed=2), lambda client, order: None if client == A[0] else "never")  # noqa: ARG005
    finish = world.run()
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, Reason.TOO_MANY_FAILED_ROUNDS)


def test_a_version_that_failed_asks_those_who_failed_again_and_keeps_what_is_in() -> None:
    fails = {A[1]: 1, A[2]: 1, A[3]: 1}

    def behave(client: ClientId, order: Order) -> str | None:
        if isinstance(order, OrderTraining) and fails.get(client, 0):
            fails[client] -= 1
            return "boom"
        return None

    world = opened(buffered(size=4), behave)
    for name in A[:4]:
        world.work(name)
    assert wanted(world, A[1]) == ["1.1.a/1"]
    for name in A[1:4]:
        world.work(name)
    assert [used.assignment for used in world.commits[1].used] == ["1.0.a/0", "1.1.a/1", "1.1.a/2", "1.1.a/3"]
    assert world.commits[1].failed_attempts == 1


def test_no_job_fails_for_clients_that_are_away() -> None:
    world = opened(buffered(size=4, max_failed=1, wait_for_clients_s=3600.0))
    for name in A[1:4]:
        world.lose(name)
    for _ in range(10):
        world.sleep(61)
    assert world.finish is None
    world.join()
    assert world.run().outcome is Outcome.COMPLETE


def test_a_job_ends_when_its_clients_stay_away() -> None:
    world = opened(buffered(size=4, wait_for_clients_s=3600.0))
    for name in A[:4]:
        world.lose(name)
    while world.finish is None:
        assert world.wake is not None
        world.sleep(max(world.wake - world.now, 1))
    assert world.finish.reason is Reason.NO_CLIENTS


def test_who_is_idle_measures_the_model_while_others_train() -> None:
    world = opened(buffered(size=2, central=True, evaluate_every=1))
    world.work(A[2])
    world.work(A[3])
    assert isinstance(world.state.phase, Evaluating)
    assert [each.client for each in of_type(world, OrderEvaluation)] == [A[2]]
    world.work(A[0])  # trained for version 1, and comes while it is measured
    world.work(A[2])
    assert [used.client for used in world.commits[-1].used] == [A[2], A[3]]
    world.work(A[3])
    assert [used.client for used in world.commits[2].used] == [A[0], A[3]]


def test_a_suspended_job_goes_on_with_what_clients_hold() -> None:
    world = opened(buffered(size=2))
    world.post(PauseWished(is_wished=True))
    world.work(A[0])
    world.work(A[1])
    assert world.finish is not None
    assert world.finish.outcome is Outcome.SUSPENDED
    world.start()
    world.join()
    assert wanted(world, A[2]) == ["1.0.a/2"]  # still, whatever it has done of it meanwhile
    assert world.run().outcome is Outcome.COMPLETE
    assert set(world.clients[A[2]].trained.values()) == {1}


def test_who_cannot_have_its_model_any_more_gets_other_work() -> None:
    world = opened(buffered(size=2))
    world.work(A[0])
    world.work(A[1])
    world.clients[A[2]].wanted.clear()
    world.post(UpdateRejected(A[2], AssignmentId("1.0.a/2"), "the model to begin from is no longer given out"))
    world.work(A[0])
    world.work(A[1])
    assert wanted(world, A[2]) == ["3.0.a/2"]


# --- SemiSynchronous --------------------------------------------------------------------------------------------------

POLICY = Grouped(1.5, 10, 100)


def test_clients_of_one_speed_arrive_together() -> None:
    """By hand: the fastest founds a group with most steps, the next has time for half, the third for too few."""
    speeds = {A[0]: Speed(0.1), A[1]: Speed(0.2), A[2]: Speed(2.0)}
    stints = assign(speeds, {}, POLICY, first=1, now=1000.0)
    assert stints[A[0]] == Stint(steps=100, group=1, arrival_s=10.0)
    assert stints[A[1]] == Stint(steps=50, group=1, arrival_s=10.0)
    # Group 1 is here by 1010, at the latest 1015, and its fastest then again 100 steps later, at 1025: 12 slow steps.
    assert stints[A[2]] == Stint(steps=12, group=2, arrival_s=24.0)


def test_nobody_gets_more_steps_than_there_is_time_for() -> None:
    assert assign({A[0]: Speed(1.0, 2.0)}, {}, POLICY, 1, 0.0, within_s=42.5)[A[0]].steps == 40
    assert assign({A[0]: Speed(9.0)}, {}, POLICY, 1, 0.0, within_s=42.0)[A[0]].steps == 10  # the least there may be


def test_whoever_is_free_joins_the_group_for_which_it_can_do_most() -> None:
    groups = {3: Group(expected=1003.0, latest=1004.0, fastest_s=0.1), 4: Group(1009.0, 1012.0, 0.1)}
    assert assign({A[0]: Speed(0.1)}, groups, POLICY, 5, 1000.0)[A[0]] == Stint(steps=90, group=4, arrival_s=9.0)
    assert assign({A[0]: Speed(0.2, 0.5)}, groups, POLICY, 5, 1000.0)[A[0]] == Stint(steps=42, group=4, arrival_s=8.9)
    assert assign({A[0]: Speed(0.05)}, groups, POLICY, 5, 1000.0)[A[0]] == Stint(steps=60, group=3, arrival_s=3.0)


def test_who_is_too_slow_for_every_group_does_the_least_it_may() -> None:
    groups = {3: Group(expected=1003.0, latest=1004.0, fastest_s=0.01)}
    assert assign({A[0]: Speed(5.0)}, groups, POLICY, 5, 1000.0)[A[0]] == Stint(steps=10, group=5, arrival_s=50.0)


def test_a_client_of_unknown_speed_does_the_least_steps_and_counts_by_itself() -> None:
    world = opened(grouped())
    assert {planned.stint for planned in world.plans[1, 0].cohort} == {Stint(steps=10, group=0)}
    orders = of_type(world, OrderTraining)
    told = Told(lambda model: model, lambda uplink: Recipe(Pipeline()))  # noqa: ARG005
    sent = orders_of(Notice(1, tuple(orders), (), False, "", 0), told, world.now)
    assert [each.train.steps for each in sent.assignments] == [10] * 4
    world.sleep(1)
    world.work(A[1])
    assert [used.client for used in world.commits[1].used] == [A[1]]


def known(world: FakeWorld, seconds: dict[ClientId, float]) -> None:
    """Everybody hands its first update in, so that its speed is known: of 5 steps, as the fake clients say."""
    began = world.now
    for name, after in sorted(seconds.items(), key=lambda each: each[1]):
        world.now = began + after
        world.work(name)


def test_a_group_makes_one_version_and_who_is_late_counts_with_the_next() -> None:
    world = opened(grouped(clients=3, total=20))
    known(world, {A[0]: 1.0, A[1]: 1.0, A[2]: 1.0})
    assert len(world.commits) == 4  # each by itself
    assert not wanted(world, A[2]) or len(world.state.groups) == 1
    (number,) = world.state.groups
    group = world.state.groups[number]
    assert {work.stint.group for work in world.state.owed.values() if work.stint} == {number}
    world.now = group.expected
    world.work(A[0])
    world.work(A[1])
    assert len(world.commits) == 4  # the third is waited for
    world.sleep(group.latest - world.now)
    assert [used.client for used in world.commits[4].used] == [A[0], A[1]]
    world.work(A[2])  # late
    assert len(world.commits) == 5
    assert {work.client for work in world.state.owed.values()} == set(A[:3])
    world.sleep(next(iter(world.state.groups.values())).expected - world.now)
    world.work(A[0])
    world.work(A[1])
    assert {used.client for used in world.commits[5].used} == set(A[:3])
    stale = next(used for used in world.commits[5].used if used.client == A[2])
    assert stale.discount == pytest.approx(2**-0.5)


def test_a_group_that_nobody_came_for_is_none() -> None:
    world = opened(grouped(clients=2, total=20))
    known(world, {A[0]: 1.0, A[1]: 1.0})
    latest = max(group.latest for group in world.state.groups.values())
    world.sleep(latest - world.now)
    assert not world.state.groups
    world.work(A[0])  # late, and the other is late too: nobody else is awaited
    assert [used.client for used in world.commits[-1].used] == [A[0]]
    assert "no group is under way" in world.commits[-1].reason


@pytest.mark.parametrize(("by_examples", "share"), [(True, 11 / (10 + 11 + 12)), (False, 1 / 3)])
def test_a_group_moves_the_model_by_its_share_of_all(by_examples: bool, share: float) -> None:
    """FedCompass sums p_i Δ_i over a group, and p_i is a client's share of everybody's examples."""
    world = opened(replace(grouped(clients=3, total=20), mode=Grouped(1.5, 10, 100, by_examples)))
    known(world, {A[0]: 1.0, A[1]: 1.0, A[2]: 1.0})
    (group,) = world.state.groups.values()
    world.now = group.expected
    world.work(A[1])
    world.sleep(group.latest - world.now)
    commit = of_type(world, StoreCommit)[-1]
    assert [used.client for used in commit.used] == [A[1]]
    stale = commit.round - commit.used[0].round
    assert commit.scale == pytest.approx(share * (1 + stale) ** -0.5)


# --- both -------------------------------------------------------------------------------------------------------------

SMALL = [buffered(size=2, clients=3, total=2, central=True), grouped(clients=2, total=3, federated=True)]


def boundaries(config: EngineConfig) -> int:
    world = FakeWorld(config)
    world.run()
    return len(world.carried_out)


@pytest.mark.parametrize("config", SMALL, ids=["buffered", "grouped"])
def test_a_crash_between_any_two_instructions_loses_and_repeats_nothing(config: EngineConfig) -> None:
    count = boundaries(config)
    assert count > 40
    for boundary in range(count):
        world = FakeWorld(config)
        world.crash_in = boundary
        if boundary == 0:
            world.start()
        assert world.run().outcome is Outcome.COMPLETE
        assert [commit.round for commit in world.commits] == list(range(config.total + 1))
        assert len(world.used()) == len(set(world.used()))
        for client in world.clients.values():
            assert set(client.trained.values()) <= {1}
            assert set(client.promoted) <= set(world.used())


@pytest.mark.parametrize("config", SMALL, ids=["buffered", "grouped"])
def test_a_restart_finds_the_work_that_is_owed(config: EngineConfig) -> None:
    world = opened(replace(config, central=False, federated=False))
    world.work(A[1])
    world.work(A[0])
    before = {name: work.client for name, work in world.state.owed.items()}
    assert before
    world.start()
    assert {name: work.client for name, work in world.state.owed.items()} == before
    assert world.run().outcome is Outcome.COMPLETE
    assert not [each for each in of_type(world, Settle) if not each.used]


def test_the_manifest_chooses_the_mode(resolved_job, replaced) -> None:
    rounds = {"mode": "Asynchronous", "asynchronous": {"bufferSize": 2, "maxStaleness": 7, "exponent": 0.3}}
    config = config_of(replaced(resolved_job, **{f"spec.rounds.{name}": value for name, value in rounds.items()}), 1)
    assert (config.mode, config.late, config.cohort, config.asked) == (Buffered(2), LatePolicy(7, 0.3), 2, 3)
    rounds["asynchronous"] = {"concurrency": 1, "maxStaleness": 7, "exponent": 0.3}
    config = config_of(replaced(resolved_job, **{f"spec.rounds.{name}": value for name, value in rounds.items()}), 1)
    assert (config.mode, config.asked) == (Buffered(1), 1)  # half of three clients
    groups = {"latenessFactor": 1.4, "minSteps": 3, "maxSteps": 9, "maxStaleness": 4, "exponent": 1.0}
    rounds = {"mode": "SemiSynchronous", "semiSynchronous": groups, "cohort": 2}
    config = config_of(replaced(resolved_job, **{f"spec.rounds.{name}": value for name, value in rounds.items()}), 1)
    assert (config.mode, config.late, config.asked) == (Grouped(1.4, 3, 9), LatePolicy(4, 1.0), 2)
