"""Adaptive: its terms by hand, its rounds against random ones, and exclusions that end."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choosing import histories_of, names, request_for
from fake_world import FakeWorld, config_for
from muster_coordinator.exclusion import Exclusion
from muster_coordinator.gathering import left_out
from muster_coordinator.instructions import Outcome
from muster_coordinator.selection import SELECTORS, Selector
from muster_coordinator.selectors.adaptive import Adaptive, waited
from muster_coordinator.training import Circumstances, training_of

NOTHING = Adaptive(0, 0, 0, 0, 0, 0)
EVEN = Adaptive(1, 1, 1, 1, 1, 1)

PAST = {
    "train_s": [10.0, 20.0, 40.0, np.nan],
    "bytes_per_s": [100.0, 50.0, np.nan, 200.0],
    "used": [8, 0, 3, 0],
    "failed": [0, 2, 1, 0],
    "late": [0, 2, 0, 0],
    "moved": [3.0, 1.0, 0.0, 0.0],
    "moved_weight": [1.5, 1.0, 0.0, 0.0],
    "examples": [10, 30, 0, 90],
    "last_asked": [3, 2, 1, 0],
}


@pytest.mark.parametrize(
    ("term", "by_hand"),
    [
        ("capacity", [2 / 3, 1 / 2, 1 / 3, 1 / 2]),  # 20 is the median: 1 − t / (t + 20)
        ("bandwidth", [1 / 2, 1 / 3, 1 / 2, 2 / 3]),  # 100
        ("reliability", [1.0, 2 / 6, 5 / 6, 1.0]),
        ("quality", [2 / 3.5, 1 / 2.5, 1 / 2, 1 / 2]),  # histories 2 and 1, median 1.5
        ("data_size", [1 / 4, 1 / 2, 1 / 2, 3 / 4]),  # 30
        ("fairness", [1.0, 1.5, 2.0, 2.5]),  # two of four are asked in each round: a turn is two rounds
    ],
)
def test_each_term_is_what_its_weight_makes_of_it(term: str, by_hand: list[float]) -> None:
    request = request_for(2, names(4), histories_of(4, **PAST))
    terms = replace(NOTHING, **{term: 3.0}).terms(request.rows, waited(request, request.rows))
    assert terms[term].tolist() == pytest.approx([3 * value for value in by_hand])
    assert all(not values.any() for name, values in terms.items() if name != term)


def test_the_best_scores_are_asked_and_the_reason_is_what_speaks_most_for_each() -> None:
    choices = replace(EVEN, fairness=3.0)(request_for(2, names(4), histories_of(4, **PAST)))
    assert [choice.client for choice in choices] == ["a/2", "a/3"]
    assert choices[1].reason == "adaptive: among the best of 4 clients, most of all for its turn after waiting"
    (quick,) = replace(NOTHING, capacity=1.0)(request_for(1, names(4), histories_of(4, **PAST)))
    assert quick.client == "a/0"
    assert quick.reason.endswith("its computing speed")


LONG = 500


def play(selector: Selector, seconds: np.ndarray, rounds: int, wanted: int) -> tuple[float, Counter]:
    """The mean length of a round that waits for everybody, and how often each client was asked."""
    count, lengths, asked = len(seconds), [], Counter()
    last, past = np.zeros(count), {"elapsed_s": np.full(count, np.nan), "used": np.zeros(count)}
    for number in range(1, rounds + 1):
        request = request_for(wanted, names(count), histories_of(count, last_asked=last, **past), number)
        places = [int(choice.client[2:]) for choice in selector(request)]
        asked.update(places)
        last[places], past["elapsed_s"][places] = number, seconds[places]
        past["used"][places] += 1
        lengths.append(seconds[places].max())
        if len(asked) == count and rounds > LONG:
            break
    return float(np.mean(lengths)), asked


def test_rounds_are_shorter_than_random_ones_and_everybody_takes_part() -> None:
    seconds = np.repeat([10.0, 20.0, 40.0, 80.0], 15)
    adaptive, asked = play(EVEN, seconds, rounds=100, wanted=20)
    by_chance, _ = play(SELECTORS["Random"], seconds, rounds=100, wanted=20)
    assert adaptive < 0.6 * by_chance
    assert len(asked) == 60
    assert min(asked.values()) >= 15  # in turn it would be 33


@settings(max_examples=15, deadline=None)
@given(weight=st.floats(0.5, 2.0), others=st.lists(st.floats(0, 1), min_size=5, max_size=5), seed=st.integers(0, 99))
def test_with_any_fairness_nobody_waits_for_ever(weight: float, others: list[float], seed: int) -> None:
    seconds = np.random.default_rng(seed).uniform(1, 10, 12)
    _, asked = play(Adaptive(*others, fairness=weight), seconds, rounds=3000, wanted=3)
    assert len(asked) == 12


@pytest.mark.parametrize(
    ("capacity", "pace"),
    [
        (0.0, 8.0),  # seconds don't count
        (1.0, 2.0),  # exponent 1/8: 3/1.0905 = 2.75 against 3.2/1.2968 = 2.47
        (0.05, 8.0),  # exponent 1/84: 3/1.0083 = 2.98 against 3.2/1.0251 = 3.12
    ],
)
def test_a_round_has_the_pace_that_brings_most_for_its_time(capacity: float, pace: float) -> None:
    times, scores = np.array([1.0, 2.0, 8.0]), np.array([2.0, 1.0, 1.2])
    assert Adaptive(capacity, 0, 0, 0, 0, 1.0).pace(times, scores, wanted=2) == pace


# --- exclusion --------------------------------------------------------------------------------------------------------


def test_an_exclusion_doubles_up_to_its_limit() -> None:
    rows = histories_of(6, strikes=[0, 1, 2, 3, 4, 99], last_strike=[0, 10, 10, 10, 10, 10]).table
    assert Exclusion(2, 12).until(rows).tolist() == [0, 12, 14, 18, 22, 22]


def test_whoever_returns_first_comes_back_where_there_are_too_few() -> None:
    rows = histories_of(4, strikes=[1, 2, 0, 1], last_strike=[5, 5, 0, 4]).table
    exclusion, clients = Exclusion(2, 32), names(4)
    assert exclusion.admitted(clients, rows, 6, least=1) == ("a/2",)
    assert exclusion.admitted(clients, rows, 6, least=2) == ("a/2", "a/3")
    assert exclusion.admitted(clients, rows, 6, least=9) == clients
    assert exclusion.admitted(clients, rows, 8, least=1) == ("a/0", "a/2", "a/3")


@given(
    strikes=st.integers(0, 10**6), last=st.integers(0, 10**6), rounds=st.integers(1, 1000), extra=st.integers(0, 9000)
)
def test_every_exclusion_ends(strikes: int, last: int, rounds: int, extra: int) -> None:
    rows = histories_of(1, strikes=strikes, last_strike=last).table
    until = int(Exclusion(rounds, rounds + extra).until(rows)[0])
    assert until <= last + rounds + extra
    assert Exclusion(rounds, rounds + extra).admitted(names(1), rows, until + 1, least=0) == names(1)


def failing_world(total: int) -> FakeWorld:
    config = config_for(
        {"a": 6}, total=total, cohort=3, asked=3, min_updates=2, selector=EVEN, exclusion=Exclusion(2, 4)
    )
    world = FakeWorld(config, lambda client, order: "boom" if client == "a/0" and order.assignment[0] != "0" else None)
    world.join()
    return world


def test_a_client_that_fails_is_left_out_longer_each_time_and_always_comes_back() -> None:
    world = failing_world(total=30)
    assert world.run().outcome is Outcome.COMPLETE
    asked = sorted(
        plan.round for plan in world.plans.values() for planned in plan.cohort if planned.client == "a/0" and plan.round
    )
    gaps = np.diff(asked).tolist()
    assert gaps[0] >= 3  # two rounds out
    assert all(5 <= gap <= 8 for gap in gaps[1:])  # four out, which is the limit, and then soon back
    assert len(asked) >= 5


def test_who_is_left_out_is_counted_in_the_status() -> None:
    world = failing_world(total=30)
    while not left_out(world.state):
        for client in world.config.clients:
            world.work(client)
    assert training_of(world.state, Circumstances(0.0, world.now)).clients.excluded == 1


def test_who_is_left_out_is_told() -> None:
    world = failing_world(total=4)
    world.run()
    told = [tell for tell in world.told if tell.kind == "planned" and "leftOutUntil" in tell.details]
    assert told[0].message.endswith(", 1 client left out for a while")
    assert told[0].details["leftOutUntil"].keys() == {"a/0"}
    assert left_out(replace(world.state, config=replace(world.config, exclusion=None))) == {}
