from __future__ import annotations

import numpy as np
import pytest

from muster_coordinator.strategies import STRATEGIES, FedAvg, FedProx, Strategy, strategy_of
from muster_spec import types as spec
from muster_spec.schemas import schema_of
from muster_spec.support import support
from muster_wire.layout import Kind


@pytest.mark.parametrize("strategy", [FedAvg(), FedProx()], ids=lambda strategy: strategy.name)
def test_the_average_of_the_clients_is_the_next_model(strategy: Strategy) -> None:
    base, mean = np.array([1.0, 2.0]), np.array([0.5, -4.0])
    assert strategy.step(base, mean).tolist() == [1.5, -2.0]
    assert base.tolist() == [1.0, 2.0]
    assert strategy.touches == {Kind.TRAINABLE}
    assert strategy.models_in_memory <= 4


def test_a_job_chooses_by_the_schemas_names() -> None:
    assert strategy_of(spec.Strategy(type="FedAvg")) == FedAvg()
    assert strategy_of(spec.Strategy(type="FedProx", fed_prox=spec.FedProx(mu=0.5))) == FedProx()
    assert all(strategy.name == name for name, strategy in STRATEGIES.items())


def test_the_registry_has_every_strategy_of_the_schema_that_is_not_refused() -> None:
    field = schema_of("FederatedJob")["properties"]["spec"]["properties"]["strategy"]["properties"]["type"]
    refused = {v for entry in support().unsupported if entry.path == "job.spec.strategy.type" for v in entry.values}
    assert set(STRATEGIES) == set(field["enum"]) - refused
