"""How a worker is started inside its job: one process, or the ranks of a site, by srun or by mpirun. Pure.

srun makes a step of them, and SLURM's warnings go to steps. mpirun is a program of the batch script, so a step beside
it hears the warning and mpirun hands it on, as SIGUSR1: a SIGTERM it would take for its own end, and kill the ranks.
Its daemons on other nodes are steps too, and end at the warning, the ranks with them. Either way the job says 143.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from muster_spec.pool_types import Mpi, Relay, Slurm, SlurmContainer

_WARNED = 44  # the exit code of the step that hears the warning
_SENTRY = (
    f"""srun --overlap --mpi=none --nodes=1 --ntasks=1 sh -c 'trap "exit {_WARNED}" TERM; while :; do sleep 1; done'"""
)
_WATCH = f"""\
heard=0
wait -n "$ranks" "$sentry" && code=0 || code=$?
if kill -0 "$ranks" 2>/dev/null; then
  heard=$code
  if [ "$heard" = {_WARNED} ]; then kill -USR1 "$ranks"; fi
  wait "$ranks" && code=0 || code=$?
elif [ "$code" != 0 ]; then
  sleep 2  # a warning ends mpirun's daemons on other nodes, and may be heard here after that
  kill "$sentry" 2>/dev/null || :
  wait "$sentry" || heard=$?
fi
if [ "$heard" = {_WARNED} ] && [ "$code" != 0 ]; then code=143; fi
exit "$code\""""
_RENDEZVOUS = ("MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")


def launch(slurm: Slurm, worker: Sequence[str]) -> list[str]:
    """The last lines of the job script. They start the worker, and end with its exit code."""
    mpi = slurm.mpi
    if mpi is None:
        return [_exec("srun", "--nodes=1", "--ntasks=1", "--export=ALL", *_contained(slurm), *worker)]
    if mpi.launcher == "Mpirun":
        return _mpirun(slurm, [*_contained(slurm), *worker, "--ranks", "mpi"])
    ranks = ["--ranks", "mpi" if mpi.type == "Mpi" else "distributed"]
    return [*_meeting(mpi), _exec(*_srun_ranks(slurm, mpi), *_contained(slurm), *worker, *ranks)]


def _exec(*words: str) -> str:
    return f"exec {' '.join(words)}"


def _srun_ranks(slurm: Slurm, mpi: Mpi) -> list[str]:
    """A rank that dies takes the others with it, and the step ends with the worst exit code."""
    plugin = [f"--mpi={mpi.plugin}"] if mpi.plugin else []
    plugin = ["--mpi=none"] if mpi.type == "Distributed" else plugin
    return [
        "srun",
        f"--nodes={slurm.nodes}",
        f"--ntasks={slurm.tasks}",
        "--export=ALL",
        "--kill-on-bad-exit=1",
        *plugin,
    ]


def _meeting(mpi: Mpi) -> list[str]:
    """Where ranks of torch.distributed find one another: on the first node, which this script and rank 0 are on."""
    if mpi.type != "Distributed":
        return []
    return [
        'export MASTER_ADDR="$(hostname)" MASTER_PORT=$((20000 + SLURM_JOB_ID % 12000))  # another job, another port',
    ]


def _mpirun(slurm: Slurm, command: Sequence[str]) -> list[str]:
    return [
        "export SLURM_EXPORT_ENV=ALL  # mpirun starts its daemons on other nodes by srun",
        "export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none",
        f"mpirun -n {slurm.tasks} {' '.join(command)} & ranks=$!",
        f"{_SENTRY} & sentry=$!",
        _WATCH,
    ]


def _contained(slurm: Slurm) -> list[str]:
    """What comes between the launcher and the worker. For Pyxis those are options of srun's."""
    container = slurm.container
    if container is None:
        return []
    mounts = _mounts(container, slurm.relay)
    match container.runtime:
        case "Pyxis":
            shown = [f"--container-mounts={shlex.quote(','.join(mounts))}"] if mounts else []
            return [f"--container-image={shlex.quote(container.image)}", *shown]
        case "Apptainer":
            device = ["--nv"] if slurm.gres and "gpu" in slurm.gres else []
            binds = [word for mount in mounts for word in ("--bind", shlex.quote(mount))]
            return ["apptainer", "exec", *device, *binds, shlex.quote(container.image)]
        case "Enroot":
            shown = [word for mount in mounts for word in ("--mount", shlex.quote(mount))]
            return ["enroot", "start", *_handed_on(slurm), *shown, shlex.quote(container.image)]


def _handed_on(slurm: Slurm) -> list[str]:
    """Enroot starts with an empty environment. A name alone hands a variable on: its value is never an argument."""
    names = ["MUSTER_JOIN", "OMP_NUM_THREADS", *(variable.name for variable in slurm.environment)]
    names += _RENDEZVOUS if slurm.mpi else ()
    return [word for name in names for word in ("--env", name)]


def _mounts(container: SlurmContainer, relay: Relay | None) -> list[str]:
    """What of the site is shown inside: what the pool says, and the folder that leads out of there."""
    way = (relay.shared_folder.path,) if relay and relay.shared_folder else ()
    return [mount if ":" in mount else f"{mount}:{mount}" for mount in (*container.mounts, *way)]
