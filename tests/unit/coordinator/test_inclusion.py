"""Weights against the bias of fastest-K."""

from __future__ import annotations

import numpy as np
import pytest

from fake_world import FakeWorld, config_for
from muster_coordinator.config import LatePolicy
from muster_coordinator.inclusion import inclusion_factors


def test_factors_are_inverse_to_how_often_a_client_was_counted() -> None:
    # by hand: 20 of 40 places, so b = 1/2; π = 11/12, 6/12, 6/12, 1/12
    found = inclusion_factors(np.array([10.0, 5.0, 5.0, 0.0]), 10, most=3.0)
    assert found.tolist() == pytest.approx([6 / 11, 1.0, 1.0, 3.0])
    assert inclusion_factors(np.array([10.0, 5.0, 5.0, 0.0]), 10, most=100.0)[3] == pytest.approx(6.0)


def test_at_first_everybody_counts_the_same() -> None:
    assert inclusion_factors(np.zeros(3), 0, most=3.0).tolist() == [1.0] * 3
    assert inclusion_factors(np.zeros(3), 5, most=3.0).tolist() == [1.0] * 3


def test_the_inverse_undoes_the_bias_of_a_mean() -> None:
    # quick clients hold 0, slow ones 1; quick ones are in nine sums of ten, slow ones in one of ten
    rng, odds, held = np.random.default_rng(1), np.array([0.9] * 10 + [0.1] * 10), np.array([0.0] * 10 + [1.0] * 10)
    used, plain, corrected = np.zeros(20), np.zeros(2), np.zeros(2)
    for number in range(3000):
        inside = rng.random(20) < odds
        factors = inclusion_factors(used, number, most=100.0)
        used += inside
        plain += (held[inside].sum(), inside.sum())
        corrected += ((held * factors)[inside].sum(), factors[inside].sum())
    assert plain[0] / plain[1] == pytest.approx(0.1, abs=0.01)
    assert corrected[0] / corrected[1] == pytest.approx(0.5, abs=0.02)


def corrected_world(late: LatePolicy | None) -> FakeWorld:
    """Two of three are counted in each round; a/2 is slow."""
    config = config_for({"a": 3}, total=4, cohort=3, asked=3, min_updates=2, inclusion_limit=2.0, late=late)
    world = FakeWorld(config)
    world.join()
    return world


def test_weights_in_the_records_are_examples_times_the_factor() -> None:
    world = corrected_world(None)
    world.behave = lambda client, _: "never" if client == "a/2" else None
    world.run()
    last = world.commits[-1]
    factors = {planned.client: planned.factor for planned in world.plans[4, 0].cohort}
    assert factors["a/0"] < 1 < factors["a/2"] == 2.0
    for used in last.used:
        if used.round == last.round:
            assert used.weight == pytest.approx(used.examples * factors[used.client])


def test_a_late_update_keeps_the_factor_of_its_plan() -> None:
    world = corrected_world(LatePolicy(1, 0.0))
    world.run()
    late = [used for commit in world.commits for used in commit.used if used.round and used.round < commit.round]
    assert late
    for used in late:
        planned = {each.client: each.factor for each in world.plans[used.round, 0].cohort}
        assert used.weight == pytest.approx(used.examples * planned[used.client])


def test_without_a_limit_nothing_is_corrected() -> None:
    world = FakeWorld(config_for({"a": 3}, total=3, cohort=3, asked=3, min_updates=2))
    world.join()
    world.run()
    assert {planned.factor for plan in world.plans.values() for planned in plan.cohort} == {1.0}
