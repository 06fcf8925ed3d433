"""Workers that come and go while a job runs: clients move to whoever is there, and no round is lost or made twice."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack

import pytest

from coordinating import TOKEN, coordinator, write_job
from running import TASKS

pytestmark = pytest.mark.timeout(300)
CLIENTS = 4
PATIENCE_S = 90
TOP = {"type": "TopK", "topK": {"share": 0.5, "momentum": 0.0, "warmUpRounds": 0}}


def job(folder, rounds, state):
    """Four clients keep error feedback; with `state` it outlives workers. Trainings wait while there is a gate."""
    pool = {"type": "Kubernetes", "clients": CLIENTS}
    pool |= {"state": {"type": "Path", "path": {"path": str(state)}}} if state else {}
    return write_job(
        folder,
        task={
            "entrypoint": "small:Small",
            "source": {"type": "Path", "path": {"path": str(TASKS)}},
            "config": {"seconds": 0.3, "diary": str(folder / "diary"), "gate": str(folder / "gate")},
        },
        pools=[{"name": "p", "inline": pool}],
        rounds={"total": rounds, "deadlineSeconds": 120},
        local={"epochs": 1, "batchSize": 16, "learningRate": 0.1},
        compression={"up": {"codecs": [TOP]}},
        seed=3,
    )


def start_worker(stack, address, state, *, share=CLIENTS):
    """A process that can take all clients, with its log."""
    command = [sys.executable, "-m", "muster_cli.main", "worker", "--coordinator", address, "--pool", "p"]
    command += ["--capacity", str(CLIENTS), "--share", str(share), *(["--state", str(state)] if state else [])]
    process = stack.enter_context(
        subprocess.Popen(command, env={**os.environ, "MUSTER_TOKEN": TOKEN}, stderr=subprocess.PIPE, text=True)
    )
    stack.callback(process.kill)
    return process


def trained(folder):
    """How often each client was trained for in each round."""
    lines = (folder / "diary").read_text().splitlines()
    return Counter((each["client"], each["seed"]) for each in map(json.loads, lines))


def holders(running):
    """Which worker process acts for each client, by the newest word on it; workers are called after their pids."""
    return {client: event["worker"].split("-")[-2] for event in running.of("joined") for client in event["clients"]}


def until_held(running, **counts):
    """Wait until the workers with these pids act for so many clients each."""
    wanted = {pid.removeprefix("pid"): count for pid, count in counts.items()}
    running.until_true(lambda: Counter(holders(running).values()) == wanted, PATIENCE_S)


def committed_once(running, rounds):
    events = running.of("committed")
    assert [event["round"] for event in events] == list(range(rounds + 1))
    assert all(event["used"] == CLIENTS for event in events[1:]), "nobody was missing from any round"
    assert not running.of("failedAttempt")


def test_workers_come_and_go_and_what_clients_keep_goes_with_them(tmp_path):
    state, gate, rounds = tmp_path / "state", tmp_path / "gate", 4
    with ExitStack() as stack, coordinator(tmp_path, job(tmp_path, rounds, state)) as running:
        stays = start_worker(stack, running.address, state)
        running.until("committed", PATIENCE_S, round=1)
        gate.touch()
        comes = start_worker(stack, running.address, state)
        running.until_true(lambda: str(comes.pid) in holders(running).values(), PATIENCE_S)
        done = len(running.of("committed"))
        assert done <= rounds, "it took work that waited, while a round was open"
        gate.unlink()
        running.until("committed", PATIENCE_S, round=done)
        gate.touch()
        comes.send_signal(signal.SIGTERM)
        assert comes.wait(PATIENCE_S) == 143, "the fault landed"
        assert not running.of("finished"), "while the job ran"
        until_held(running, **{f"pid{stays.pid}": 4})
        gate.unlink()
        said = stays.communicate(timeout=PATIENCE_S)[1]
        assert running.wait(PATIENCE_S) == 0
    assert stays.returncode == 0, said
    committed_once(running, rounds)
    assert sum(count - 1 for count in trained(tmp_path).values()) <= 1, "only what it had in its hands, if anything"
    assert sum(event["memoriesLost"] for event in running.of("committed")) == 0


def test_what_goes_with_a_worker_is_reported_as_lost_once_for_each_client(tmp_path):
    gate, rounds = tmp_path / "gate", 4
    with ExitStack() as stack, coordinator(tmp_path, job(tmp_path, rounds, None)) as running:
        first = start_worker(stack, running.address, None)
        running.until("committed", PATIENCE_S, round=1)
        gate.touch()
        second = start_worker(stack, running.address, None)
        until_held(running, **{f"pid{first.pid}": 2, f"pid{second.pid}": 2})
        gate.unlink()
        said = [each.communicate(timeout=PATIENCE_S)[1] for each in (first, second)]
        assert running.wait(PATIENCE_S) == 0
    assert [first.returncode, second.returncode] == [0, 0], said
    committed_once(running, rounds)
    assert set(trained(tmp_path).values()) == {1}
    assert len(trained(tmp_path)) == rounds * CLIENTS
    assert sum(event["memoriesLost"] for event in running.of("committed")) == 2


def test_a_coordinator_that_comes_back_finds_clients_where_they_were(tmp_path):
    """And what their workers hold: nobody is given a client whose worker is about to come back with its update."""
    rounds = 5
    path = job(tmp_path, rounds, None)
    with ExitStack() as stack:
        with coordinator(tmp_path, path) as running:
            address = running.address
            workers = [start_worker(stack, address, None, share=2) for _ in range(2)]
            until_held(running, **{f"pid{each.pid}": 2 for each in workers})
            before = holders(running)
            running.until("received", PATIENCE_S, round=2)
            running.process.kill()
            running.process.wait()
        with coordinator(tmp_path, path, listen=address) as again:
            until_held(again, **{f"pid{each.pid}": 2 for each in workers})
            assert holders(again) == before
            said = [each.communicate(timeout=PATIENCE_S)[1] for each in workers]
            assert again.wait(PATIENCE_S) == 0
    assert [each.returncode for each in workers] == [0, 0], said
    assert set(trained(tmp_path).values()) == {1}
    assert sum(event["memoriesLost"] for event in again.of("committed")) == 0
