"""Which processes a job needs on this machine. Pure: a resolved job and a number of cores in, a plan out.

It is the same plan as on a cluster (one coordinator, some workers a pool), except that a laptop has one set of cores:
there is a limit to how many processes are worth having, and each gets its share of the threads.
"""

from __future__ import annotations

from dataclasses import dataclass

from muster_spec.clients import ClientId, client_id
from muster_spec.types import ResolvedJob, ResolvedPool
from muster_spec.wording import counted

# Imported once, before any worker is forked. A ready task may be among them: we know that importing it only defines
# things. A user's own module may do anything, so it is imported after the fork. PyTorch imports its _dynamo when the
# first optimiser is made: over a second in every worker, if it were left to them.
PRELOAD = ("muster.preload", "torch._dynamo")
PRELOAD_FOR_TASK = {"muster.tasks.digits": ("sklearn.datasets",)}

WORKERS_PER_CORE = 4
WORKERS_AT_LEAST = 16  # so that ordinary jobs have the same processes on every laptop


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """One worker process: it acts for these clients of its pool. `data` has a place for each, in their order."""

    id: str
    pool: str
    indices: tuple[int, ...]
    threads: int
    data: tuple[str | None, ...]

    @property
    def clients(self) -> tuple[ClientId, ...]:
        return tuple(client_id(self.pool, index) for index in self.indices)


@dataclass(frozen=True, slots=True)
class RunPlan:
    """Every process of a run but the coordinator, of which there is always one."""

    workers: tuple[WorkerPlan, ...]
    preload: tuple[str, ...]
    notes: tuple[str, ...]
    away: tuple[ClientId, ...] = ()  # clients whose workers run on other machines

    @property
    def clients(self) -> tuple[ClientId, ...]:
        return (*(client for worker in self.workers for client in worker.clients), *self.away)


def plan_run(job: ResolvedJob, cores: int, data: str | None) -> RunPlan:
    """Plan the workers of `job`. `data` takes the place of every pool's data directory."""
    limit = max(WORKERS_AT_LEAST, WORKERS_PER_CORE * cores)
    counts = share_limit([pool.spec.workers_wanted for pool in job.pools], limit)
    threads = threads_per_worker(job, sum(counts), cores)
    workers = tuple(
        worker for pool, count in zip(job.pools, counts, strict=True) for worker in _workers(pool, count, threads, data)
    )
    return RunPlan(workers, modules_to_preload(job.spec.task.entrypoint), tuple(_notes(job, counts)))


def plan_away(job: ResolvedJob) -> RunPlan:
    """Nothing but a coordinator here: every pool's workers are SLURM jobs."""
    clients = tuple(client_id(pool.name, index) for pool in job.pools for index in range(pool.spec.clients))
    notes = [
        f"pool {pool.name} ({counted(pool.spec.clients, 'client')}) runs under SLURM as "
        f"{counted(pool.spec.workers_wanted, 'worker')}"
        for pool in job.pools
    ]
    return RunPlan((), (), (*notes, "baselines aren't measured: the data is where the workers are"), clients)


def modules_to_preload(entrypoint: str) -> tuple[str, ...]:
    """PyTorch and, where it is one of ours, the task's module and what that needs."""
    module = entrypoint.partition(":")[0]
    return (*PRELOAD, *PRELOAD_FOR_TASK.get(module, ()), module) if module.startswith("muster.tasks.") else PRELOAD


def share_limit(wanted: list[int], limit: int) -> list[int]:
    """Scale the pools' workers down together, leaving each pool at least one."""
    total = sum(wanted)
    if total <= limit:
        return wanted
    return [max(1, count * limit // total) for count in wanted]


def threads_per_worker(job: ResolvedJob, workers: int, cores: int) -> int:
    """The cores divided by the workers that train at the same time."""
    cohort = job.spec.rounds.cohort or job.clients_total
    return max(1, cores // max(1, min(workers, cohort)))


def _workers(pool: ResolvedPool, count: int, threads: int, data: str | None) -> list[WorkerPlan]:
    return [_worker(pool, number, count, threads, data) for number in range(count)]


def _worker(pool: ResolvedPool, number: int, count: int, threads: int, data: str | None) -> WorkerPlan:
    indices = tuple(range(number, pool.spec.clients, count))
    places = tuple(data_of(pool, index, data) for index in indices)
    return WorkerPlan(f"{pool.name}-{number}", pool.name, indices, threads, places)


def data_of(pool: ResolvedPool, index: int, data: str | None) -> str | None:
    """The directory that holds a client's data here: what the command line says, or else the manifest."""
    given = pool.spec.data
    if data or given is None:
        return data
    own = given.per_client[index].path if given.per_client else None
    return own or given.path


def _notes(job: ResolvedJob, counts: list[int]) -> list[str]:
    notes = [
        f"pool {pool.name} ({pool.spec.type}, {counted(pool.spec.clients, 'client')}) runs here as "
        f"{counted(count, 'local process', 'local processes')}"
        for pool, count in zip(job.pools, counts, strict=True)
    ]
    fewer = [pool.name for pool, count in zip(job.pools, counts, strict=True) if count < pool.spec.workers_wanted]
    if fewer:
        notes.append(f"fewer worker processes than the manifest asks for, to suit this machine: {', '.join(fewer)}")
    return notes
