from __future__ import annotations

import numpy as np
import pytest

from muster_coordinator.strategies import STRATEGIES, FedAvg, FedProx, Strategy, strategy_of
from muster_spec import types as spec
from muster_spec.schemas import schema_of
from muster_spec.support import support
from muster_wire.layout import Kind


@pytest.mark.parametrize("strategy", [FedAvg(), FedProx(0.1)], ids=lambda strategy: strategy.name)
def test_the_average_of_the_clients_is_the_next_model(strategy: Strategy) -> None:
    base, mean = np.array([1.0, 2.0]), np.array([0.5, -4.0])
    assert strategy.step(base, mean).tolist() == [1.5, -2.0]
    assert base.tolist() == [1.0, 2.0]
    assert strategy.weight(137) == 137.0
    assert strategy.touches == {Kind.TRAINABLE}
    assert strategy.models_in_memory <= 4


def test_only_fedprox_asks_something_of_clients() -> None:
    assert FedAvg().proximal_mu == 0.0
    assert FedProx(0.25).proximal_mu == 0.25


def test_a_job_chooses_by_the_schemas_names() -> None:
    assert strategy_of(spec.Strategy(type="FedAvg")) == FedAvg()
    assert strategy_of(spec.Strategy(type="FedProx", fed_prox=spec.FedProx(mu=0.5))) == FedProx(0.5)
    assert {name: strategy_of(spec.Strategy(type=name, fed_prox=spec.FedProx(mu=0))).name for name in STRATEGIES} == {
        name: name for name in STRATEGIES
    }


def test_the_registry_has_every_strategy_of_the_schema_that_is_not_refused() -> None:
    field = schema_of("FederatedJob")["properties"]["spec"]["properties"]["strategy"]["properties"]["type"]
    refused = {v for entry in support().unsupported if entry.path == "job.spec.strategy.type" for v in entry.values}
    assert set(STRATEGIES) == set(field["enum"]) - refused


def test_fedprox_without_parameters_is_a_job_that_was_not_resolved() -> None:
    with pytest.raises(ValueError, match=r"spec\.strategy\.fedProx is missing"):
        strategy_of(spec.Strategy(type="FedProx"))
