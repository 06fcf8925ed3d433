"""Scripts of sites: ranks started by srun, or by mpirun beside a step that hears SLURM's warnings."""

import subprocess

import pytest

from muster_slurm.ledger import Submission
from muster_slurm.request import build_request
from slurm_pools import slurm_job

ALL = "srun --nodes=2 --ntasks=8 --export=ALL --kill-on-bad-exit=1"
RANKS = {
    "mpi: {type: Mpi}": f"exec {ALL} muster worker",
    "mpi: {type: Mpi, plugin: pmix}": f"exec {ALL} --mpi=pmix muster worker",
    "mpi: {type: Distributed}": f"exec {ALL} --mpi=none muster worker",
    "mpi: {type: Mpi}, container: {runtime: Pyxis, image: w}": f"exec {ALL} --container-image=w muster worker",
    "mpi: {type: Mpi, launcher: Mpirun}": "mpirun -n 8 muster worker",
    "mpi: {type: Mpi, launcher: Mpirun}, container: {runtime: Apptainer, image: /w.sif}": (
        "mpirun -n 8 apptainer exec /w.sif muster worker"
    ),
    "mpi: {type: Distributed}, container: {runtime: Enroot, image: w}": (
        f"exec {ALL} --mpi=none enroot start --env MUSTER_JOIN --env OMP_NUM_THREADS --env MASTER_ADDR"
        " --env MASTER_PORT --env SLURM_PROCID --env SLURM_NTASKS --env SLURM_LOCALID w muster worker"
    ),
}


def request_of(folder, ranks):
    job, pool = slurm_job(folder, f"{{command: {{type: Local}}, nodes: 2, tasks: 8, {ranks}}}", clients=1)
    return build_request(job, pool, Submission(7, (0,), 1), {"MUSTER_JOIN": "bundle"})


@pytest.mark.parametrize("ranks", RANKS)
def test_what_starts_the_ranks(tmp_path, ranks):
    request = request_of(tmp_path, ranks)
    assert f"{RANKS[ranks]} --indices" in request.script
    assert (request.options.nodes, request.options.tasks) == (2, 8)
    kind = "distributed" if "Distributed" in ranks else "mpi"
    assert f'--indices "$clients" --ranks {kind}' in request.script
    assert ("MASTER_ADDR=" in request.script) is (kind == "distributed")


def run_with_stand_ins(folder, srun, mpirun):
    """The script of a site that mpirun starts, with these programs in the place of the real ones."""
    for name, program in (("srun", srun), ("mpirun", mpirun)):
        (folder / name).write_text(f"#!/bin/bash\n{program}\n")
        (folder / name).chmod(0o755)
    script = request_of(folder, "mpi: {type: Mpi, launcher: Mpirun}").script
    lines = [line for line in script.splitlines() if not line.startswith(("#!", "cd", "exec >>"))]
    environment = {"PATH": f"{folder}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "0", "HOME": str(folder)}
    return subprocess.run(["bash", "-c", "\n".join(lines)], env=environment, timeout=60, check=False).returncode


HEARS_NOTHING = "exit 1"  # as where such a step can't be started: the ranks are not to be stopped for that
WAITS = "exec sleep 30"
WARNED = "sleep 0.2; exit 44"
STAYS = "trap 'exit 143' USR1; for _ in {1..600}; do sleep 0.1; done"


@pytest.mark.parametrize(
    ("srun", "mpirun", "code"),
    [
        (HEARS_NOTHING, "sleep 0.5; exit 0", 0),
        (HEARS_NOTHING, "sleep 0.5; exit 137", 137),
        (WAITS, "exit 0", 0),
        (WAITS, "exit 137", 137),
        (WARNED, STAYS, 143),
        (WARNED, "sleep 0.5; exit 205", 143),  # its daemons on other nodes were warned, and are gone
        (WARNED, "exit 205", 143),
        (WARNED, "trap '' USR1; sleep 0.5; exit 0", 0),
    ],
)
def test_mpiruns_exit_code_is_the_jobs_and_a_warning_reaches_it(tmp_path, srun, mpirun, code):
    assert run_with_stand_ins(tmp_path, srun, mpirun) == code
