"""How much clients count and what strategies make of it, against numbers worked out by hand or step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_world import FakeWorld, config_for
from muster_coordinator.config import LatePolicy
from muster_coordinator.events import UpdateStaged
from muster_coordinator.importance import Importance, capped, importance_of
from muster_coordinator.instructions import Fold, OrderTraining, Refuse, StoreCommit
from muster_coordinator.records import AssignmentId, UsedUpdate
from muster_coordinator.strategies import FedNova, QFedAvg
from muster_coordinator.weighing import Weighing
from muster_spec.clients import ClientId
from muster_spec.strategy_types import Blend, Weighting

A0, A1, A2 = (ClientId(f"a/{index}") for index in range(3))


def used(client: int = 0, examples: int = 10, steps: int = 1, norm: float = 0.0, **more: Any) -> UsedUpdate:
    discount = more.pop("discount", 1.0)
    return UsedUpdate(
        client=ClientId(f"a/{client}"),
        assignment=AssignmentId(f"1.0.a/{client}"),
        round=1,
        examples=examples,
        weight=1.0,
        steps=steps,
        metrics=more,
        norm=norm,
        discount=discount,
    )


THREE = [
    used(0, examples=10, loss=2.0, gradientVariance=0.5),
    used(1, examples=30, loss=1.0, gradientVariance=0.25),
    used(2, examples=60, loss=5.0, gradientVariance=1.0, discount=0.5),
]


@pytest.mark.parametrize(
    ("weighting", "counted"),
    [
        (Weighting(type="Examples"), [10, 30, 30]),
        (Weighting(type="Uniform"), [1, 1, 0.5]),
        (Weighting(type="Loss"), [2, 1, 2.5]),
        (Weighting(type="Variance"), [2, 4, 0.5]),
        (
            Weighting(type="Blend", blend=Blend(examples=1, loss=2, variance=0.5)),
            [
                10 / 100 + 2 * 2 / 8 + 0.5 * 2 / 7,
                30 / 100 + 2 * 1 / 8 + 0.5 * 4 / 7,
                0.5 * (60 / 100 + 2 * 5 / 8 + 0.5 * 1 / 7),
            ],
        ),
        (Weighting(type="Blend", blend=Blend(examples=3, loss=0, variance=0)), [10, 30, 30]),
    ],
    ids=lambda one: getattr(one, "type", ""),
)
def test_what_clients_count(weighting: Weighting, counted: list[float]) -> None:
    assert importance_of(weighting, None).of(THREE) == pytest.approx(counted, rel=1e-12)


def test_claims_are_bounded() -> None:
    wild = [used(loss=0.0, gradientVariance=0.0), used(loss=1e300, gradientVariance=1e300)]
    assert Importance((("Loss", 1.0),)).of(wild) == (1e-6, 1e6)
    assert Importance((("Variance", 1.0),)).of(wild) == pytest.approx((1e12, 1e-12))


def test_what_an_update_is_weighed_by_has_to_be_there() -> None:
    losses, blend = Importance((("Loss", 1.0),)), Importance((("Examples", 1.0), ("Variance", 1.0)))
    assert losses.problem({"loss": 1.0}) is None
    assert "the metric loss" in (losses.problem({"gradientVariance": 1.0}) or "")
    assert blend.problem({"gradientVariance": 1.0}) is None
    assert "the metric gradientVariance" in (blend.problem({"loss": 1.0}) or "")
    assert Importance().problem({}) is None


@pytest.mark.parametrize(
    ("counted", "share", "after"),
    [
        ([1, 1, 2], 0.5, [1, 1, 2]),
        ([1, 1, 8], 0.5, [1, 1, 2]),  # half of 4
        ([1, 8, 8], 0.4, [1, 2, 2]),  # each two fifths of 5
        ([1, 4, 20], 0.4, [1, 2, 2]),  # bounding the largest alone would leave the second above
        ([1, 2, 3], 0.2, [1, 1, 1]),  # three can't each have a fifth
        ([3, 1], 0.5, [1, 1]),
        ([7], 0.1, [7]),
        ([1, 1, 1], 1.0, [1, 1, 1]),
    ],
)
def test_no_client_counts_more_than_its_share(counted: list[float], share: float, after: list[float]) -> None:
    clients = [ClientId(f"a/{index}") for index in range(len(counted))]
    assert capped(counted, clients, share) == pytest.approx(after)


def test_a_client_with_two_updates_is_one_client() -> None:
    assert capped([4, 4, 2, 2], [A0, A0, A1, A2], 0.5) == pytest.approx([2, 2, 2, 2])


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=20), st.floats(0.01, 1))
def test_shares_hold_whatever_the_claims(counted: list[float], share: float) -> None:
    clients = [ClientId(f"a/{index}") for index in range(len(counted))]
    after = capped(counted, clients, share)
    assert max(after) <= max(share, 1 / len(counted)) * sum(after) * (1 + 1e-9)
    assert all(0 < new <= old * (1 + 1e-12) for new, old in zip(after, counted, strict=True))


# --- FedNova ----------------------------------------------------------------------------------------------------------


def mean_of(weighing: Weighing, updates: Sequence[UsedUpdate], deltas: Sequence[float]) -> float:
    """What the server steps with: as sums.py and workbench.py compute it."""
    weights = [each.weight for each in weighing.weigh(updates)]
    mean = sum(w * delta for w, delta in zip(weights, deltas, strict=True)) / sum(weights)
    return mean * weighing.scale(updates)


def descend(x: float, aim: float, steps: int, momentum: float = 0.0, rate: float = 0.01) -> float:
    """A client's local training on F(x) = (x - aim)² / 2: how far it comes."""
    y, velocity = x, 0.0
    for _ in range(steps):
        velocity = momentum * velocity + (y - aim)
        y -= rate * velocity
    return y - x


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fednovas_reach_is_the_sum_of_how_often_each_gradient_counts(momentum: float) -> None:
    """a_k in the paper: what a unit gradient at step k alone adds up to, found by running the optimiser."""
    for steps in (1, 2, 7):
        counts = []
        for at in range(steps):
            velocity = moved = 0.0
            for step in range(steps):
                velocity = momentum * velocity + (step == at)
                moved += velocity
            counts.append(moved)
        assert FedNova(momentum=momentum).reach(steps) == pytest.approx(sum(counts), rel=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_fednova_is_its_equation(momentum: float) -> None:
    updates, deltas = [used(0, examples=10, steps=4), used(1, examples=30, steps=20)], [0.3, -2.0]
    strategy = FedNova(momentum=momentum)
    p, a = np.array([0.25, 0.75]), np.array([strategy.reach(4), strategy.reach(20)])
    expected = (p @ a) * (p @ (np.array(deltas) / a))
    assert mean_of(Weighing(strategy=strategy), updates, deltas) == pytest.approx(expected, rel=1e-12)


def test_fednova_is_fedavg_where_everybody_goes_equally_far() -> None:
    updates, deltas = [used(0, examples=10, steps=5), used(1, examples=30, steps=5)], [0.3, -2.0]
    assert mean_of(Weighing(strategy=FedNova()), updates, deltas) == pytest.approx(
        mean_of(Weighing(), updates, deltas), rel=1e-12
    )


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_fednova_ends_where_the_objective_is_least_and_fedavg_does_not(momentum: float) -> None:
    """The paper's section 3.1: of aims 0 and 1 with equal examples the least is at 0.5, whatever steps are done."""
    ends = {}
    for strategy in (FedNova(momentum=momentum), None):
        weighing, x = Weighing(strategy=strategy) if strategy else Weighing(), 0.0
        updates = [used(0, steps=2), used(1, steps=30)]
        for _ in range(3000):
            deltas = [descend(x, 0.0, 2, momentum, 0.001), descend(x, 1.0, 30, momentum, 0.001)]
            x += mean_of(weighing, updates, deltas)
        ends[strategy is None] = x
    assert ends[False] == pytest.approx(0.5, abs=0.02)
    assert ends[True] > 0.9


def test_fednova_needs_steps() -> None:
    assert "it did none" in (FedNova().problem(0, {}) or "")
    assert FedNova().problem(1, {}) is None


# --- q-FedAvg ---------------------------------------------------------------------------------------------------------


def q_fed_avg_by_hand(q: float, lipschitz: float, losses: list[float], deltas: Sequence[Any]) -> Any:
    """Algorithm 2 as it stands there, of clients with equal p: w + Σ Δ_k / Σ h_k."""
    moved = [lipschitz * np.asarray(delta) for delta in deltas]
    numerators = [loss**q * one for loss, one in zip(losses, moved, strict=True)]
    h = [
        q * loss ** (q - 1) * float(np.sum(one**2)) + lipschitz * loss**q
        for loss, one in zip(losses, moved, strict=True)
    ]
    return sum(numerators) / sum(h)


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0, 5.0])
def test_q_fedavg_is_algorithm_2(q: float) -> None:
    losses, deltas = [0.5, 2.0, 1.0], [np.array([0.1, 0.0]), np.array([-0.2, 0.4]), np.array([0.05, 0.05])]
    weighing = Weighing(Importance((("Uniform", 1.0),)), QFedAvg(q=q, learning_rate=0.1))
    updates = [
        used(place, norm=float(np.linalg.norm(delta)), baseLoss=loss)
        for place, (loss, delta) in enumerate(zip(losses, deltas, strict=True))
    ]
    expected = q_fed_avg_by_hand(q, 10.0, losses, deltas)
    found = [mean_of(weighing, updates, [delta[axis] for delta in deltas]) for axis in (0, 1)]
    assert found == pytest.approx(expected.tolist(), rel=1e-6)


