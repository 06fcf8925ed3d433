"""What a bridge and a coordinator tell each other, over the real port: queues, who is there, and the ends of logs."""

import subprocess
import sys
import time

import grpc
import pytest

from coordinating import coordinator, errors_of, write_job
from muster_coordinator.logtails import BYTES_A_SECOND
from muster_slurm.coordinator import Coordinator
from muster_slurm.errors import Away
from muster_slurm.standing import Span, Standing
from muster_wire.trust.bundle import make_bundle
from muster_wire.trust.identity import Role, name_identity
from muster_wire.v1 import federation_pb2 as pb
from running import TASKS
from trusting import HOUR, PATIENCE_S, UID, Caller, Trust, refusal

Code = grpc.StatusCode
POOLS = [
    {"name": "hpc", "inline": {"type": "Slurm", "clients": 3, "slurm": {"command": {"type": "Local"}}}},
    {"name": "cloud", "inline": {"type": "Kubernetes", "clients": 1}},
]
ENDLESS = {"total": 1000, "minUpdates": 4, "deadlineSeconds": 600}
QUEUED = pb.Allocation.STATE_QUEUED


@pytest.fixture
def trust(tmp_path):
    return Trust(tmp_path)


@pytest.fixture
def running(tmp_path, trust):
    with coordinator(tmp_path, write_job(tmp_path, pools=POOLS, rounds=ENDLESS), security=trust.enrolling) as process:
        yield process


def bundle(trust, address, folder, pool="hpc", role=Role.BRIDGE, uid=UID):
    text = make_bundle(trust.authority, address, name_identity(role, uid, pool), time.time(), HOUR).to_json()
    (folder / f"{pool}-{role.value}.json").write_text(text)
    return folder / f"{pool}-{role.value}.json"


def test_a_queue_is_heard_of_and_the_answer_says_who_is_there(tmp_path, trust, running):
    bridge = Coordinator(bundle(trust, running.address, tmp_path), "hpc")
    soon = time.time() + 90
    bridge.attend([Standing(Span(is_running=False, starts=soon), (0, 2))], time.time())
    assert running.until("queued")["clients"] == ["hpc/0", "hpc/2"]
    with Caller(running.address, trust.channel_credentials(trust.pair("hpc"))) as worker:
        reply = worker.join("hpc", indices=[2])
        assert reply.log_bytes == BYTES_A_SECOND
        message = pb.LogTail(lines=["all is well", "\x1b[2Jforged\nline"])
        worker.stub.Beat(pb.BeatRequest(session=reply.session, log=message), timeout=PATIENCE_S)
        news = bridge.attend([Standing(Span(is_running=False, starts=soon), (0,))], time.time())
        assert [(line.source, line.text) for line in news.lines] == [
            ("hpc/2", "all is well"),
            ("hpc/2", "[2Jforgedline"),
        ]
        assert news.present is None  # it has just begun: whoever lives may not have come yet
        assert bridge.attend([], time.time()).lines == ()
    running.until("queued", clients=[])
    bridge.close()


def test_only_a_bridge_attends_and_it_does_nothing_else(trust, running):
    with Caller(running.address, trust.channel_credentials(trust.pair("hpc", role=Role.BRIDGE))) as bridge:
        assert refusal(bridge.join, "hpc") == (Code.PERMISSION_DENIED, "muster-bridge://job-1/hpc may only attend")
        assert refusal(bridge.enrol)[0] is Code.PERMISSION_DENIED
        said = attend_request("cloud")
        assert refusal(bridge.stub.Attend, said, timeout=PATIENCE_S)[0] is Code.PERMISSION_DENIED
        odd = attend_request("hpc", allocations=[pb.Allocation(indices=[3], state=QUEUED)])
        assert refusal(bridge.stub.Attend, odd, timeout=PATIENCE_S) == (
            Code.INVALID_ARGUMENT,
            "the pool has clients 0 to 2",
        )
        old = attend_request("hpc", version=pb.Version(major=9))
        assert refusal(bridge.stub.Attend, old, timeout=PATIENCE_S)[0] is Code.FAILED_PRECONDITION
        assert bridge.stub.Attend(attend_request("hpc"), timeout=PATIENCE_S).log
    for pair in (trust.pair("hpc"), trust.pair("hpc", role=Role.JOINER)):
        with Caller(running.address, trust.channel_credentials(pair)) as other:
            assert refusal(other.stub.Attend, attend_request("hpc"), timeout=PATIENCE_S)[0] is Code.PERMISSION_DENIED
    with Caller(running.address, trust.channel_credentials(trust.pair("cloud", role=Role.BRIDGE))) as none:
        code, words = refusal(none.stub.Attend, attend_request("cloud"), timeout=PATIENCE_S)
        assert (code, words) == (Code.FAILED_PRECONDITION, "this job's pool cloud has no bridge")
    assert running.of("queued") == []


def attend_request(pool, **fields):
    return pb.AttendRequest(**{"version": pb.Version(major=1, minor=1), "pool": pool} | fields)


def test_nobody_wants_the_logs_of_workers_that_one_can_look_at(trust, running):
    with Caller(running.address, trust.channel_credentials(trust.pair("cloud"))) as worker:
        assert worker.join("cloud").log_bytes == 0


def test_a_coordinator_that_is_away_or_refuses_is_no_end(tmp_path, trust, running):
    gone = Coordinator(bundle(trust, "127.0.0.1:1", tmp_path, "gone"), "gone")
    with pytest.raises(Away, match=r"127\.0\.0\.1:1: unavailable"):
        gone.attend([], time.time())
    bundle(trust, running.address, tmp_path, "hpc").rename(tmp_path / "gone-muster-bridge.json")
    with pytest.raises(Away, match="permission denied"):  # renewed, and read anew: it is another pool's
        gone.attend([], time.time())
    gone.close()


def test_a_workers_last_words_are_told(tmp_path, trust, running):
    """The real worker, stopped: what it logged, and why it leaves."""
    bridge = Coordinator(bundle(trust, running.address, tmp_path), "hpc")
    join = bundle(trust, running.address, tmp_path, role=Role.JOINER)
    command = [sys.executable, "-m", "muster_cli.main", "worker", "--join", str(join), "--indices", "1"]
    with subprocess.Popen(command, cwd=TASKS, stderr=subprocess.PIPE) as worker:
        running.until("joined", clients=["hpc/1"])
        worker.terminate()
        assert worker.wait(PATIENCE_S) == 143, worker.stderr.read()
    texts = [line.text for line in bridge.attend([], time.time()).lines]
    assert any("acting for hpc/1" in text for text in texts), errors_of(tmp_path)
    assert texts[-1] == "leaving: stopped by SIGTERM"
    bridge.close()
