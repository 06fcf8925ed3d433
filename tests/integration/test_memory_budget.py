"""`coordinator.memoryBudget` over real processes: clients wait for one another, and a budget too small ends the job."""

import asyncio

import pytest

from coordinating import TOKEN, WEIGHTS, Workers, commits_in, coordinator, errors_of, workers, write_job
from muster_coordinator.budget import CLIENT_BYTES, IDLE_BYTES
from muster_coordinator.limits import frame_bytes
from muster_coordinator.rehearsal import Drift, RehearsalWorker
from muster_coordinator.strategies import FedAvg
from proxying import CALM, Direction, Proxy, Weather

CLIENTS = 4
MODEL = 4 * WEIGHTS
NEEDED = IDLE_BYTES + CLIENTS * CLIENT_BYTES + FedAvg.models_in_memory * (MODEL + 24)
ONE_TRANSFER = 4 * MODEL + 4096


class Slow(RehearsalWorker):
    """Takes its time over each upload, so that others come meanwhile."""

    waits = 0

    async def submit(self, assignment, held):
        verdict = await super().submit(assignment, held)
        Slow.waits += verdict is None
        return verdict

    async def requests(self, transfer, offset):
        await asyncio.sleep(0.3)
        async for request in super().requests(transfer, offset):
            yield request


def run(folder, **spec):
    job = write_job(folder, clients=CLIENTS, rounds={"total": 2, "minUpdates": CLIENTS, "deadlineSeconds": 25}, **spec)
    Slow.waits = 0
    with coordinator(folder, job) as running, workers(running.address, CLIENTS, dict.fromkeys(range(4), Slow)) as four:
        four.join()
        code = running.wait()
    return code, running, four


def test_clients_wait_until_there_is_room(tmp_path):
    code, running, _ = run(tmp_path, coordinator={"memoryBudget": str(NEEDED + ONE_TRANSFER)})
    assert code == 0, errors_of(tmp_path)
    assert Slow.waits > 0, "nobody was told to wait"
    warnings = [each["message"] for each in running.of("warning") if "memoryBudget" in each["message"]]
    assert len(warnings) == 1
    assert [each["round"] for each in running.of("committed")] == [0, 1, 2]


MANY = 8_000_000  # so many that a model is more than sockets and streams have buffers for


@pytest.mark.parametrize(
    ("weights", "way", "stall_at"),
    [(WEIGHTS, Direction.UP, 12_000), (MANY, Direction.DOWN, 10_000_000)],  # in the midst of an update, of a model
)
def test_a_transfer_that_stands_still_keeps_nobody_from_theirs(tmp_path, weights, way, stall_at):
    """One client's line stops moving, for longer than a round lasts. There is room for one transfer at a time."""
    model = 4 * weights
    budget = NEEDED + FedAvg.models_in_memory * (model - MODEL) + 4 * min(model, frame_bytes(CLIENTS)) + 4096
    job = write_job(
        tmp_path,
        clients=CLIENTS,
        rounds={"total": 2, "minUpdates": CLIENTS - 1, "deadlineSeconds": 90, "onInsufficient": "Fail"},
        coordinator={"memoryBudget": str(budget)},
    )
    bad = Weather(stall_at=stall_at, stall_s=300.0)
    with (
        coordinator(tmp_path, job) as running,
        Proxy(running.address, lambda number, its: bad if its is way and not number else CALM) as proxy,
    ):
        four = Workers(
            [
                RehearsalWorker(address, TOKEN, "p", [index], Drift(weights), f"worker-{index}")
                for index, address in enumerate([*[running.address] * 3, proxy.address])
            ]
        )
        try:
            assert running.wait() == 0, errors_of(tmp_path)
        finally:
            four.stop()
    assert [commit.round for commit in commits_in(tmp_path / "storage")] == [0, 1, 2]
    assert "makes way for others" in errors_of(tmp_path)  # before its connection is found dead


def test_with_room_for_all_nobody_waits(tmp_path):
    code, running, _ = run(tmp_path, coordinator={"memoryBudget": "1Gi"})
    assert code == 0, errors_of(tmp_path)
    assert Slow.waits == 0
    assert not running.of("warning")


def test_a_budget_that_can_never_hold_the_model_ends_the_job(tmp_path):
    """Workers hear it as the job's end, so nobody waits for a lease to run out."""
    code, running, four = run(tmp_path, coordinator={"memoryBudget": "16Mi"})
    assert code == 1
    finished = running.of("finished")[0]
    assert finished["reason"] == "MemoryBudget"
    assert "16Mi can't hold this model" in finished["message"]
    assert "can't hold this model" in four.join()[0]