def test_q_fedavg_at_q_0_is_fedavg() -> None:
    updates = [used(0, examples=10, norm=3.0, baseLoss=0.1), used(1, examples=30, norm=1.0, baseLoss=9.0)]
    weighing = Weighing(strategy=QFedAvg(q=0.0, learning_rate=0.1))
    assert mean_of(weighing, updates, [0.3, -2.0]) == pytest.approx(mean_of(Weighing(), updates, [0.3, -2.0]))


def test_q_fedavg_serves_clients_more_alike_than_fedavg() -> None:
    """The paper's claim: of nine clients at one place and one at another, the one is not left alone."""
    worst = {}
    for q in (0.0, 2.0):
        weighing, x = Weighing(strategy=QFedAvg(q=q, learning_rate=0.1)), 0.0
        for _ in range(400):
            aims = [0.0] * 9 + [1.0]
            deltas = [descend(x, aim, 1, rate=0.1) for aim in aims]
            updates = [
                used(place, norm=abs(delta), baseLoss=(x - aim) ** 2 / 2)
                for place, (aim, delta) in enumerate(zip(aims, deltas, strict=True))
            ]
            x += mean_of(weighing, updates, deltas)
        worst[q] = max((x - aim) ** 2 / 2 for aim in aims)
    assert worst[0.0] == pytest.approx(0.405, abs=0.001)  # at the mean, 0.1
    # The least of Σ |x - aim|^6 is where 9 x^5 = (1 - x)^5: at 1 / (1 + 9^(1/5)).
    assert worst[2.0] == pytest.approx((1 - 1 / (1 + 9**0.2)) ** 2 / 2, abs=0.01)


