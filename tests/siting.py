"""Sites of several ranks for tests: what starts them, and a job of one client or of as many as there are shards."""

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from coordinating import TOKEN, write_job
from running import TASKS

MUSTER = (sys.executable, "-m", "muster_cli.main")
AS_ROOT = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
GIVE_UP_S = 240  # four processes import torch, on machines that may be busy
PLAIN = {"OMP_NUM_THREADS": "1", "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none"}


def need_mpi():
    """Skip where there is no mpirun; a failure where MUSTER_REQUIRE asks for it."""
    if shutil.which("mpirun") is None:
        reason = "there is no mpirun on this machine; as root: scripts/slurm packages"
        if "mpi" in os.environ.get("MUSTER_REQUIRE", "").split(","):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def sharded_job(folder, *, clients, config=None, rounds=3, **spec):
    """A job over four shards: four clients', or one's."""
    folder.mkdir(exist_ok=True)
    task = {
        "entrypoint": "sharded:Sharded",
        "source": {"type": "Path", "path": {"path": str(TASKS)}},
        "config": config or {},
    }
    return write_job(
        folder,
        clients=clients,
        task=task,
        rounds={"total": rounds, "deadlineSeconds": 60, "minUpdates": clients},
        local={"epochs": 2, "batchSize": 8, "learningRate": 0.1},
        evaluation={"every": 1, "federated": True},
        **spec,
    )


def worker_command(address, *arguments):
    return [*MUSTER, "worker", "--coordinator", address, "--pool", "p", *map(str, arguments)]


def mpirun(count):
    return ("mpirun", "-n", str(count), "--oversubscribe")


@contextmanager
def site(folder, command, *, launcher):
    """The ranks, under whoever starts them; ended with the test. What they say is in site.log."""
    environment = {**os.environ, **AS_ROOT, **PLAIN, "MUSTER_TOKEN": TOKEN}
    with (folder / "site.log").open("ab") as log:
        process = subprocess.Popen([*launcher, *command], env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        end_tree(process)


def end_tree(process):
    """A launcher and what it has started."""
    try:
        tree = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        tree = []
    for each in tree:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()


def said(folder):
    return (folder / "site.log").read_text()


def lone_workers(address, count):
    """As many workers as shards, each for a client."""
    environment = {**os.environ, **PLAIN, "MUSTER_TOKEN": TOKEN}
    return [
        subprocess.Popen(
            worker_command(address, "--indices", index), env=environment, stderr=subprocess.PIPE, text=True
        )
        for index in range(count)
    ]


def pid_of_rank(marks: Path, rank: int) -> int:
    """The process of a rank, as its task notes it."""
    return int((marks / str(rank)).read_text())
