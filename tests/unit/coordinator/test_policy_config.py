"""What the engine is told of a job, from the manifest's fields and the schema's defaults."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from muster_coordinator.config import EngineConfig, Goal, LatePolicy, PoolSize, config_of
from muster_coordinator.selection import select_all, select_random
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


def test_the_first_model_from_a_file(tmp_path: Path) -> None:
    task = {"entrypoint": "tasks:Task", "initialModel": {"type": "File", "file": {"path": "/models/start.safetensors"}}}
    assert config_from(tmp_path, rounds={"total": 1}, task=task).initial_model == "/models/start.safetensors"
    assert config_from(tmp_path, rounds={"total": 1}).initial_model is None


def test_a_round_never_closes_with_fewer_updates_than_its_rule_needs(tmp_path: Path) -> None:
    bulyan = {"aggregation": {"type": "Bulyan", "bulyan": {"byzantine": 1}}}
    config = config_from(tmp_path, rounds={"minUpdates": 8}, robustness=bulyan)
    assert (config.least, config.minimum) == (7, 8)
    assert replace(config, min_updates=None, cohort=4).minimum == 7