def test_q_fedavg_bears_wild_losses() -> None:
    weighing = Weighing(strategy=QFedAvg(q=100.0, learning_rate=0.1))
    updates = [used(0, norm=1.0, baseLoss=0.0), used(1, norm=1.0, baseLoss=1e300), used(2, norm=1.0, baseLoss=1.0)]
    assert all(0 < each.weight <= 10 for each in weighing.weigh(updates))
    assert 0 < weighing.scale(updates) <= 1


def test_q_fedavg_needs_the_loss_of_the_model_that_came() -> None:
    strategy = QFedAvg(q=1.0)
    assert "the metric baseLoss" in (strategy.problem(1, {"loss": 1.0}) or "")
    assert "is -1" in (strategy.problem(1, {"baseLoss": -1.0}) or "")
    assert strategy.problem(1, {"baseLoss": 1.0}) is None


# --- in a round -------------------------------------------------------------------------------------------------------


def world_with(weighing: Weighing, **choices: Any) -> FakeWorld:
    world = FakeWorld(config_for(weighing=weighing, **choices))
    world.join()
    assert world.work(A0)
    return world


def hand_in(world: FakeWorld, client: ClientId, examples: int, **metrics: float) -> None:
    order = next(each for each in world.clients[client].wanted.values() if isinstance(each, OrderTraining))
    world.stage(UpdateStaged(client, order.assignment, examples, 2, metrics, 10, norm=1.0))


