"""Oort against algorithm 1 of its paper, worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from choosing import histories_of, names, request_for
from muster_coordinator.histories import RoundSeen
from muster_coordinator.selection import SELECTORS
from muster_coordinator.selectors.oort import Oort

OORT = Oort(exploration=0.9, exploration_decay=0.98, min_exploration=0.2, pacer_rounds=2, slowness_penalty=2)


def seen(utility: float) -> RoundSeen:
    return RoundSeen(loss=1.0, utility=utility, loss_low=0.0, loss_high=0.0)


def test_utility_is_loss_and_uncertainty_marked_down_for_slowness() -> None:
    # raw 100..400, least × 0.999 = 99.9, range 300.1; the root of ln 5 · 0.1 over the last round; for one (20/40)²
    histories = histories_of(
        4, examples=100, loss_rms=[1, 2, 3, 4], last_used=[1, 2, 3, 4], elapsed_s=[10, 10, 40, 20], used=1, asked=1
    )
    found = OORT.utilities(histories.table, 5, preferred_s=20.0)
    by_hand = [0.1 / 300.1 + 0.401178, 100.1 / 300.1 + 0.283676, (200.1 / 300.1 + 0.231620) / 4, 1.0 + 0.200589]
    assert found.tolist() == pytest.approx(by_hand, rel=1e-5)


def test_utility_is_clipped_at_the_95th_percentile() -> None:
    histories = histories_of(100, examples=1, loss_rms=[*range(1, 100), 10_000], last_used=1, used=1)
    found = OORT.utilities(histories.table, 1, preferred_s=math.inf)
    assert found[99] == found[95]  # place 95 of 100 is the clip
    assert found[94] < found[95]


def test_the_exponent_of_slowness() -> None:
    histories = histories_of(2, examples=1, loss_rms=[1, 2], last_used=1, elapsed_s=[10, 40], used=1)
    mild, hard = (replace(OORT, slowness_penalty=alpha).utilities(histories.table, 9, 10.0)[1] for alpha in (0, 2))
    assert hard == pytest.approx(mild / 16)


def test_the_pacer_lets_slower_clients_in_when_a_window_brought_less() -> None:
    # windows of two rounds: 20, then 14 (less), then 16 (more), then 3 (less)
    gains = [seen(value) for value in (10, 10, 7, 7, 8, 8, 1, 2)]
    assert [OORT.percentile(gains[:count]) for count in (0, 3, 4, 6, 8)] == [30, 30, 35, 35, 40]
    assert replace(OORT, pacer_rounds=4).percentile(gains) == 35
    assert OORT.percentile([seen(value) for value in range(200, 0, -1)]) == 100


def test_the_preferred_time_is_a_percentile_of_all_clients_times() -> None:
    histories = histories_of(10, elapsed_s=[*range(10, 100, 10), np.nan])
    assert OORT.preferred_s(request_for(1, names(10), histories)) == 30.0  # place int(9 · 0.3) of nine
    assert OORT.preferred_s(request_for(1, names(10), histories_of(10))) == math.inf


def test_exploration_decays_to_its_least() -> None:
    assert OORT.epsilon(1) == 0.9
    assert OORT.epsilon(2) == pytest.approx(0.882)
    assert OORT.epsilon(500) == 0.2


def test_a_cohort_is_exploited_and_explored_in_these_shares() -> None:
    known = np.arange(60) < 30
    histories = histories_of(60, asked=known, used=known, examples=10, loss_rms=1.0, last_used=1)
    oort = replace(OORT, exploration=0.3, exploration_decay=1.0)
    choices = oort(request_for(20, names(60), histories))
    explored = [choice for choice in choices if choice.reason == "Oort: explored, one of 30 clients never asked"]
    assert len(choices) == 20
    assert len(explored) == 6
    assert all(int(choice.client[2:]) >= 30 for choice in explored)
    everybody = replace(oort, exploration=0.0, min_exploration=0.0)(request_for(20, names(60), histories))
    assert all(int(choice.client[2:]) < 30 for choice in everybody)


def test_newcomers_are_explored_by_speed() -> None:
    histories = histories_of(20, bytes_per_s=[1e6] * 10 + [1.0] * 10)
    asked = {choice.client for number in range(1, 30) for choice in OORT(request_for(5, names(20), histories, number))}
    assert asked <= set(names(10))


def test_in_a_first_job_newcomers_are_explored_by_what_their_workers_measured() -> None:
    quick = np.arange(20) < 14
    lines = {"latency_s": 0.01, "up_bytes_per_s": 1e6, "down_bytes_per_s": np.where(quick, 1e9, 1.0)}
    for known in ({"flops": np.where(quick, 1e12, 1e6)}, {"flops": 1e9, **lines}):
        histories = histories_of(20, **known)
        rounds = [OORT(request_for(5, names(20), histories, number)) for number in range(1, 30)]
        assert {choice.client for choices in rounds for choice in choices} <= set(names(14))


def test_whoever_never_delivered_comes_when_nobody_else_is_left() -> None:
    histories = histories_of(4, asked=[1, 1, 1, 0], used=[1, 0, 0, 0], examples=10, loss_rms=1.0, last_used=1)
    reasons = {choice.client: choice.reason for choice in OORT(request_for(3, names(4), histories))}
    assert reasons["a/0"].startswith("Oort: drawn by utility")
    assert reasons["a/3"].startswith("Oort: explored")
    assert list(reasons.values()).count("Oort: asked for want of others") == 1


def test_quick_clients_with_large_losses_are_asked_more_than_by_chance() -> None:
    # section 3 of the paper: neither the quickest nor those with the largest loss alone, but both
    loss, slow = np.arange(40) % 2 * 9.0 + 1.0, np.arange(40) >= 20
    histories = histories_of(
        40, asked=1, used=1, examples=10, loss_rms=loss, last_used=1, elapsed_s=np.where(slow, 100.0, 10.0)
    )
    oort = replace(OORT, exploration=0.0, min_exploration=0.0)

    def share(selector: object) -> float:
        rounds = [request_for(8, names(40), histories, number) for number in range(1, 100)]
        places = [int(choice.client[2:]) for each in rounds for choice in selector(each)]  # type: ignore[operator]
        return sum(loss[place] > 1 and not slow[place] for place in places) / len(places)

    assert share(SELECTORS["Random"]) == pytest.approx(0.25, abs=0.05)
    assert share(oort) == 1.0
