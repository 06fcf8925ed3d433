"""The registry, and what each optimiser does with numbers that can be followed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from muster_coordinator.strategies import (
    ADDED,
    STRATEGIES,
    FedAdagrad,
    FedAdam,
    FedAvg,
    FedAvgM,
    FedNova,
    FedProx,
    FedYogi,
    Kept,
    QFedAvg,
    ServerAdagrad,
    ServerAdam,
    ServerSGD,
    ServerYogi,
    Strategy,
    Wide,
    add,
    remembering,
    strategy_of,
)
from muster_coordinator.strategies.optimizers import Optimizer as ServerOptimizer
from muster_spec import strategy_types as spec
from muster_spec.rounds_types import Local, Optimizer
from muster_spec.schemas import schema_of
from muster_spec.support import support
from muster_wire.layout import Kind

MEANS = [
    np.array([0.5, -4.0, 0.0]),
    np.array([0.5, 2.0, 1e-3]),
    np.array([-0.25, 0.0, 0.0]),
    np.array([0.1, 7.0, -1.0]),
]
BASE = np.array([1.0, 2.0, -3.0])


@pytest.mark.parametrize("strategy", [FedAvg(), FedProx()], ids=lambda strategy: strategy.name)
def test_the_average_of_the_clients_is_the_next_model(strategy: Strategy) -> None:
    base, mean = np.array([1.0, 2.0]), np.array([0.5, -4.0])
    assert strategy.optimizer == ADDED
    moved, kept = strategy.optimizer.step(base, mean, ())
    assert moved.tolist() == [1.5, -2.0] == add(base, mean).tolist()
    assert kept == ADDED.keeps == ()
    assert base.tolist() == [1.0, 2.0]
    assert strategy.touches == {Kind.TRAINABLE}
    assert strategy.models_in_memory <= 4


def rounds(optimizer: ServerOptimizer) -> list[Wide]:
    """The model after each of a few rounds."""
    model, models = BASE, []
    kept: Kept = tuple(np.full(BASE.size, value) for value in optimizer.first)
    for mean in MEANS:
        model, kept = optimizer.step(model, mean, kept)
        assert len(kept) == len(optimizer.keeps)
        models.append(model)
    return models


def by_hand(kind: str, rate: float, tau: float, beta1: float, beta2: float) -> list[list[float]]:
    """Algorithm 2 of Reddi et al. as it stands there, value by value, in plain numbers."""
    model, m, v = BASE.tolist(), [0.0] * 3, [tau * tau] * 3
    models = []
    for mean in MEANS:
        for i, delta in enumerate(mean.tolist()):
            m[i] = beta1 * m[i] + (1 - beta1) * delta
            if kind == "Adagrad":
                v[i] = v[i] + delta**2
            elif kind == "Yogi":
                sign = (v[i] > delta**2) - (v[i] < delta**2)
                v[i] = v[i] - (1 - beta2) * delta**2 * sign
            else:
                v[i] = beta2 * v[i] + (1 - beta2) * delta**2
            model[i] = model[i] + rate * m[i] / (v[i] ** 0.5 + tau)
        models.append(list(model))
    return models


@pytest.mark.parametrize("beta1", [0.0, 0.9])
def test_adaptive_optimisers_are_algorithm_2_of_their_paper(beta1: float) -> None:
    adam, yogi = (kind(0.1, 0.01, beta1, 0.8) for kind in (ServerAdam, ServerYogi))
    for optimizer, kind in ((adam, "Adam"), (yogi, "Yogi"), (ServerAdagrad(0.1, 0.01, beta1), "Adagrad")):
        expected = by_hand(kind, 0.1, 0.01, beta1, 0.8)
        assert np.array(rounds(optimizer)) == pytest.approx(np.array(expected), rel=1e-12)


def test_momentum_is_what_torch_does_with_the_negative_update_as_gradient() -> None:
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.tensor(BASE, dtype=torch.float64))
    theirs = torch.optim.SGD([parameter], lr=0.5, momentum=0.9)
    for mean, ours in zip(MEANS, rounds(ServerSGD(0.5, 0.9)), strict=True):
        parameter.grad = torch.tensor(-mean)
        theirs.step()
        assert ours == pytest.approx(parameter.detach().numpy(), rel=1e-12)


def test_adaptive_steps_do_not_grow_with_the_update_where_plain_ones_do() -> None:
    """What sets them apart from averaging (Reddi et al., section 4): the step is about η whatever the scale of Δ."""
    steps = {}
    for optimizer in (ADDED, ServerAdam(0.1, 1e-9, 0.0, 0.0), ServerAdagrad(0.1, 1e-9)):
        small, large = (optimizer.step(np.zeros(1), np.array([d]), first(optimizer))[0][0] for d in (0.01, 100.0))
        steps[type(optimizer).__name__] = (small, large)
    assert steps["ServerSGD"] == (0.01, 100.0)
    assert steps["ServerAdam"] == pytest.approx((0.1, 0.1), rel=1e-6)
    assert steps["ServerAdagrad"] == pytest.approx((0.1, 0.1), rel=1e-6)


def first(optimizer: ServerOptimizer) -> Kept:
    return tuple(np.full(1, value) for value in optimizer.first)


def test_yogi_forgets_a_large_update_slowly_and_adam_fast() -> None:
    """What Yogi is for (Zaheer et al., 2018, section 3): v falls by what is added, not by a share of itself."""
    variances = {}
    for optimizer in (ServerAdam(0.1, 0.001, 0.0, 0.5), ServerYogi(0.1, 0.001, 0.0, 0.5)):
        kept: Kept = (np.array([100.0]),)
        _, kept = optimizer.step(np.zeros(1), np.array([1.0]), kept)
        variances[type(optimizer).__name__] = kept[0][0]
    assert variances == {"ServerAdam": 50.5, "ServerYogi": 99.5}


def test_only_what_is_needed_is_kept() -> None:
    kept = [ServerSGD(1, 0), ServerSGD(1, 0.9), ServerAdagrad(1, 1), ServerAdam(1, 1, 0.9), ServerAdam(1, 1, 0.0)]
    assert [each.keeps for each in kept] == [
        (),
        ("momentum",),
        ("variance",),
        ("momentum", "variance"),
        ("variance",),
    ]
    assert ServerAdam(1, 0.5, 0.9).first == (0.0, 0.25)


@pytest.mark.parametrize("inner", [ADDED, ServerSGD(0.5, 0.9), ServerAdam(0.1, 0.01, 0.9)])
def test_the_mean_may_be_kept_beside_what_an_optimiser_keeps(inner: ServerOptimizer) -> None:
    both = remembering(inner)
    assert (both.keeps, both.first) == ((*inner.keeps, "mean"), (*inner.first, 0.0))
    assert np.array(rounds(both)) == pytest.approx(np.array(rounds(inner)), rel=0)
    kept: Kept = tuple(np.full(BASE.size, value) for value in both.first)
    for mean in MEANS:
        kept = both.step(BASE, mean, kept)[1]
        assert kept[-1].tolist() == mean.tolist()


LOCAL = Local(
    epochs=1, batch_size=8, learning_rate=0.05, optimizer=Optimizer(type="SGD", momentum=0.5, weight_decay=0.0)
)


def strategy(chosen: spec.Strategy) -> Strategy:
    return strategy_of(chosen, LOCAL)


ADAM = spec.AdaptiveServer(learning_rate=0.1, beta1=0.8, beta2=0.7, tau=0.01)
MOMENTUM = spec.Momentum(learning_rate=0.5, momentum=0.9)
ADAGRAD = spec.AdagradServer(learning_rate=0.2, tau=0.02)


def test_a_job_chooses_by_the_schemas_names() -> None:
    assert strategy(spec.Strategy(type="FedAvg")) == FedAvg()
    assert strategy(spec.Strategy(type="FedProx", fed_prox=spec.FedProx(mu=0.5))) == FedProx()
    assert strategy(spec.Strategy(type="FedAvgM", fed_avg_m=MOMENTUM)) == FedAvgM(ServerSGD(0.5, 0.9))
    assert strategy(spec.Strategy(type="FedAdam", fed_adam=ADAM)) == FedAdam(ServerAdam(0.1, 0.01, 0.8, 0.7))
    assert strategy(spec.Strategy(type="FedYogi", fed_yogi=ADAM)) == FedYogi(ServerYogi(0.1, 0.01, 0.8, 0.7))
    chosen = spec.Strategy(type="FedAdagrad", fed_adagrad=ADAGRAD)
    assert strategy(chosen) == FedAdagrad(ServerAdagrad(0.2, 0.02))
    assert strategy(spec.Strategy(type="FedNova")) == FedNova(momentum=0.5)
    chosen = spec.Strategy(type="QFedAvg", q_fed_avg=spec.QFedAvg(q=2.0))
    assert strategy(chosen) == QFedAvg(q=2.0, learning_rate=0.05)
    assert all(kind.name == name for name, kind in STRATEGIES.items())


@pytest.mark.parametrize(
    ("chosen", "optimizer"),
    [
        (spec.ServerOptimizer(type="SGD", sgd=MOMENTUM), ServerSGD(0.5, 0.9)),
        (spec.ServerOptimizer(type="Adam", adam=ADAM), ServerAdam(0.1, 0.01, 0.8, 0.7)),
        (spec.ServerOptimizer(type="Yogi", yogi=ADAM), ServerYogi(0.1, 0.01, 0.8, 0.7)),
        (spec.ServerOptimizer(type="Adagrad", adagrad=ADAGRAD), ServerAdagrad(0.2, 0.02)),
    ],
    ids=lambda one: getattr(one, "type", ""),
)
def test_a_job_may_name_the_optimiser_beside_it(chosen: spec.ServerOptimizer, optimizer: ServerOptimizer) -> None:
    prox = spec.FedProx(mu=0.5)
    assert strategy(spec.Strategy(type="FedAvg", server_optimizer=chosen)) == FedAvg(optimizer)
    assert strategy(spec.Strategy(type="FedProx", fed_prox=prox, server_optimizer=chosen)) == FedProx(optimizer)


def test_the_registry_has_every_strategy_of_the_schema_that_is_not_refused() -> None:
    field = schema_of("FederatedJob")["properties"]["spec"]["properties"]["strategy"]["properties"]["type"]
    refused = {v for entry in support().unsupported if entry.path == "job.spec.strategy.type" for v in entry.values}
    assert set(STRATEGIES) == set(field["enum"]) - refused
