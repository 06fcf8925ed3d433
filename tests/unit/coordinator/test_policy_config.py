"""What the engine is told of a job, from the manifest's fields and the schema's defaults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fake_world import FakeWorld
from muster_coordinator.config import EngineConfig, Goal, LatePolicy, PoolSize, config_of
from muster_coordinator.exclusion import Exclusion
from muster_coordinator.gathering import decide_gathering
from muster_coordinator.instructions import Outcome
from muster_coordinator.rounds import Wait
from muster_coordinator.selection import select_all, select_random
from muster_coordinator.selectors.adaptive import Adaptive
from muster_coordinator.selectors.contribution import ContributionHistory
from muster_coordinator.selectors.cost import Cost, Rate
from muster_coordinator.selectors.oort import Oort
from muster_coordinator.selectors.power_of_choice import PowerOfChoice
from muster_coordinator.state import Gathering
from muster_spec.loading import load
from muster_spec.resolving import resolve


def config_from(folder: Path, clients: int = 5, **spec: Any) -> EngineConfig:
    pools = {"cloud": "Kubernetes", "home": "External"}
    document = {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "FederatedJob",
        "metadata": {"name": "small"},
        "spec": {
            "task": {"entrypoint": "tasks:Task"},
            "pools": [{"name": name, "inline": {"type": kind, "clients": clients}} for name, kind in pools.items()],
            **spec,
        },
    }
    manifest = folder / "job.yaml"
    manifest.write_text(yaml.safe_dump(document))
    return config_of(resolve(load([manifest]), uid="u"), epoch=3)


def test_defaults(tmp_path: Path) -> None:
    config = config_from(tmp_path, rounds={"total": 4})
    assert (config.epoch, config.total, config.cohort, config.asked, config.minimum) == (3, 4, 10, 10, 5)
    assert config.pools == (PoolSize("cloud", 5, trusted=True), PoolSize("home", 5, trusted=False))
    assert config.ordinals["home/1"] == 6
    assert config.clients[6] == "home/1"
    assert config.is_trusted(config.clients[0])
    assert not config.is_trusted(config.clients[6])
    assert config.selector is select_all
    assert (config.late, config.goal, config.patience, config.active_deadline_s) == (None, None, None, None)
    assert config.wait_for_clients_s == 24 * 3600


def test_every_choice_arrives(tmp_path: Path) -> None:
    config = config_from(
        tmp_path,
        seed=5,
        rounds={
            "total": 9,
            "cohort": 6,
            "minUpdates": 4,
            "overselect": 0.5,
            "deadlineSeconds": 33,
            "onInsufficient": "Extend",
            "maxFailedRounds": 7,
            "lateUpdates": {"type": "NextRound", "nextRound": {"maxStaleness": 2, "exponent": 0.25}},
            "target": {"metric": "auc", "value": 0.75},
            "patience": 4,
        },
        evaluation={"every": 3, "central": {"type": "Never"}, "federated": True, "timeoutSeconds": 44},
        runPolicy={"activeDeadlineSeconds": 600, "preRunningDeadlineSeconds": 90},
    )
    assert (config.seed, config.cohort, config.asked, config.min_updates, config.minimum) == (5, 6, 9, 4, 4)
    assert (config.deadline_s, config.on_insufficient, config.max_failed) == (33, "Extend", 7)
    assert (config.late, config.goal, config.patience) == (LatePolicy(2, 0.25), Goal("auc", 0.75), 4)
    assert (config.evaluate_every, config.central, config.federated, config.evaluation_timeout_s) == (
        3,
        False,
        True,
        44,
    )
    assert (config.active_deadline_s, config.wait_for_clients_s) == (600, 90)
    assert config.selector is select_random


@pytest.mark.parametrize(
    ("cohort", "overselect", "asked"),
    [(5, 0.2, 6), (5, 0.0, 5), (5, 0.21, 7), (25, 1.0, 40), (25, 0.12, 28), (10, 0.1, 11)],
)
def test_over_selection_counts_clients(tmp_path: Path, cohort: int, overselect: float, asked: int) -> None:
    assert config_from(tmp_path, 20, rounds={"total": 1, "cohort": cohort, "overselect": overselect}).asked == asked


def test_selecting_all_makes_everybody_the_cohort(tmp_path: Path) -> None:
    config = config_from(tmp_path, rounds={"total": 1}, selection={"type": "All"})
    assert (config.cohort, config.selector) == (10, select_all)


@pytest.mark.parametrize(
    ("selection", "selector"),
    [
        (
            {"type": "Adaptive", "adaptive": {"capacity": 2, "quality": 0, "fairness": 3}},
            Adaptive(capacity=2, bandwidth=1, reliability=1, quality=0, data_size=1, fairness=3),
        ),
        ({"type": "Oort", "oort": {"exploration": 0.5, "pacerRounds": 7}}, Oort(0.5, 0.98, 0.2, 7, 2)),
        ({"type": "PowerOfChoice"}, PowerOfChoice(None)),
        ({"type": "PowerOfChoice", "powerOfChoice": {"candidates": 9}}, PowerOfChoice(9)),
        ({"type": "Cost", "cost": {"energy": 2}}, Cost(1, 1, 2, {"cloud": Rate(), "home": Rate()})),
        ({"type": "ContributionHistory", "contributionHistory": {"exploration": 0.3}}, ContributionHistory(0.3)),
    ],
)
def test_a_policy_gets_its_parameters(tmp_path: Path, selection: dict[str, Any], selector: object) -> None:
    assert config_from(tmp_path, rounds={"cohort": 4}, selection=selection).selector == selector


def test_what_of_a_policy_is_not_the_selectors_own(tmp_path: Path) -> None:
    adaptive = {"type": "Adaptive", "adaptive": {"exclusionRounds": 3, "maxExclusionRounds": 12}}
    assert config_from(tmp_path, selection=adaptive).exclusion == Exclusion(3, 12)
    assert isinstance(config_from(tmp_path, selection=adaptive).selector, Adaptive)  # everybody, but who is left out
    history = {"type": "ContributionHistory", "contributionHistory": {"decay": 0.25}}
    assert config_from(tmp_path, rounds={"cohort": 4}, selection=history).contribution_decay == 0.25
    assert config_from(tmp_path).exclusion is None


LABELLED = {
    "name": "lab",
    "inline": {
        "type": "Kubernetes",
        "clients": 3,
        "labels": {"country": "fi", "scanner": "ct"},
        "cost": {"perHour": 2.5, "interruptionsPerHour": 0.1, "watts": 300},
        "data": {"perClient": [{"path": "a", "labels": {"scanner": "mr"}}, {"path": "b"}, {"path": "c"}]},
    },
}


def test_only_clients_with_the_labels_are_asked(tmp_path: Path) -> None:
    def labelled(**wanted: str) -> EngineConfig:
        selection = {"type": "Label", "label": {"matchLabels": wanted}}
        return config_from(tmp_path, pools=[LABELLED], selection=selection)

    assert labelled(country="fi").candidates == {"lab/0", "lab/1", "lab/2"}
    config = labelled(country="fi", scanner="ct")
    assert config.candidates == {"lab/1", "lab/2"}
    assert (config.cohort, config.asked, config.minimum) == (2, 2, 1)
    world = FakeWorld(config)
    world.join()
    assert world.run(names=config.clients).outcome is Outcome.COMPLETE
    cohorts = {planned.client for plan in world.plans.values() if plan.round for planned in plan.cohort}
    assert cohorts == {"lab/1", "lab/2"}
    assert world.commits[0].used[0].client == "lab/0"  # the first model is not chosen by label


def test_whoever_lacks_the_labels_is_not_waited_for(tmp_path: Path) -> None:
    selection = {"type": "Label", "label": {"matchLabels": {"scanner": "mr"}}}
    world = FakeWorld(config_from(tmp_path, pools=[LABELLED], selection=selection))
    world.join(*world.config.clients[1:])
    world.work(world.config.clients[1])
    world.sleep(100.0)
    state = world.state
    assert isinstance(state.phase, Gathering)
    decision = decide_gathering(state, state.phase, world.now)
    assert decision == Wait("0 of at least 1 clients (1 have the labels) are here: lab 2 of 3")


def test_a_pools_rates_reach_its_policy(tmp_path: Path) -> None:
    config = config_from(tmp_path, pools=[LABELLED], rounds={"cohort": 1}, selection={"type": "Cost"})
    assert config.selector == Cost(1, 1, 0, {"lab": Rate(price=2.5, watts=300, interruptions=0.1)})


def test_the_first_model_from_a_file(tmp_path: Path) -> None:
    task = {"entrypoint": "tasks:Task", "initialModel": {"type": "File", "file": {"path": "/models/start.safetensors"}}}
    assert config_from(tmp_path, rounds={"total": 1}, task=task).initial_model == "/models/start.safetensors"
    assert config_from(tmp_path, rounds={"total": 1}).initial_model is None


def test_a_round_never_closes_with_fewer_updates_than_its_rule_needs(tmp_path: Path) -> None:
    bulyan = {"aggregation": {"type": "Bulyan", "bulyan": {"byzantine": 1}}}
    config = config_from(tmp_path, rounds={"minUpdates": 8}, robustness=bulyan)
    assert (config.least, config.minimum) == (7, 8)
    assert replace(config, min_updates=None, cohort=4).minimum == 7
