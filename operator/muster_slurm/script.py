"""The job script of a pool's workers. Pure: a pool in, text out.

One script serves all tasks of an array: a task's number says which worker it is, and with it which clients. The worker
is a step (`launch.py`): SLURM's warnings (--signal, a preemption's GraceTime) go to steps, and v0.0.38 of the REST API
can't send them to the batch shell at all. What is secret stands in the environment of the submission, never here.
"""

from __future__ import annotations

import shlex

from muster_slurm.launch import launch
from muster_spec.pool_types import PoolSpec, Slurm
from muster_spec.types import ResolvedJob, ResolvedPool

LOG = "muster-%A_%a.log"
_OWN_LOG = 'exec >>"muster-${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}.log" 2>&1'


def output_of(slurm: Slurm) -> str:
    """Where SLURM puts what a job says: beside its work, or nowhere until the script has found its home."""
    return LOG if slurm.work_dir else "/dev/null"


def relay_folder(job: ResolvedJob, pool: ResolvedPool) -> str | None:
    """Where workers and bridge meet, if that is a folder: one of this job's and pool's own."""
    relay = pool.spec.slurm.relay if pool.spec.slurm else None
    return f"{relay.shared_folder.path}/muster-{job.uid}-{pool.name}" if relay and relay.shared_folder else None


def build_script(job: ResolvedJob, pool: ResolvedPool, base: int) -> str:
    """The script of the array whose task 0 is worker `base` of the pool."""
    spec, slurm = pool.spec, pool.spec.slurm
    if slurm is None:
        raise ValueError(f"pool {pool.name} is not of type Slurm")
    lines = [
        "#!/bin/bash -l",
        f"# Workers of pool {pool.name}, for the FederatedJob {job.namespace}/{job.name}; submitted by Muster.",
        "set -eo pipefail",
        "unset SLURM_JWT  # a login node's; srun would show it to slurmd, which knows munge",
        *([] if slurm.work_dir else ["cd", _OWN_LOG]),
        f"worker=$(({base} + SLURM_ARRAY_TASK_ID))",
        *_places(spec),
        *(f"module load {module}" for module in slurm.modules),
        *([slurm.preamble.rstrip("\n")] if slurm.preamble else []),
        'export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"',
        'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"  # from 22.05 on, srun forgets what sbatch was told',
        *launch(slurm, _worker(spec, relay_folder(job, pool))),
    ]
    return "\n".join(lines) + "\n"


def _places(spec: PoolSpec) -> list[str]:
    """Which clients this worker acts for, and where the data of each lies where that differs."""
    lines = [f'clients=$(seq -s, "$worker" {spec.workers_wanted} {spec.clients - 1})']
    if spec.data and spec.data.per_client:
        lines.append(
            f"data=({' '.join(shlex.quote(each.path or spec.data.path or '') for each in spec.data.per_client)})"
        )
    return lines


def _worker(spec: PoolSpec, relay: str | None) -> list[str]:
    words = ["muster", "worker", "--indices", '"$clients"']
    if spec.data and spec.data.per_client:
        words.append('${data[$worker]:+--data "${data[$worker]}"}')
    elif spec.data and spec.data.path:
        words += ["--data", shlex.quote(spec.data.path)]
    if spec.state and spec.state.path:
        words += ["--state", shlex.quote(spec.state.path.path)]
    if relay is not None:
        words += ["--relay", shlex.quote(relay)]
    return words