def test_weights_that_hang_on_the_others_wait_for_the_end_of_the_round() -> None:
    world = world_with(Weighing(Importance(max_share=0.5)), total=1)
    folds = []
    for client, examples in ((A1, 1), (A0, 8)):
        hand_in(world, client, examples)
        folds += [each for each in world.carried_out if isinstance(each, Fold) and each.assignment.startswith("1.")]
    assert folds == []
    hand_in(world, A2, 1)
    (commit,) = (each for each in world.carried_out if isinstance(each, StoreCommit) and each.round == 1)
    cohort = [planned.client for planned in world.plans[1, 0].cohort]
    assert {each.client: each.weight for each in commit.used} == {A0: 2.0, A1: 1.0, A2: 1.0}
    assert [each.client for each in commit.used] == cohort, "whoever comes when, the sum is in the cohort's order"
    assert world.commits[1].used == commit.used


def test_what_waits_for_a_round_may_come_from_an_earlier_one() -> None:
    late = LatePolicy(max_staleness=2, exponent=1.0)
    world = world_with(Weighing(Importance(max_share=0.5)), min_updates=2, late=late, total=2)
    hand_in(world, A0, 4)
    hand_in(world, A1, 4)
    order = world.clients[A2].wanted[AssignmentId("1.0.a/2")]
    world.stage(UpdateStaged(A2, order.assignment, 8, 2, {}, 10, norm=1.0))
    hand_in(world, A0, 4)
    hand_in(world, A1, 20)
    weights = {(each.client, each.round): each.weight for each in world.commits[2].used}
    assert weights == {(A2, 1): 4.0, (A0, 2): 4.0, (A1, 2): 8.0}


def test_a_strategys_scale_goes_with_the_commit() -> None:
    world = world_with(Weighing(strategy=QFedAvg(q=1.0, learning_rate=0.5)), total=1)
    for client in (A0, A1, A2):
        hand_in(world, client, 1, baseLoss=2.0)
    (commit,) = (each for each in world.carried_out if isinstance(each, StoreCommit) and each.round == 1)
    assert commit.scale == pytest.approx(1 / (1 + 1 * 1 / (2.0 * 0.5)))
    first = next(each for each in world.carried_out if isinstance(each, StoreCommit))
    assert first.scale == 1


def test_an_update_that_can_not_be_weighed_is_refused_with_the_reason() -> None:
    world = world_with(Weighing(Importance((("Loss", 1.0),))), total=1)
    hand_in(world, A0, 1)
    (refusal,) = (each for each in world.carried_out if isinstance(each, Refuse))
    assert "the metric loss" in refusal.reason
    hand_in(world, A1, 1, loss=1.0)
    hand_in(world, A2, 1, loss=3.0)
    assert {each.client: each.weight for each in world.commits[1].used} == {A1: 1.0, A2: 3.0}
