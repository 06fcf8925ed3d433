"""The relay through a shared folder, with real processes at both ends, that may be killed."""

import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager

import msgspec
import pytest

from coordinating import coordinator, write_job
from muster_wire.relay import far_end
from relaying import PATIENCE_S, NearProcess, dialled, echoing, whole
from running import TASKS
from trusting import Trust

POOLS = [{"name": "hpc", "inline": {"type": "Slurm", "clients": 2, "slurm": {"command": {"type": "Local"}}}}]
SOURCE = {"type": "Path", "path": {"path": str(TASKS)}}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "relay"


def eventually(is_so, within_s=PATIENCE_S):
    deadline = time.monotonic() + within_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, "not so"
        time.sleep(0.05)
    return found


def test_connections_are_carried_whole_both_ways_and_leave_nothing(folder):
    said = random.Random(0).randbytes(5_000_000)
    with echoing() as (address, connections), NearProcess(folder, address), far_end(folder) as there:
        with dialled(there) as one, dialled(there) as other:
            other.sendall(b"meanwhile")
            writer = threading.Thread(target=lambda: (one.sendall(said), one.shutdown(1)))
            writer.start()
            assert whole(one) == said + b"the end"
            assert other.recv(9) == b"meanwhile"
            writer.join()
        eventually(lambda: not connections)
        eventually(lambda: not list(folder.glob("far/*/*-*")))
    assert not folder.exists()


@contextmanager
def carried(there):
    """A connection that is carried, however often one has to dial."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with dialled(there) as connection:
            if answers(connection):
                yield connection
                return
        time.sleep(0.1)
    raise AssertionError("nothing is carried")


def answers(connection):
    try:
        connection.sendall(b"?")
        return connection.recv(1) == b"?"
    except OSError:
        return False


def test_a_near_end_that_dies_breaks_its_connections_and_the_next_one_makes_new_ones(folder):
    with echoing() as (address, connections), far_end(folder) as there, ExitStack() as stack:
        near = stack.enter_context(NearProcess(folder, address))
        with carried(there) as connection:
            near.kill()
            assert near.process.returncode == -signal.SIGKILL
            stack.enter_context(NearProcess(folder, address))
            assert whole(connection) == b""  # it is closed, though nobody was there to say so
        with carried(there) as connection:
            connection.shutdown(1)
            assert whole(connection) == b"the end"
        eventually(lambda: not connections)


FAR = """
import sys
from pathlib import Path
from muster_wire.relay import far_end
with far_end(Path(sys.argv[1])) as address:
    print(address, flush=True)
    sys.stdin.read()
"""


def test_a_far_end_that_dies_is_cleared_away(folder):
    with echoing() as (address, connections), NearProcess(folder, address):
        command = [sys.executable, "-c", FAR, str(folder)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as far:
            there = far.stdout.readline().decode().strip()
            with carried(there):
                assert len(connections) == 1
                far.kill()
                assert far.wait() == -signal.SIGKILL
        eventually(lambda: not connections)
        eventually(lambda: not list(folder.glob("far/*")))


def test_nobody_answers_where_the_address_does_not(folder):
    with NearProcess(folder, "127.0.0.1:1"), far_end(folder) as there, dialled(there) as connection:
        connection.sendall(b"?")
        assert whole(connection) == b""


def test_a_folder_that_is_not_shared_is_said_so(tmp_path):
    join = tmp_path / "join"
    join.write_text(Trust(tmp_path).bundle("127.0.0.1:1", "hpc").to_json())
    command = [sys.executable, "-m", "muster_cli.main", "worker", "--join", str(join), "--indices", "0"]
    result = subprocess.run([*command, "--relay", "/nowhere/relay"], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "--relay /nowhere/relay: No such file or directory" in result.stderr


def test_a_job_is_trained_by_a_worker_whose_only_way_is_the_folder(tmp_path, folder):
    trust = Trust(tmp_path)
    task = {"entrypoint": "small:Small", "config": {"seconds": 0.2}, "source": SOURCE}
    job = write_job(tmp_path, task=task, pools=POOLS, rounds={"total": 4, "minUpdates": 2, "deadlineSeconds": 60})
    join = tmp_path / "join"
    bundle = trust.bundle("coordinator.invalid:443", "hpc")
    join.write_text(msgspec.structs.replace(bundle, server_name="localhost").to_json())
    command = [sys.executable, "-m", "muster_cli.main", "worker", "--join", str(join), "--indices", "0,1"]
    with coordinator(tmp_path, job, security=trust.enrolling) as running, ExitStack() as stack:
        near = stack.enter_context(NearProcess(folder, running.address))
        worker = stack.enter_context(subprocess.Popen([*command, "--relay", str(folder)], stderr=subprocess.PIPE))
        running.until("committed", round=1, timeout_s=60)
        near.kill()
        running.until("lost")  # it was the only way
        stack.enter_context(NearProcess(folder, running.address))
        finished = running.until("finished", timeout_s=90)
        assert (finished["outcome"], finished["rounds"]) == ("Complete", 4)
        assert worker.wait(PATIENCE_S) == 0, worker.stderr.read()
        assert running.of("failedAttempt") == []
