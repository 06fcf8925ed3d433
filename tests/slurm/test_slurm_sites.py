"""Sites under SLURM: a job's ranks are one client, started by srun with PMIx, by mpirun, or for torch.distributed."""

import json
import os
import sys
import textwrap
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from running import TASKS, running
from siting import need_mpi
from slurming import ROOT, by_commands, found_by_commands, has_no_python, wait_until

pytestmark = pytest.mark.skipif(has_no_python(), reason="this Python is the system's, and the root folder has its own")
PYTHONS = os.pathsep.join(str(ROOT / folder) for folder in ("operator", "worker", "protos"))
BY_SRUN = "nodes: 1\n                tasks: 2\n                mpi: {type: Mpi, plugin: pmix}"
BY_MPIRUN = "nodes: 2\n                tasks: 4\n                mpi: {type: Mpi, launcher: Mpirun}"
IN_STEP = "nodes: 2\n                tasks: 2\n                mpi: {type: Distributed}"


def write_job(folder, ranks, *, entrypoint="sharded:Sharded", rounds=3, seconds=0.0, more=""):
    """A job of one client, whose nodes are this machine twice: they share no memory, as far as MPI knows."""
    (folder / "marks").mkdir()
    config = {"seconds": seconds, "marks": str(folder / "marks")} if entrypoint == "sharded:Sharded" else {}
    (folder / "job.yaml").write_text(
        textwrap.dedent(f"""
        apiVersion: muster.dev/v1alpha1
        kind: FederatedJob
        metadata: {{name: sites}}
        spec:
          task:
            entrypoint: {entrypoint}
            source: {{type: Path, path: {{path: {json.dumps(str(TASKS))}}}}}
            config: {json.dumps(config)}
          rounds: {{total: {rounds}, deadlineSeconds: 300}}
          local: {{epochs: 1, batchSize: 16, learningRate: 0.1}}
          compression: {{up: {{codecs: [{{type: TopK, topK: {{share: 0.5}}}}]}}}}
          pools:
          - name: hpc
            inline:
              type: Slurm
              clients: 1
              state: {{type: Path, path: {{path: {folder}/state}}}}
              slurm:
                {by_commands()}
                {ranks}
                timeLimit: 10m
                signalSeconds: 10
                workDir: {folder}
                preamble: export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={PYTHONS}
                environment:
                - {{name: OMPI_ALLOW_RUN_AS_ROOT, value: "1"}}
                - {{name: OMPI_ALLOW_RUN_AS_ROOT_CONFIRM, value: "1"}}
                - {{name: OMPI_MCA_btl, value: "tcp,self"}}
                {more}
        """)
    )


@contextmanager
def training(slurm, folder):
    """A run under way, which finds the private SLURM."""
    options = ("--pools", "real", "--poll", "1", "--address", "localhost:0", "--out", folder / "out")
    with found_by_commands(slurm), running(folder / "job.yaml", *options, cwd=folder) as run:
        yield run


def logs(folder):
    return "".join(path.read_text() for path in sorted(folder.glob("muster-*.log")))


def updates_of(run):
    return [
        (event["round"], event["client"]) for event in run.events if event["event"] == "received" and event["round"]
    ]


@pytest.mark.parametrize("ranks", [BY_SRUN, BY_MPIRUN, IN_STEP], ids=["srun", "mpirun", "torch"])
def test_ranks_train_as_one_client(slurm, tmp_path, ranks):
    need_mpi()
    write_job(tmp_path, ranks, entrypoint="small:Small" if ranks is IN_STEP else "sharded:Sharded")
    with training(slurm, tmp_path) as run:
        code, done, err = run.finish()
    assert code == 0, (err, run.events[-5:], logs(tmp_path))
    assert (done["state"], done["rounds"]) == ("Complete", 3)
    assert updates_of(run) == [(number, "hpc/0") for number in (1, 2, 3)]
    count = 4 if ranks is BY_MPIRUN else 2
    assert f"rank {count - 1} of {count} is process" in logs(tmp_path)
    assert slurm.queue() == ""


def test_a_killed_rank_ends_the_job_and_the_bridge_submits_it_again(slurm, tmp_path):
    need_mpi()
    write_job(tmp_path, BY_SRUN, seconds=1.0)
    with training(slurm, tmp_path) as run:
        run.committed(1)
        process = psutil.Process(int((tmp_path / "marks" / "1").read_text()))
        process.kill()
        wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
        code, done, err = run.finish()
    assert code == 0, (err, run.events[-5:], logs(tmp_path))
    assert done["rounds"] == 3
    assert f"rank 1 (process {process.pid} on " in logs(tmp_path)
    assert [event["what"] for event in run.events if event["event"] == "slurm"].count("failed") == 1
    assert sorted(updates_of(run)) == [(number, "hpc/0") for number in (1, 2, 3)]  # no round was lost
    assert [event for event in run.events if event["event"] == "received" and event["memoryLost"]] == []


def test_a_preempted_site_says_goodbye_and_comes_back_as_the_same_client(slurm, tmp_path):
    need_mpi()
    write_job(tmp_path, BY_SRUN, seconds=1.0, rounds=4, more="partition: low")
    with training(slurm, tmp_path) as run:
        run.committed(1)
        slurm.tell("sbatch", "-p", "high", "-N4", "--exclusive", "-t", "1", "-o", "/dev/null", "--wrap", "sleep 1")
        slurm.until(lambda: [job[3] for job in slurm.jobs("pending")].count("1") == 1)  # put back by SLURM
        wait_until(lambda: _start_now(slurm) or len(slurm.jobs("running")) == 1)
        code, done, err = run.finish()
    assert code == 0, (err, run.events[-5:], logs(tmp_path))
    assert done["rounds"] == 4
    assert "leaving: stopped by SIGTERM" in logs(tmp_path)
    assert [event for event in run.events if event["event"] == "received" and event["memoryLost"]] == []
    assert sum(event.get("what") == "submitted" for event in run.events) == 1


def _start_now(slurm):
    """SLURM puts a requeued job two minutes off; tests have no time for that."""
    for job in slurm.jobs("pending"):
        slurm.tell("scontrol", "update", f"JobId={job[0]}", "StartTime=now", check=False)
    return False
