"""Who is asked, and when enough clients are here to ask anybody."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from fake_world import config_for
from muster_coordinator.assignments import client_of, evaluation_id, training_id, training_seed
from muster_coordinator.config import GRACE_S, LONGEST_GRACE_S, PoolSize
from muster_coordinator.gathering import Ready, decide_gathering, next_look
from muster_coordinator.instructions import Reason, Scope
from muster_coordinator.recovery import History, restore
from muster_coordinator.rounds import Fail, Wait
from muster_coordinator.selection import SELECTORS, Request, select_all, select_random
from muster_coordinator.state import Gathering, JobState, Owed, Roster
from muster_spec.clients import ClientId, client_id

TEN = tuple(client_id("a", index) for index in range(10))


def request(wanted: int = 4, **changes: int) -> Request:
    return replace(Request(seed=1, round=3, attempt=0, wanted=wanted, eligible=TEN), **changes)


def test_a_draw_repeats_and_depends_on_seed_round_and_attempt() -> None:
    drawn = select_random(request())
    assert drawn == select_random(request())
    assert drawn == tuple(sorted(drawn, key=lambda choice: TEN.index(choice.client)))
    others = [select_random(request(**change)) for change in ({"seed": 2}, {"round": 4}, {"attempt": 1})]
    assert all([c.client for c in other] != [c.client for c in drawn] for other in others)


def test_a_draw_is_fair() -> None:
    counts = Counter(choice.client for number in range(2000) for choice in select_random(request(round=number)))
    assert set(counts) == set(TEN)
    assert max(abs(count - 800) for count in counts.values()) < 110  # 5 standard deviations


@pytest.mark.parametrize("name", SELECTORS)
@pytest.mark.parametrize("there", [0, 1, 3, 10])
def test_every_selector_chooses_each_client_once_and_says_why(name: str, there: int) -> None:
    choices = SELECTORS[name](Request(1, 1, 0, wanted=4, eligible=TEN[:there]))
    assert len({choice.client for choice in choices}) == len(choices)
    assert {choice.client for choice in choices} <= set(TEN[:there])
    assert all(choice.reason for choice in choices)
    assert len(choices) == (there if name == "All" else min(4, there))


def test_all_means_all() -> None:
    assert [choice.client for choice in select_all(request())] == list(TEN)


def test_a_seed_depends_on_the_client_and_the_round_only() -> None:
    seeds = {training_seed(7, ordinal, number) for ordinal in range(50) for number in range(50)}
    assert len(seeds) == 2500
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert training_seed(7, 3, 4) == 8862383465893314099


def test_names_say_whose_they_are() -> None:
    client = ClientId("pool.with.dots/3")
    assert client_of(training_id(12, 1, client)) == client
    assert client_of(evaluation_id(12, Scope.LOCAL, client)) == client


# --- gathering --------------------------------------------------------------------------------------------------------


def state_with(here: int, first: float = 0.0, last: float = 0.0, **choices: object) -> JobState:
    config = config_for({"a": 10}, **choices)
    roster = Roster(dict.fromkeys(TEN[:here], "w"), first, last)
    return JobState(config, Gathering(1, 0, 0.0, patient=True), restore(config, History()).progress, roster)


@pytest.mark.parametrize(
    ("here", "cohort", "patient", "now", "expected"),
    [
        (10, 10, True, 0.0, Ready),
        (9, 10, True, GRACE_S - 0.1, Wait),
        (9, 10, True, GRACE_S, Ready),
        (9, 10, False, 0.0, Ready),
        (5, 10, False, 0.0, Ready),  # half of the cohort is the least
        (4, 10, False, 100.0, Wait),
        (4, 10, True, 1000.0, Fail),
        (1, 2, True, GRACE_S, Ready),
        (0, 2, True, GRACE_S, Wait),
    ],
)
def test_when_enough_clients_are_here(here: int, cohort: int, patient: bool, now: float, expected: type) -> None:
    state = state_with(here, cohort=cohort, wait_for_clients_s=1000.0)
    gathering = Gathering(1, 0, 0.0, patient)
    assert type(decide_gathering(state, gathering, now)) is expected


def test_grace_starts_again_with_each_newcomer_but_ends() -> None:
    gathering = Gathering(1, 0, 0.0, patient=True)
    assert next_look(state_with(6, first=1.0, last=20.0), gathering, 20.0) == 20.0 + GRACE_S
    assert next_look(state_with(6, first=1.0, last=59.0), gathering, 59.0) == 1 + LONGEST_GRACE_S


def test_no_clients_says_which_pools_lack_them() -> None:
    state = state_with(2, wait_for_clients_s=5.0)
    state = replace(state, config=replace(state.config, pools=(PoolSize("a", 10, True), PoolSize("hpc", 4, True))))
    decision = decide_gathering(state, Gathering(1, 0, 0.0, patient=False), 5.0)
    assert decision == Fail(Reason.NO_CLIENTS, "2 of at least 5 clients are here: a 2 of 10, hpc 0 of 4; waited 5 s")


def test_whoever_is_busy_with_late_work_is_not_asked_unless_it_must_be() -> None:
    state = state_with(10, cohort=4)
    busy = {training_id(1, 0, client): Owed(client, 1, "m", 0) for client in TEN[:8]}
    some, most = dict(list(busy.items())[:3]), busy
    gathering = Gathering(2, 0, 0.0, patient=False)
    assert decide_gathering(replace(state, owed=some), gathering, 0.0) == Ready(TEN[3:])
    assert decide_gathering(replace(state, owed=most), gathering, 0.0) == Ready(TEN[8:])
    assert decide_gathering(
        replace(state, owed={**most, training_id(1, 0, TEN[8]): Owed(TEN[8], 1, "m", 0)}), gathering, 0.0
    ) == Ready(TEN)
