"""`coordinator.memoryBudget` over real processes: clients wait for one another, and a budget too small ends the job."""

import asyncio

from coordinating import WEIGHTS, coordinator, errors_of, workers, write_job
from muster_coordinator.budget import CLIENT_BYTES, IDLE_BYTES
from muster_coordinator.rehearsal import RehearsalWorker
from muster_coordinator.strategies import FedAvg

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
