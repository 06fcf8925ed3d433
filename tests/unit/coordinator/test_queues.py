"""Clients in the queues of batch systems, and those whose jobs come near their time limits."""

import math
from dataclasses import replace

import pytest

from fake_world import FakeWorld, config_for
from muster_coordinator.allocations import STALE_S, Allocation, Queues
from muster_coordinator.config import GRACE_S, LONGEST_GRACE_S
from muster_coordinator.events import QueueSeen
from muster_coordinator.gathering import Ready, decide_gathering, next_look, patience_end
from muster_coordinator.instructions import OrderTraining, Reason
from muster_coordinator.metrics.gauges import gauges_of
from muster_coordinator.records import Absence
from muster_coordinator.rounds import Fail, Wait
from muster_coordinator.state import Collecting, Gathering, Roster
from muster_coordinator.training import Circumstances, training_of
from muster_spec.clients import ClientId

A0, A1, A2, A3 = FOUR = tuple(ClientId(f"a/{index}") for index in range(4))
NAN = math.nan


# --- time that is left ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("usual_s", "ends", "lasts_s", "has_time"),
    [
        (NAN, None, None, True),  # nobody knows when it ends
        (NAN, 160.0, None, True),
        (NAN, 159.0, None, False),  # the deadline is 60 s
        (20.0, 125.0, None, True),  # a quarter more than it usually takes
        (20.0, 124.9, None, False),
        (80.0, 160.0, None, True),  # nobody has more time than the deadline
        (NAN, 130.0, 60.0, True),  # it will never have more time than in the first half of its allocation
        (NAN, 129.0, 60.0, False),
        (20.0, 130.0, 600.0, True),
    ],
)
def test_who_has_time_for_a_round(usual_s, ends, lasts_s, has_time):
    allocation = Allocation(is_running=True, ends=ends, lasts_s=lasts_s)
    assert allocation.has_time_for(usual_s, deadline_s=60.0, now=100.0) is has_time


def test_what_a_bridge_says_takes_the_place_of_what_it_said_and_grows_old():
    queued = Allocation(is_running=False)
    queues = Queues().told("a", {A0: queued, A1: queued}, 0.0).told("b", {ClientId("b/0"): queued}, 50.0)
    queues = queues.told("a", {A1: queued}, 20.0)
    assert set(queues.allocations) == {A1, ClientId("b/0")}
    assert queues.stale_at == 20.0 + STALE_S
    assert queues.fresh(20.0 + STALE_S - 1) is queues
    assert set(queues.fresh(20.0 + STALE_S).allocations) == {ClientId("b/0")}
    assert not queues.fresh(50.0 + STALE_S).allocations


# --- gathering --------------------------------------------------------------------------------------------------------


def gathering_world(**choices):
    """Four clients, of which a round needs two; the first model is there, and nobody else is."""
    world = FakeWorld(config_for({"a": 4}, **choices))
    world.join(A0)
    world.work(A0)
    world.lose(A0)
    assert isinstance(world.state.phase, Gathering)
    return world


def roster_of(here, queued, now=0.0):
    allocations = {client: Allocation(is_running=False, starts=starts) for client, starts in queued.items()}
    return Roster(dict.fromkeys(here, "w"), 0.0, 0.0, queues=Queues().told("a", allocations, now))


@pytest.mark.parametrize(
    ("starts", "now", "is_ready"),
    [
        (20.0, 19.0, False),
        (20.0, 20.0 + GRACE_S - 0.1, False),
        (20.0, 20.0 + GRACE_S, True),
        (LONGEST_GRACE_S + 1, 0.0, True),  # too far off to be waited for
        (None, 0.0, True),
    ],
)
def test_a_round_waits_for_who_is_about_to_come_out_of_a_queue(starts, now, is_ready):
    world = gathering_world()
    gathering = Gathering(1, 0, 0.0, patient=False)
    state = replace(world.state, roster=roster_of([A0, A1, A2], {A3: starts}))
    assert isinstance(decide_gathering(state, gathering, now), Ready) is is_ready
    if not is_ready:
        assert next_look(state, gathering, now) == 20.0 + GRACE_S
    enough = replace(state, config=replace(state.config, asked=3))
    assert isinstance(decide_gathering(enough, gathering, now), Ready)  # its cohort is full without them


def test_whoever_would_have_to_leave_before_the_round_is_over_is_not_asked():
    world = gathering_world()
    left_s = {A0: 59.0, A1: 500.0, A2: 500.0, A3: 500.0}
    allocations = {client: Allocation(is_running=True, ends=world.now + left) for client, left in left_s.items()}
    world.post(QueueSeen("a", allocations))
    world.join(*FOUR)
    assert {each.client for each in world.plans[1, 0].cohort} == {A1, A2, A3}
    assert {each.client for each in world.carried_out if isinstance(each, OrderTraining)} == {A1, A2, A3}


