"""A driver that did not ask the selector, or forgot fastest-K, deadlines or weights, would fail these tests: each check
is run a second time against a driver whose configuration lacks the policy, and has to fail there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from driving import World
from muster_coordinator.config import EngineConfig, config_of
from muster_coordinator.deadlines import AdaptiveDeadline
from muster_coordinator.driver import Driver
from muster_coordinator.events import ClientsJoined, UpdateStaged
from muster_coordinator.recovery import History
from muster_coordinator.selection import SELECTORS
from muster_spec.types import ResolvedJob

Check = Callable[[EngineConfig], None]


@pytest.fixture
def config(resolved_job: ResolvedJob, replaced: Callable[..., ResolvedJob]) -> EngineConfig:
    """A dear pool and a cheap one, of three clients each; two of them are asked, and one update is enough."""
    pool = {"type": "Kubernetes", "clients": 3, "workers": {"min": 1, "clientsPerWorker": 1}}
    costs = {"dear": 9.0, "cheap": 1.0}
    pools = [
        {"name": name, "spec": {**pool, "cost": {"perHour": price, "interruptionsPerHour": 0, "watts": 0}}}
        for name, price in costs.items()
    ]
    changes: dict[str, Any] = {
        "pools": pools,
        "spec.pools": [{"name": name} for name in costs],
        "spec.rounds.total": 6,
        "spec.rounds.cohort": 2,
        "spec.rounds.minUpdates": 1,
        "spec.rounds.inclusionCorrection": {"maxFactor": 3.0},
        "spec.selection": {"type": "Cost", "cost": {"price": 1, "interruptions": 0, "energy": 0}},
        "spec.evaluation.central": {"type": "Never"},
    }
    return config_of(replaced(resolved_job, **changes), epoch=1)


def run_rounds(config: EngineConfig, count: int) -> World:
    """Everybody is here; in each round the first of the cohort hands in after ten seconds."""
    world = World()
    driver = Driver(config, world.ports)
    driver.start(History())
    driver.handle(ClientsJoined("w", config.clients))
    for number in range(count + 1):
        (plan,) = [plan for plan in world.plans if plan.round == number]
        world.time += 10.0
        first = plan.cohort[0]
        driver.handle(UpdateStaged(first.client, first.assignment, examples=2, steps=1, metrics={}, size_bytes=8))
    return world


def check_the_policy_chooses(config: EngineConfig) -> None:
    for plan in run_rounds(config, 4).plans[1:]:
        assert all(planned.client.startswith("cheap/") for planned in plan.cohort)
        assert all(planned.reason.startswith("cost: ") for planned in plan.cohort)


def check_one_update_is_enough(config: EngineConfig) -> None:
    world = run_rounds(config, 1)
    assert [len(commit.used) for commit in world.commits] == [1, 1]
    assert [len(commit.failed) for commit in world.commits] == [0, 1]


def check_deadlines_adapt(config: EngineConfig) -> None:
    lengths = [plan.deadline_s for plan in run_rounds(config, 4).plans[1:]]
    assert lengths[0] == 60.0
    assert lengths[-1] == pytest.approx(11.0)


def check_weights_are_corrected(config: EngineConfig) -> None:
    weights = {used.weight for commit in run_rounds(config, 4).commits[2:] for used in commit.used}
    assert weights - {2.0}


ADAPTIVE = AdaptiveDeadline(1.0, 1, is_elastic=False)
CASES: dict[str, tuple[Check, dict[str, Any], dict[str, Any]]] = {
    "selector": (check_the_policy_chooses, {}, {"selector": SELECTORS["Random"]}),
    "fastest-K": (check_one_update_is_enough, {}, {"min_updates": 2}),
    "deadlines": (
        check_deadlines_adapt,
        {"deadline_control": ADAPTIVE, "cohort": 6, "asked": 6},
        {"deadline_control": None},
    ),
    "inclusion": (check_weights_are_corrected, {}, {"inclusion_limit": None}),
}


@pytest.mark.parametrize("name", CASES)
def test_with_its_policy_the_driver_does_what_the_job_says(name: str, config: EngineConfig) -> None:
    check, given, _ = CASES[name]
    check(replace(config, **given))


@pytest.mark.parametrize("name", CASES)
def test_a_driver_without_it_is_found_out(name: str, config: EngineConfig) -> None:
    check, given, without = CASES[name]
    with pytest.raises((AssertionError, ValueError)):
        check(replace(config, **(given | without)))
