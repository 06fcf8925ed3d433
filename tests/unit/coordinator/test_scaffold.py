"""SCAFFOLD's server against algorithm 1 written out client by client, with variates that really are sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from muster_coordinator.controlled import ControlledSum
from muster_coordinator.instructions import Fold
from muster_coordinator.observer import Unobserved
from muster_coordinator.records import AssignmentId, RoundCommit, UsedUpdate
from muster_coordinator.serverstate import ServerState
from muster_coordinator.store import FileStore
from muster_coordinator.strategies import FedAvg, Scaffold, ServerSGD, strategy_of
from muster_coordinator.weighing import Weighing
from muster_spec import strategy_types as spec
from muster_spec.clients import ClientId
from muster_spec.rounds_types import Local, Optimizer
from muster_spec.types import ResolvedJob
from muster_wire.codecs import CodecId
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import PayloadKind, Shape, encode_update
from muster_wire.values import Values

LAYOUT = Layout(
    (TensorSpec("w", (3,), "float32", Kind.TRAINABLE), TensorSpec("steps", (), "int64", Kind.INTEGER_BUFFER))
)
SHAPE = Shape(LAYOUT, PayloadKind.UPDATE, CodecId.FLOAT32)
AIMS = np.array([[1.0, 0.0, 2.0], [-3.0, 1.0, 0.0], [0.0, 5.0, 1.0], [4.0, 4.0, -4.0]])
STEPS = [2, 9, 5, 1]
CURVES = np.array([1.0, 3.0, 0.5, 2.0])  # of F_i(x) = curve/2 ‖x - aim‖²
RATE, SERVER_RATE, CLIENTS = 0.05, 0.8, 4
ROUNDS = [[0, 1, 2, 3], [1, 3], [0, 2], [2, 3], [0, 1]]

Wide = NDArray[np.float64]


def gradient(client: int, y: Wide) -> Wide:
    slope: Wide = CURVES[client] * (y - AIMS[client])
    return slope


class Paper:
    """Algorithm 1 with option II, to the letter: clients send Δy and Δc, the server adds both up."""

    def __init__(self) -> None:
        self.x, self.c, self.own = np.zeros(3), np.zeros(3), np.zeros((CLIENTS, 3))

    def local(self, client: int) -> Wide:
        y = self.x.copy()
        for _ in range(STEPS[client]):
            y -= RATE * (gradient(client, y) - self.own[client] + self.c)
        return y

    def round(self, chosen: list[int]) -> list[Wide]:
        ys = [self.local(client) for client in chosen]
        moved = np.zeros(3)
        for client, y in zip(chosen, ys, strict=True):
            after = self.own[client] - self.c + (self.x - y) / (STEPS[client] * RATE)
            moved += after - self.own[client]
            self.own[client] = after
        deltas = [y - self.x for y in ys]
        self.x = self.x + SERVER_RATE * sum(deltas) / len(chosen)
        self.c = self.c + len(chosen) / CLIENTS * moved / len(chosen)
        return deltas


def used(client: int) -> UsedUpdate:
    return UsedUpdate(
        client=ClientId(f"a/{client}"),
        assignment=AssignmentId(f"1.0.a/{client}"),
        round=1,
        examples=10 * client + 1,
        weight=1.0,
        steps=STEPS[client],
        metrics={},
    )


def values(trainable: Wide, steps: int = 0) -> Values:
    made = Values.zeros(LAYOUT, frozen=False)
    made.trainable[...] = trainable
    made.integers[...] = steps
    return made


@pytest.fixture
def store(tmp_path: Path, resolved_job: ResolvedJob) -> FileStore:
    made = FileStore(tmp_path, Unobserved())
    made.open(resolved_job)
    return made


STRATEGY = Scaffold(ServerSGD(SERVER_RATE), local_rate=RATE, clients=CLIENTS)


def take_round(state: ServerState, base: Values, chosen: list[int], deltas: list[Wide]) -> tuple[Values, str]:
    """One round as the workbench does it."""
    weighing, total = Weighing(strategy=STRATEGY), ControlledSum(LAYOUT)
    for update, delta in zip(weighing.weigh([used(client) for client in chosen]), deltas, strict=True):
        encoded = encode_update(values(delta, update.steps), CodecId.FLOAT32)
        total.fold_payload(SHAPE, encoded, update.weight)
        total.fold_payload_beside(SHAPE, encoded, STRATEGY.beside(update))
    taken = total.folded
    made = total.finish(base, state.begin(LAYOUT, weighing.scale([used(client) for client in chosen])))
    state.move_control(LAYOUT, total.beside, taken)
    return made, state.keep()


def test_the_server_is_algorithm_1(store: FileStore) -> None:
    paper, state = Paper(), ServerState(store, STRATEGY, 3)
    model = values(np.zeros(3))
    assert state.control(LAYOUT) == pytest.approx(np.zeros(3))
    for chosen in ROUNDS:
        model, _ = take_round(state, model, chosen, paper.round(chosen))
        assert model.trainable == pytest.approx(paper.x, rel=1e-5, abs=1e-6)
        assert state.control(LAYOUT) == pytest.approx(paper.c, rel=1e-5, abs=1e-5)
        assert state.control(LAYOUT) == pytest.approx(paper.own.mean(axis=0), rel=1e-5, abs=1e-5)
    assert np.abs(paper.c).max() > 0.1, "or there would be nothing to see"


def test_another_coordinator_goes_on_with_the_same_variate(store: FileStore) -> None:
    paper, one = Paper(), ServerState(store, STRATEGY, 3)
    model, digest = take_round(one, values(np.zeros(3)), ROUNDS[0], paper.round(ROUNDS[0]))
    other = ServerState(store, STRATEGY, 3)
    record: dict[str, Any] = dict.fromkeys(("attempt", "epoch", "failed_attempts", "bytes_up", "bytes_down"), 0)
    commit = RoundCommit(
        round=1, base="", model="m", used=(), failed={}, started_s=0.0, seconds=1.0, server_state=digest, **record
    )
    other.load(commit, LAYOUT)
    deltas = paper.round(ROUNDS[1])
    again = [take_round(state, model, ROUNDS[1], deltas) for state in (one, other)]
    assert again[0][0].digest() == again[1][0].digest()
    assert again[0][1] == again[1][1] != digest


def test_it_ends_where_the_objective_is_least_and_fedavg_does_not() -> None:
    """What it is for: with the same steps for all and different curves, averaging drifts away from the least."""
    least = (CURVES[:, None] * AIMS).sum(axis=0) / CURVES.sum()
    paper, averaged = Paper(), np.zeros(3)
    steps = 10
    for _ in range(800):
        ys = []
        for client in range(CLIENTS):
            y = averaged.copy()
            for _ in range(steps):
                y -= RATE * gradient(client, y)
            ys.append(y)
        averaged = np.mean(ys, axis=0)
        paper.round([0, 1, 2, 3])
    assert paper.x == pytest.approx(least, abs=1e-6)
    assert np.linalg.norm(averaged - least) > 0.1


def test_every_client_counts_once_and_has_to_say_its_steps() -> None:
    assert [each.weight for each in Weighing(strategy=STRATEGY).weigh([used(0), used(3)])] == [1.0, 1.0]
    assert [STRATEGY.beside(used(client)) for client in (0, 1)] == [1 / 2, 1 / 9]
    assert "it did none" in (STRATEGY.problem(0, {}) or "")
    assert FedAvg().beside(used(0)) == 0 == Fold(AssignmentId("1.0.a/0"), 1.0).beside


def test_a_job_asks_for_it() -> None:
    local = Local(
        epochs=1, batch_size=8, learning_rate=0.05, optimizer=Optimizer(type="SGD", momentum=0.0, weight_decay=0.0)
    )
    chosen = spec.Strategy(type="Scaffold", scaffold=spec.Scaffold(learning_rate=0.8))
    assert strategy_of(chosen, local, 4) == STRATEGY
