"""Real workers whom SLURM takes their time or their node from, or whom everybody else has left."""

import signal

import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from attending import bridges_bundle
from coordinating import coordinator
from running import muster
from slurm_runs import training, write_job
from slurming import bridging, by_commands, by_rest, has_no_python
from slurming import write_job as resolve_job
from trusting import FAKES, Trust

pytestmark = pytest.mark.skipif(has_no_python(), reason="this Python is the system's, and the root folder has its own")
LEASE_S = 8


def memories(folder):
    """What each client keeps from one update to the next."""
    return {path.parent.name: load_file(path) for path in sorted(folder.glob("state/*/*/memory.safetensors"))}


def same(one, other):
    """Whether two such folders hold the same numbers."""
    numbers = [{name: array.tobytes() for name, array in memory.items()} for memory in (*one.values(), *other.values())]
    return one.keys() == other.keys() and numbers[: len(one)] == numbers[len(one) :]


def interrupted(run, after=0):
    return run.until(lambda event: event.get("what") == "interrupted", after)


def test_jobs_go_on_over_their_time_limit_or_are_given_up(slurm, tmp_path):
    """One job is longer than its time limit, in the other a training is: at once, since SLURM looks every 30 s only."""
    gate, long, endless = tmp_path / "gate", tmp_path / "long", tmp_path / "endless"
    write_long(slurm, long, gate)
    write_endless(endless)
    with training(slurm, long) as run, training(slurm, endless) as futile:
        run.committed(1)
        gate.touch()  # from here on no training comes to its end
        left = interrupted(run, len(run.events))
        kept = memories(long)
        run.until(lambda event: event["event"] == "joined", len(run.events))
        assert same(memories(long), kept)
        gate.unlink()
        code, done, err = run.finish()
        assert (code, done["rounds"]) == (0, 6), (err, run.events[-5:])
        assert_given_up(futile)
    assert "FAILED" in left["message"]  # it left when it was warned, with 143
    assert [event for event in run.events if event.get("what") in {"failed", "givenUp"}] == []
    assert kept.keys() == {"hpc-0", "hpc-1"}
    assert all(memory["momentum"].any() and memory["residual"].any() for memory in kept.values())
    assert [memory["participations"].item() for memory in memories(long).values()] == [6, 6]
    assert [event for event in run.events if event["event"] == "received" and event["memoryLost"]] == []
    assert slurm.queue() == ""
    assert_same_model_without_interruption(long)


def write_long(slurm, folder, gate):
    folder.mkdir()
    write_job(folder, by_rest(slurm, folder), clients=2, rounds=6, gate=gate, time_limit="1m")


def write_endless(folder):
    """No training comes to its end, and one job that brings nothing is enough; nor is there a first model to bring."""
    folder.mkdir()
    gate, first = folder / "gate", folder / "first.safetensors"
    gate.touch()
    save_file({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, first)
    write_job(folder, by_commands(), clients=2, gate=gate, initial=first, limit=0, time_limit="1m")


def assert_given_up(run):
    code, failed, _ = run.finish()
    assert code == 2
    assert "its job came to its time limit before anything was handed in: raise slurm.timeLimit" in failed["message"]
    assert sum(event.get("what") == "submitted" for event in run.events) == 1


def assert_same_model_without_interruption(folder):
    """What was left to send, and momentum, went into the model as if nothing had happened."""
    result = muster("run", "job.yaml", "--out", folder / "undisturbed", cwd=folder)
    assert result.returncode == 0, result.stderr
    models = [load_file(folder / name / "model.safetensors") for name in ("out", "undisturbed")]
    assert same({"model": models[0]}, {"model": models[1]})


def test_workers_of_a_lost_node_come_back_elsewhere(slurm, tmp_path):
    gate = tmp_path / "gate"
    write_job(tmp_path, by_rest(slurm, tmp_path), rounds=6, gate=gate)
    with training(slurm, tmp_path) as run:
        run.committed(2)
        gate.touch()
        [node, *_] = {job[4] for job in slurm.jobs("running")}
        lost = [job for job in slurm.jobs("running") if job[4] == node]
        place = len(run.events)
        slurm.kill(node)
        slurm.until(lambda: "down" in slurm.tell("sinfo", "-h", "-n", node, "-o", "%T"))
        slurm.until_started(lambda: len(slurm.jobs("running")) == 2)
        again = slurm.jobs("running")
        assert node not in {job[4] for job in again}
        assert [job[3] for job in again if job[0] in {each[0] for each in lost}] == ["1"] * len(lost)  # restarts
        for _ in lost:
            run.until(lambda event: event["event"] == "joined", place)
        gate.unlink()
        code, done, err = run.finish()
        slurm.repair()
    assert (code, done["rounds"]) == (0, 6), (err, run.events[-5:])
    assert [event for event in run.events if event["event"] == "received" and event["memoryLost"]] == []
    assert sum(event.get("what") == "submitted" for event in run.events) == 1
    assert slurm.queue() == ""


def test_workers_that_everybody_has_left_end_by_themselves(slurm, tmp_path):
    """The run's coordinator and bridge are killed: nobody cancels anything, and no time limit is near."""
    file = write_job(tmp_path, by_commands(), seconds=0.2, rounds=1000)
    trust = Trust(tmp_path, resolve_job(tmp_path, file).uid)
    lending = (FAKES / "lending_coordinator.py", LEASE_S)
    with coordinator(tmp_path, tmp_path / "job.json", launcher=lending, security=trust.enrolling) as coordinating:
        bundles = {
            "join": trust.bundle(coordinating.address, "hpc").to_json(),
            "attend": bridges_bundle(trust.authority, coordinating.address, uid=trust.uid),
        }
        with bridging(slurm, tmp_path, file, **bundles) as bridge:
            coordinating.until("committed", round=1)
            left = {job[0] for job in slurm.jobs("running")}
            for process in (bridge.process, coordinating.process):
                process.kill()
                assert process.wait() == -signal.SIGKILL
            assert {job[0] for job in slurm.jobs("running")} == left
            assert len(left) == 2
            slurm.until(lambda: not slurm.queue())
    assert {job[2] for job in slurm.jobs() if job[0] in left} == {"FAILED"}  # by themselves: nobody has cancelled them
    logs = [path.read_text() for path in tmp_path.glob("muster-*.log")]
    assert ["no word from the coordinator for" in log for log in logs] == [True, True]
