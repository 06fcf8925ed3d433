"""Versions that nobody waits for, with real processes: a run to its end, and coordinators that die again and again."""

import itertools
import json
import signal
import socket

import pytest

from coordinating import MORTAL, commits_in, coordinator, errors_of, workers, write_job
from running import muster
from running import write_job as write_manifest

MODES = {
    "Asynchronous": {"asynchronous": {"bufferSize": 2, "maxStaleness": 5, "exponent": 0.5}},
    "SemiSynchronous": {"semiSynchronous": {"minSteps": 1, "maxSteps": 20, "latenessFactor": 2}},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_job_runs_with_real_workers(tmp_path, mode):
    write_manifest(tmp_path)
    rounds = {"total": 6, "deadlineSeconds": 20, "mode": mode} | MODES[mode]
    changes = ["--set", f"spec.rounds={json.dumps(rounds)}", "--set", "spec.selection.memory.path=known"]
    done = muster("run", "job.yaml", "--json", "--no-baselines", "--out", "out", *changes, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    committed = [event for event in events if event["event"] == "committed" and event["round"]]
    assert [event["round"] for event in committed] == list(range(1, 7))
    used = [update for commit in commits_in(next((tmp_path / "out").rglob("rounds")).parent) for update in commit.used]
    names = [update.assignment for update in used]
    assert len(names) == len(set(names))
    assert all(update.elapsed_s > 0 for update in used if update.round)
    profiles = [event for event in events if event["event"] == "profiled"]
    assert profiles  # workers measure themselves while they wait for one another
    assert all(each["gflops"] > 0 and each["upMbit"] > 0 and each["memoryBytes"] > 2**20 for each in profiles)
    if mode == "SemiSynchronous":
        asked = {
            f"{event['round']}.{event['attempt']}.{client}": stint["steps"]
            for event in events
            if event["event"] == "planned"
            for client, stint in event.get("stints", {}).items()
        }
        assert {update.steps for update in used if update.round} != {1}
        assert all(update.steps == asked[update.assignment] for update in used if update.round)


@pytest.mark.parametrize("mode", MODES)
def test_coordinators_that_die_lose_and_repeat_nothing(tmp_path, mode):
    """Each gets a little further than the one before; workers live on. Nobody does anything twice."""
    rounds = {"total": 4, "deadlineSeconds": 20, "mode": mode} | MODES[mode]
    job = write_job(tmp_path, rounds=rounds)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    codes = []
    with workers(address) as three:
        for place in itertools.count(35, 18):
            with coordinator(tmp_path, job, address, (MORTAL, place, tmp_path / "places")) as running:
                codes.append(running.wait())
            if codes[-1] == 0:
                break
        trainings = [worker.trainings for worker in three.workers]
        settled = {name for worker in three.workers for name, used in worker.settled.items() if used}
        held = {name for worker in three.workers for name in worker.held}
    assert len(codes) > 3
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0], errors_of(tmp_path)
    assert {count for counter in trainings for count in counter.values()} == {1}
    commits = commits_in(tmp_path / "storage")
    assert [commit.round for commit in commits] == list(range(5))
    names = [update.assignment for commit in commits for update in commit.used]
    assert len(names) == len(set(names))
    # whoever was looking for the coordinator when it ended has not heard of its last update
    assert settled <= set(names) <= settled | held