def test_where_too_few_have_time_the_round_waits_for_others_and_says_so():
    world = gathering_world()
    leaving = Allocation(is_running=True, ends=world.now + 30)
    world.post(QueueSeen("a", dict.fromkeys(FOUR, leaving)))
    world.join(A0, A1)
    state, gathering = world.state, world.state.phase
    decision = decide_gathering(state, gathering, world.now + 1000)
    assert isinstance(decision, Wait)
    assert "2 clients would have to leave before a round is over" in decision.why
    assert next_look(state, gathering, world.now) > world.now  # it is not looked at again and again meanwhile


def test_a_pace_that_is_known_counts_instead_of_the_deadline():
    world = FakeWorld(config_for({"a": 4}))
    world.join()
    world.work(A0)
    for client in FOUR:
        world.now += 5
        world.work(client)
    assert world.commits[-1].round == 1
    elapsed_s = world.state.progress.histories.table["elapsed_s"].tolist()
    assert elapsed_s == [5, 10, 15, 20]
    world.lose(A3)
    world.post(QueueSeen("a", {A0: Allocation(True, ends=world.now + 7), A1: Allocation(True, ends=world.now + 7)}))
    gathering = Gathering(2, 0, world.now, patient=False)
    decision = decide_gathering(world.state, gathering, world.now)
    assert decision == Ready((A0, A2))


def test_a_job_waits_for_its_queue_unless_somebody_said_for_how_long():
    gathering = Gathering(1, 0, 0.0, patient=False)
    world = gathering_world(wait_for_clients_s=100.0)
    queued = replace(world.state, roster=roster_of([A0], {A1: 9000.0}, now=50.0))
    assert isinstance(decide_gathering(queued, gathering, 200.0), Wait)
    assert patience_end(gathering.since, queued.config, queued.roster) == 50.0 + STALE_S
    told = replace(queued, config=replace(queued.config, waits_for_queues=False))
    nobody = replace(world.state, roster=roster_of([A0], {}))
    for state in (told, nobody):
        decision = decide_gathering(state, gathering, 200.0)
        assert isinstance(decision, Fail)
        assert decision.reason is Reason.NO_CLIENTS


def test_what_is_missing_says_who_waits_and_for_how_long():
    world = gathering_world()
    state = replace(world.state, roster=roster_of([A0], {A1: 400.0, A2: None}))
    decision = decide_gathering(state, Gathering(1, 0, 0.0, patient=False), 100.0)
    assert decision == Wait("1 of at least 2 clients are here: a 1 of 4 (2 in a queue, the first for about 5 min more)")


# --- within a round ---------------------------------------------------------------------------------------------------


def preempted(starts_in_s, *, done=3):
    """Round 1 is open, `done` have handed in, and a/3 is back in the queue."""
    world = FakeWorld(config_for({"a": 4}))
    world.join()
    world.work(A0)
    for client in FOUR[:done]:
        world.work(client)
    world.lose(A3, memory=False)
    world.post(QueueSeen("a", {A3: Allocation(is_running=False, starts=world.now + starts_in_s)}))
    return world


def test_whoever_comes_back_only_after_the_deadline_is_not_waited_for():
    world = preempted(61.0)
    [_, commit] = world.commits
    assert len(commit.used) == 3
    assert (commit.stragglers, commit.failed, commit.absences) == (0, {A3: "in a queue"}, {A3: Absence.QUEUED})
    table = world.state.progress.histories.table
    assert table["strikes"].tolist() == [0, 0, 0, 0]
    assert table["failed"].tolist() == [0, 0, 0, 0]
    [summary] = world.state.progress.rounds
    assert (summary.asked, summary.used, summary.rejected, summary.stragglers, summary.queued) == (4, 3, 0, 0, 1)


def test_whoever_may_be_back_in_time_is_waited_for():
    world = preempted(30.0)
    assert isinstance(world.state.phase, Collecting)
    world.now += 30
    world.join(A3)
    assert world.work(A3)
    assert len(world.commits[-1].used) == 4


def test_an_estimate_is_no_reason_to_give_a_round_up():
    world = preempted(600.0, done=1)
    assert isinstance(world.state.phase, Collecting)
    world.work(A1)
    world.work(A2)
    assert len(world.commits) == 2


# --- what people see --------------------------------------------------------------------------------------------------


def test_the_queued_are_told_when_they_are_others():
    world = preempted(30.0)
    seen = QueueSeen("a", {A3: Allocation(is_running=False, starts=world.now + 20)})
    world.post(seen)
    world.post(QueueSeen("a", {A3: Allocation(is_running=True)}))
    assert [each.details["clients"] for each in world.told if each.kind == "queued"] == [(A3,), ()]


def test_the_status_counts_the_queued_and_they_are_not_lost():
    world = preempted(30.0)
    around = Circumstances(0.0, world.now)
    clients = training_of(world.state, around).clients
    assert (clients.connected, clients.queued, clients.lost) == (3, 1, 0)
    assert [(pool.connected, pool.queued) for pool in clients.pools] == [(3, 1)]
    counts = {
        dict(each.labels)["state"]: each.value
        for each in gauges_of(world.state, 0.0)
        if each.family == "muster_clients"
    }
    assert counts == {"here": 3, "queued": 1, "away": 0}
