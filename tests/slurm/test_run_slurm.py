"""`muster run --pools real`: coordinator and bridge here, workers as SLURM's jobs, a model at the end."""

import re

import pytest

from running import muster
from slurm_runs import training, write_job
from slurming import by_commands, by_rest, has_no_python

pytestmark = pytest.mark.skipif(has_no_python(), reason="this Python is the system's, and the root folder has its own")


@pytest.mark.parametrize("transport", ["rest", "commands"])
def test_a_job_is_trained_under_slurm(slurm, tmp_path, transport):
    write_job(tmp_path, by_rest(slurm, tmp_path) if transport == "rest" else by_commands())
    with training(slurm, tmp_path) as run:
        code, done, err = run.finish()
    assert code == 0, (err, run.events[-5:])
    assert (done["state"], done["rounds"]) == ("Complete", 4)
    assert done["accuracy"] == 1.0
    assert slurm.queue() == ""
    assert {job[2] for job in slurm.jobs()[:2]} <= {"COMPLETED", "CANCELLED"}
    assert {"hpc/0,2: ", "hpc/1,3: "} <= {log_of(event)[0] for event in run.events if event.get("what") == "log"}
    assert (tmp_path / "out" / "model.safetensors").exists()
    assert all((path.stat().st_mode & 0o77) == 0 for path in (tmp_path / "out" / "trust").glob("*.key"))


def log_of(event):
    """Whose worker said it, and what, of a line of a worker's log."""
    source = f"{event['client']}: "
    pool, said = event["message"].split(": ", 1)
    assert (pool, said.startswith(source)) == ("pool hpc", True)
    return source, said.removeprefix(source)


def test_preempted_workers_come_back_as_the_same_clients_with_their_state(slurm, tmp_path):
    write_job(tmp_path, by_commands(), seconds=0.5, rounds=14, more="partition: low")
    with training(slurm, tmp_path) as run:
        run.committed(2)
        slurm.preempt(2)
        slurm.until_started(lambda: len(slurm.jobs("running")) == 2)
        code, done, err = run.finish()
    assert code == 0, (err, run.events[-5:])
    assert done["rounds"] == 14  # no round was lost
    joined = {event["worker"]: sorted(event["clients"]) for event in run.events if event["event"] == "joined"}
    assert sorted(joined.values()) == sorted([["hpc/0", "hpc/2"], ["hpc/1", "hpc/3"]] * 2)  # some join again at once
    assert [event for event in run.events if event["event"] == "received" and event["memoryLost"]] == []
    assert sum(event.get("what") == "submitted" for event in run.events) == 1
    queued = [event["clients"] for event in run.events if event["event"] == "queued"]
    assert sorted(max(queued, key=len)) == ["hpc/0", "hpc/1", "hpc/2", "hpc/3"]
    logs = [log_of(event)[1] for event in run.events if event.get("what") == "log"]
    assert sum("leaving: stopped by SIGTERM" in line for line in logs) == 2  # and so what became of them can be read


def test_ctrl_c_leaves_nothing_in_slurm_and_resume_goes_on(slurm, tmp_path):
    write_job(tmp_path, by_commands(), seconds=0.3, rounds=6)
    with training(slurm, tmp_path) as run:
        run.committed(2)
        run.process.send_signal(2)
        code, done, _ = run.finish()
    assert (code, done["state"], slurm.queue()) == (130, "Suspended", "")
    with training(slurm, tmp_path, "--resume") as run:
        code, done, err = run.finish()
    assert code == 0, err
    assert done["rounds"] == 6


def test_a_killed_run_finds_its_jobs_again(slurm, tmp_path):
    write_job(tmp_path, by_commands(), seconds=0.5, rounds=8)
    with training(slurm, tmp_path) as run:
        run.committed(2)
        run.process.kill()
    assert len(slurm.jobs("running")) == 2
    with training(slurm, tmp_path, "--resume") as run:
        code, _, err = run.finish()
    assert code == 0, err
    assert [event for event in run.events if event.get("what") == "submitted"] == []


def test_a_wrong_partition_is_bad_input(slurm, tmp_path):
    write_job(tmp_path, by_commands(), more="partition: none")
    with training(slurm, tmp_path) as run:
        code, done, _ = run.finish()
    assert code == 2
    assert re.search("nvalid partition", done["message"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--address", "login:0"), "--address: goes with --pools real"),
        (("--pools", "real", "--data", "."), "--data: with --pools real the data is at the site"),
    ],
)
def test_what_does_not_go_together(tmp_path, arguments, words):
    write_job(tmp_path, by_commands())
    result = muster("run", "job.yaml", *arguments, cwd=tmp_path)
    assert (result.returncode, words in result.stderr) == (2, True)


def test_pools_of_other_types_are_refused(tmp_path):
    write_job(tmp_path, by_commands())
    text = (tmp_path / "job.yaml").read_text()
    (tmp_path / "job.yaml").write_text(text + "  - {name: cloud, inline: {type: Kubernetes, clients: 1}}\n")
    result = muster("run", "job.yaml", "--pools", "real", cwd=tmp_path)
    assert result.returncode == 2
    assert "pool cloud (Kubernetes) can't be started from here" in result.stderr
