"""A coordinator that dies anywhere, in any order of events: nothing is lost, repeated or counted twice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fake_world import FakeWorld, Order, config_for
from muster_coordinator.aggregation import AggregationNumber
from muster_coordinator.config import EngineConfig, LatePolicy
from muster_coordinator.deadlines import AdaptiveDeadline
from muster_coordinator.events import (
    ClientsJoined,
    ClientsLost,
    EvaluationReported,
    Tick,
    UpdateRejected,
    UpdateStaged,
    WorkFailed,
)
from muster_coordinator.exclusion import Exclusion
from muster_coordinator.gathering import left_out
from muster_coordinator.importance import Importance
from muster_coordinator.instructions import Outcome
from muster_coordinator.modes import Buffered, Grouped, Mode
from muster_coordinator.records import AssignmentId
from muster_coordinator.recovery import History, restore
from muster_coordinator.selection import SELECTORS
from muster_coordinator.selectors.adaptive import Adaptive
from muster_coordinator.selectors.contribution import ContributionHistory
from muster_coordinator.selectors.cost import Cost, Rate
from muster_coordinator.selectors.oort import Oort
from muster_coordinator.selectors.power_of_choice import PowerOfChoice
from muster_coordinator.stepcontrol import Progress, ResourceBudget
from muster_coordinator.stragglers import PartialWork
from muster_coordinator.strategies import FedNova, QFedAvg, Scaffold
from muster_coordinator.weighing import Weighing
from muster_spec.clients import ClientId, client_id
from muster_spec.work import BASE_LOSS

SMALL = config_for(total=2, central=True, federated=True)


def undisturbed(config: EngineConfig) -> FakeWorld:
    world = FakeWorld(config)
    world.run()
    return world


BOUNDARIES = len(undisturbed(SMALL).carried_out)


def test_the_small_job_has_many_boundaries() -> None:
    assert BOUNDARIES > 60


@pytest.mark.parametrize("boundary", range(BOUNDARIES))
def test_a_crash_between_any_two_instructions_changes_nothing(boundary: int) -> None:
    world = FakeWorld(SMALL)
    world.crash_in = boundary
    if boundary == 0:
        world.start()
    assert world.run().outcome is Outcome.COMPLETE
    calm = undisturbed(SMALL)
    assert [commit.round for commit in world.commits] == [0, 1, 2]
    # the first model is made from the job's seed, whichever client makes it
    assert [commit.used for commit in world.commits[1:]] == [commit.used for commit in calm.commits[1:]]
    assert [record.round for record in world.evaluations] == [1, 2]
    for client in world.clients.values():  # nobody whose worker lives trains twice
        assert set(client.trained.values()) <= {1}
        assert client.promoted[-2:] == calm.clients[client.name].promoted[-2:]


NEEDED = [({}, 2), ({"min_updates": 3}, 3), ({"least": 3}, 3), ({"min_updates": 1, "least": 3}, 3)]


@pytest.mark.parametrize(("choices", "needed"), NEEDED)
@pytest.mark.parametrize("short", [0, 1])
def test_a_round_with_fewer_updates_than_the_job_asks_for_is_tried_again(
    choices: dict[str, int], needed: int, short: int
) -> None:
    config = config_for({"a": 4}, total=1, **choices)
    late = set(config.clients[needed - short :])

    def behave(client: ClientId, order: Order) -> str | None:
        return "boom" if client in late and order.assignment.startswith("1.0.") else None

    world = FakeWorld(config, behave)
    world.join()
    assert world.run().outcome is Outcome.COMPLETE
    assert [commit.attempt for commit in world.commits] == [0, short]


WEIGHINGS = [
    Weighing(),
    Weighing(Importance(max_share=0.4)),
    Weighing(strategy=FedNova()),
    Weighing(strategy=Scaffold(local_rate=0.1, clients=4)),
    Weighing(strategy=QFedAvg(q=1.0, learning_rate=0.1)),
]
SAID = {"train_ms": 700, "metrics": {"loss": 1.0, BASE_LOSS: 2.0}, "norm": 0.5}
SELECTION = [
    SELECTORS["Random"],
    Adaptive(1, 1, 1, 1, 1, 1),
    Oort(0.9, 0.5, 0.2, 1, 2),
    PowerOfChoice(None),
    Cost(1, 1, 1, {"a": Rate(1.0, 300.0, 0.1)}),
    ContributionHistory(0.3),
]
MODES: list[tuple[Mode | None, LatePolicy | None]] = [
    *[(None, None)] * 5,  # where a minimum is asked for most often
    (None, LatePolicy(1, 0.5)),
    (None, LatePolicy(3, 0.0)),
    (Buffered(1), LatePolicy(0, 0.5)),
    (Buffered(2), LatePolicy(1, 0.5)),
    (Buffered(3), LatePolicy(20, 0.5)),
    (Grouped(1.2, 1, 5), LatePolicy(2, 0.5)),
    (Grouped(3.0, 5, 50), LatePolicy(20, 0.0)),
]


def in_mode(config: EngineConfig, mode: Mode | None, late: LatePolicy | None) -> EngineConfig:
    """The same job in one of the modes, without what only goes with a cohort, or with updates of one model."""
    config = replace(config, late=late, least=1 if late else config.least)
    if mode is None:
        return config
    cohort = min(mode.size, len(config.candidates_in_order)) if isinstance(mode, Buffered) else config.cohort
    mode = replace(mode, size=cohort) if isinstance(mode, Buffered) else mode
    return replace(config, mode=mode, cohort=cohort, min_updates=None, deadline_control=None, partial=None)


def job_with(clients: int, others: int, cohort: int, extra: int, fastest: int, **choices: Any) -> EngineConfig:
    """A job of so many clients that may be asked to train, and of others that lack its labels; with FedPA's number of
    updates, or that of fastest-K.
    """
    everybody = tuple(client_id("a", index) for index in range(others + clients))
    cohort = min(cohort, clients)
    share = choices["aggregation"].min_share if choices["aggregation"] else None
    fastest = math.ceil(share * cohort) if share else min(fastest, cohort)
    return config_for(
        {"a": len(everybody)},
        cohort=cohort,
        asked=min(cohort + extra, clients),
        min_updates=fastest or None,
        candidates=frozenset(everybody[others:]) if others else None,
        **choices | {"least": min(choices["least"], cohort)},
    )


configs = st.builds(
    lambda mode, choices, **counts: in_mode(job_with(**counts, **choices), *mode),
    clients=st.integers(1, 4),
    others=st.sampled_from([0, 0, 1]),
    cohort=st.integers(1, 4),
    extra=st.integers(0, 1),
    fastest=st.integers(0, 3),
    mode=st.sampled_from(MODES),
    choices=st.fixed_dictionaries(
        {
            "total": st.integers(1, 3),
            "on_insufficient": st.sampled_from(["Retry", "Extend"]),
            "max_failed": st.just(1000),
            "central": st.booleans(),
            "federated": st.booleans(),
            "evaluate_every": st.integers(1, 2),
            "selector": st.sampled_from(SELECTION),
            "exclusion": st.sampled_from([None, Exclusion(1, 2), Exclusion(2, 32)]),
            "deadline_control": st.sampled_from([None, AdaptiveDeadline(5.0, 2, is_elastic=True)]),
            "inclusion_limit": st.sampled_from([None, 3.0]),
            "partial": st.sampled_from([None, PartialWork(1, 2, None)]),
            "weighing": st.sampled_from(WEIGHINGS),
            "least": st.sampled_from([1, 1, 2, 3]),
            "is_balanced": st.booleans(),
            "aggregation": st.sampled_from([None, AggregationNumber(0.5)]),
            "step_control": st.sampled_from([None, Progress(3, 9), ResourceBudget(1e6, 0.025, 0.1, 50)]),
        }
    ),
)
layers = st.sampled_from([(), ("head",), ("body", "head")])  # that one client's updates lack
KINDS = {"join", "lose", "die", "raise", "reject", "sleep", "crash", "soon", "junk", "slow", "stored"}
steps = st.lists(
    st.tuples(st.sampled_from([*["work"] * 8, *["again"] * 3, *sorted(KINDS)]), st.integers(0, 3), st.integers(0, 90)),
    min_size=10,
    max_size=50,
)


def junk(world: FakeWorld, name: ClientId, amount: int) -> None:
    """Something that nobody waits for: of another round, another client, another time."""
    assignment = AssignmentId(f"{amount % 5}.{amount % 2}.{name}")
    other = AssignmentId(f"{amount % 4}.0.{world.config.clients[0]}")
    for event in (
        UpdateRejected(name, other, "torn"),
        WorkFailed(name, AssignmentId(f"{amount % 4}.local.{name}"), "boom") if amount % 3 else Tick(),
        EvaluationReported(name, assignment, amount, {"accuracy": float("nan")}),
        ClientsJoined("stranger", (ClientId("nowhere/9"),), (assignment,)),
        ClientsLost((name,), "heard of late", worker="some other worker"),
    )[amount % 5 :]:
        world.post(event)
    if amount % 2 and not other.endswith(f".{name}"):
        world.post(UpdateStaged(name, other, amount, 1, {}, 10))


def give_up(world: FakeWorld, name: ClientId, kind: type[WorkFailed | UpdateRejected]) -> None:
    client = world.clients[name]
    order = next(iter(client.wanted.values()), None)
    if order is not None:
        del client.wanted[order.assignment]
        client.held.pop(order.assignment, None)
        world.post(kind(name, order.assignment, "bad luck"))


def again(world: FakeWorld, name: ClientId) -> None:
    for update in list(world.clients[name].held.values()):
        world.stage(update)


DISTURBANCES: dict[str, Callable[[FakeWorld, ClientId, int], object]] = {
    "join": lambda world, name, _: world.join(name),
    "lose": lambda world, name, _: world.lose(name),
    "die": lambda world, name, _: world.lose(name, memory=False),
    "work": lambda world, name, _: world.work(name),
    "again": lambda world, name, _: again(world, name),
    "raise": lambda world, name, _: give_up(world, name, WorkFailed),
    "reject": lambda world, name, _: give_up(world, name, UpdateRejected),
    "sleep": lambda world, _, amount: world.sleep(amount - 10),  # clocks jump, and jump back
    "crash": lambda world, *_: world.start(),
    "soon": lambda world, _, amount: setattr(world, "crash_in", amount % 12),
    "slow": lambda world, *_: setattr(world, "slow_disk", not world.slow_disk),
    "stored": lambda world, *_: world.hear_of_stores(),
    "junk": junk,
}


def disturb(world: FakeWorld, what: str, who: int, amount: int) -> None:
    if world.finish is None:
        DISTURBANCES[what](world, world.config.clients[who % len(world.config.clients)], amount)


def check_exclusions_end(world: FakeWorld) -> None:
    exclusion, next_round = world.config.exclusion, world.state.progress.committed + 1
    for client, last in left_out(world.state).items():
        assert exclusion is not None
        assert next_round <= last <= next_round + exclusion.most, client


def check_histories_are_a_fold(world: FakeWorld) -> None:
    """Whatever happened on the way: what is known of clients is what the commits say, no more and no less."""
    history = History(tuple(world.commits), tuple(world.plans.values()), tuple(world.evaluations))
    assert restore(world.config, history).progress.histories == world.state.progress.histories
    table = world.state.progress.histories.table
    if len(table):
        used = Counter(used.client for commit in world.commits[1:] for used in commit.used)
        assert {client: count for client in world.config.clients if (count := used[client])} == {
            client: int(table["used"][ordinal])
            for client, ordinal in world.config.ordinals.items()
            if table["used"][ordinal]
        }


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=configs, program=steps, lacking=layers)
def test_whatever_happens_the_job_ends_and_counts_each_update_once(
    config: EngineConfig, program: list[tuple[str, int, int]], lacking: tuple[str, ...]
) -> None:
    world = FakeWorld(config)
    world.says = SAID
    world.lacking = {world.config.clients[-1]: lacking}
    world.join()
    for what, who, amount in program:
        disturb(world, what, who, amount)
    check_exclusions_end(world)
    world.crash_in = None
    finish = world.run()
    check_histories_are_a_fold(world)
    assert finish.outcome is Outcome.COMPLETE or finish.reason in ("TaskFailed", "NoFirstModel")
    used = world.used()
    assert len(used) == len(set(used))
    if finish.outcome is Outcome.COMPLETE:
        assert [commit.round for commit in world.commits] == list(range(config.total + 1))
        assert world.evaluations == [] or config.central or config.federated


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(config=configs, program=steps, crash=st.integers(0, 40), lacking=layers)
def test_living_clients_promote_exactly_what_was_used(
    config: EngineConfig, program: list[tuple[str, int, int]], crash: int, lacking: tuple[str, ...]
) -> None:
    world = FakeWorld(replace(config, central=False, federated=False))
    world.says = SAID
    world.lacking = {world.config.clients[-1]: lacking}
    world.join()
    kinds = {"join", "lose", "work", "again", "sleep", "crash", "soon", "slow", "stored"}
    for what, who, amount in program:
        if what in kinds:
            disturb(world, what, who, amount)
    world.crash_in = crash
    assert world.run().outcome is Outcome.COMPLETE
    for client in world.clients.values():
        mine = [name for name in world.used() if name.endswith(f".{client.name}")]
        # whoever was away when the last commits came still holds what was used in them
        unheard = [name for name in client.held if name in mine]
        assert sorted(client.promoted + unheard) == sorted(mine)
