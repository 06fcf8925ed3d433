"""What a server optimiser keeps: written with the model's blocks, stored whole, read back to the bit, pruned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from muster_coordinator.models import ModelFileError
from muster_coordinator.observer import Unobserved
from muster_coordinator.records import RoundCommit
from muster_coordinator.serverstate import ServerState, Walk
from muster_coordinator.store import FileStore
from muster_coordinator.strategies import ADDED, FedAvg, Optimizer, ServerAdam, ServerSGD
from muster_spec.types import ResolvedJob
from muster_wire.layout import Kind, Layout, TensorSpec

SIZE = 1000
LAYOUT = Layout(
    (TensorSpec("w", (SIZE,), "float32", Kind.TRAINABLE), TensorSpec("m", (3,), "float32", Kind.FLOAT_BUFFER))
)
ADAM = ServerAdam(0.1, 0.01, 0.9, 0.99)
BLOCK = 300  # the last one is shorter


def commit(number: int, state: str) -> RoundCommit:
    return RoundCommit(
        round=number,
        attempt=0,
        epoch=1,
        base="",
        model=f"m{number}",
        server_state=state,
        used=(),
        failed={},
        failed_attempts=0,
        started_s=0.0,
        seconds=1.0,
        bytes_up=0,
        bytes_down=0,
    )


@pytest.fixture
def store(tmp_path: Path, resolved_job: ResolvedJob) -> FileStore:
    made = FileStore(tmp_path, Unobserved())
    made.open(resolved_job)
    return made


def advance(state: ServerState, number: int) -> tuple[list[float], str]:
    """One round's model from zeros, block by block, and what is kept of it."""
    step = state.begin(LAYOUT)
    mean = np.random.default_rng(number).standard_normal(SIZE)
    moved = [step(np.zeros(min(BLOCK, SIZE - at)), mean[at : at + BLOCK]) for at in range(0, SIZE, BLOCK)]
    return np.concatenate(moved).tolist(), state.keep()


def test_blocks_come_to_the_same_as_the_whole(store: FileStore) -> None:
    state, kept = ServerState(store, FedAvg(ADAM), 3), tuple(np.full(SIZE, value) for value in ADAM.first)
    for number in range(1, 4):
        mean = np.random.default_rng(number).standard_normal(SIZE)
        whole, after = ADAM.step(np.zeros(SIZE), mean, kept)
        moved, digest = advance(state, number)
        assert moved == whole.tolist()
        kept = tuple(values.astype(np.float32).astype(np.float64) for values in after)
        stored = safetensors.numpy.load_file(store.server_state_path(digest))
        assert {name: values.tolist() for name, values in stored.items()} == {
            "momentum": kept[0].tolist(),
            "variance": kept[1].tolist(),
        }


def test_another_coordinator_goes_on_with_the_same_bits(store: FileStore) -> None:
    undisturbed = ServerState(store, FedAvg(ADAM), 3)
    digests = [advance(undisturbed, number)[1] for number in (1, 2)]
    another = ServerState(store, FedAvg(ADAM), 3)
    another.load(commit(2, digests[1]), LAYOUT)
    assert advance(another, 3) == advance(undisturbed, 3)
    again = ServerState(store, FedAvg(ADAM), 3)
    again.load(commit(0, ""), LAYOUT)
    assert advance(again, 1)[1] == digests[0]


def test_an_attempt_that_failed_leaves_no_trace(store: FileStore) -> None:
    one, other = ServerState(store, FedAvg(ADAM), 3), ServerState(store, FedAvg(ADAM), 3)
    one.begin(LAYOUT)(np.zeros(BLOCK), np.full(BLOCK, 7.0))
    assert advance(one, 1) == advance(other, 1)


def test_half_a_model_has_no_state(store: FileStore) -> None:
    state = ServerState(store, FedAvg(ADAM), 3)
    state.begin(LAYOUT)(np.zeros(BLOCK), np.zeros(BLOCK))
    with pytest.raises(ValueError, match="300 of 1000 values"):
        state.keep()


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "unnamed"])
def test_what_is_not_what_was_stored_is_not_gone_on_from(store: FileStore, damage: str) -> None:
    state = ServerState(store, FedAvg(ADAM), 3)
    _, digest = advance(state, 1)
    path = store.server_state_path(digest)
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "flipped":
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "cut":
        path.write_bytes(data[:-4])
    with pytest.raises(ModelFileError):
        state.load(commit(1, "" if damage == "unnamed" else digest), LAYOUT)


def test_state_of_another_optimiser_or_model_is_refused(store: FileStore) -> None:
    _, digest = advance(ServerState(store, FedAvg(ServerSGD(1, 0.9)), 3), 1)
    with pytest.raises(ModelFileError, match="no variance of 1000"):
        ServerState(store, FedAvg(ADAM), 3).load(commit(1, digest), LAYOUT)
    smaller = Layout((TensorSpec("w", (SIZE - 1,), "float32", Kind.TRAINABLE),))
    with pytest.raises(ModelFileError, match="no momentum of 999"):
        ServerState(store, FedAvg(ServerSGD(1, 0.9)), 3).load(commit(1, digest), smaller)


@pytest.mark.parametrize("optimizer", [ADDED, ServerSGD(0.5)])
def test_what_keeps_nothing_stores_nothing(store: FileStore, optimizer: Optimizer) -> None:
    state = ServerState(store, FedAvg(optimizer), 3)
    moved, digest = advance(state, 1)
    assert digest == ""
    assert moved == (optimizer.learning_rate * np.random.default_rng(1).standard_normal(SIZE)).tolist()
    state.load(commit(1, ""), LAYOUT)
    assert list((store.root / "server").iterdir()) == []


def test_only_the_newest_few_stay(store: FileStore) -> None:
    state = ServerState(store, FedAvg(ADAM), 2)
    digests = [advance(state, number)[1] for number in range(1, 4)]
    restarted = ServerState(store, FedAvg(ADAM), 2)
    restarted.remember(["", *digests])
    restarted.prune()
    assert {path.stem for path in (store.root / "server").iterdir()} == set(digests[1:])


def test_an_empty_model_has_empty_buffers(tmp_path: Path) -> None:
    walk = Walk(ADAM, Layout(()), None, tmp_path)
    assert walk.step(np.zeros(0), np.zeros(0)).size == 0
    assert [values.size for values in walk.end().values.values()] == [0, 0]
