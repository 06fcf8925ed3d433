"""Preset `auto` on lines of different speeds, with updates so small that each is one message.

It is here whole before the coordinator looks at it, so that nobody sees how long it took.
"""

from contextlib import ExitStack

import grpc
import pytest

from coordinating import GIVE_UP_S, TOKEN, commits_in, coordinator, errors_of, workers, write_job
from muster.connection import Connection
from muster.credentials import Fixed, Material
from muster_coordinator.durable import unseal
from muster_coordinator.records import RoundPlan
from muster_coordinator.rehearsal import RehearsalWorker
from muster_coordinator.surveying import FEW_BYTES
from muster_wire.v1 import federation_pb2 as pb
from proxying import CALM, Direction, Proxy, Weather
from remembering import Worker
from running import TASKS

VALUES = 10_000
UP_BYTES_PER_S = 10_000  # `balanced` would take half a second, which is half of the training
JOB = {
    "task": {
        "entrypoint": "drifting:Drifting",
        "config": {"values": VALUES, "seconds": 1.0},
        "source": {"type": "Path", "path": {"path": str(TASKS)}},
    },
    "rounds": {"total": 4, "deadlineSeconds": 60},
    "compression": {"preset": "auto"},
}


def test_a_slow_line_is_known_though_nobody_sees_its_updates_come(tmp_path):
    job = write_job(tmp_path, clients=2, **JOB)
    slow = Weather(bytes_per_s=UP_BYTES_PER_S)
    with coordinator(tmp_path, job) as running, ExitStack() as stack:
        line = stack.enter_context(Proxy(running.address, lambda _, way: slow if way is Direction.UP else CALM))
        both = [
            Worker(Connection(address, TOKEN, Fixed(Material())), (index,), VALUES, GIVE_UP_S)
            for index, address in enumerate((running.address, line.address))
        ]
        assert [worker.join().code for worker in both] == [0, 0]
        assert running.wait() == 0, errors_of(tmp_path)
    storage = tmp_path / "storage"
    _, *rounds = commits_in(storage)
    assert {each.upload_s for commit in rounds for each in commit.used} == {0.0}
    chosen = [planned_for(storage, commit, "p/1") for commit in rounds]
    assert chosen[0].uplink.preset == "balanced"  # nothing is known of how long it trains
    assert [each.uplink.preset for each in chosen[1:]] == ["max"] * 3
    assert all("; up by max: at 0.0" in each.reason for each in chosen[1:])  # MB/s
    assert {client for commit in commits_in(storage) for client in commit.profiled} == {"p/0", "p/1"}


def planned_for(storage, commit, client):
    plan = unseal((storage / "plans" / f"{commit.round:06d}.{commit.attempt}.json").read_bytes(), RoundPlan)
    return next(each for each in plan.cohort if each.client == client)


class Measuring(RehearsalWorker):
    """Measures with as many bytes as it likes, as soon as it has joined."""

    answer = None

    async def join(self):
        await super().join()
        request = pb.MeasureRequest(session=self.session, payload=bytes(200_000), wanted=300_000)
        try:
            self.answer = await self.stub.Measure(request, metadata=self.metadata)
        except grpc.aio.AioRpcError as error:
            self.answer = error.code()


@pytest.mark.parametrize("preset", ["auto", "light"])
def test_what_is_measured_with_is_counted_and_not_wanted_for_nothing(tmp_path, preset):
    job = write_job(tmp_path, clients=1, compression={"preset": preset})
    with (
        coordinator(tmp_path, job) as running,
        workers(running.address, 1, {0: Measuring}) as one,
    ):
        one.join()
        assert running.wait() == 0, errors_of(tmp_path)
    answer, commits = one.workers[0].answer, commits_in(tmp_path / "storage")
    updates = sum(each.size_bytes for commit in commits for each in commit.used)
    assert sum(commit.bytes_up for commit in commits) - updates > 200_000
    bytes_down = sum(commit.bytes_down for commit in commits)
    if preset == "auto":
        assert answer.most == FEW_BYTES  # there was no model yet
        assert bytes_down > 300_000
    else:
        assert answer is grpc.StatusCode.RESOURCE_EXHAUSTED  # a fixed preset goes by nothing that was measured
        assert bytes_down < 300_000
