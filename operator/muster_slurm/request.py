"""What is asked of SLURM for some workers of a pool: one array job, whichever transport carries it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from muster_slurm.ledger import Submission
from muster_slurm.script import build_script, output_of
from muster_spec.durations import duration_s
from muster_spec.pool_types import Slurm
from muster_spec.types import ResolvedJob, ResolvedPool

PATH = "/usr/local/bin:/usr/bin:/bin"  # a login shell sets its own; slurmrestd wants at least one variable
_MEGABYTES = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024 * 1024}


@dataclass(frozen=True, slots=True)
class Options:
    """What the site is asked for. None: the site's default."""

    nodes: int
    tasks: int
    time_limit_minutes: int
    signal_seconds: int
    requeue: bool
    work_dir: str
    output: str
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    gres: str | None = None
    cpus_per_task: int | None = None
    memory_mb: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One submission. What is secret is in `environment`, and nowhere else."""

    name: str
    comment: str
    tasks: tuple[int, ...]
    options: Options
    script: str
    environment: Mapping[str, str] = field(repr=False)

    @property
    def array(self) -> str:
        """The tasks as SLURM writes them: 0-3,7."""
        return write_tasks(self.tasks)


@dataclass(frozen=True, slots=True)
class Tag:
    """What a submission says of itself, for a bridge that has lost its ledger: its number, how many workers the pool
    had, and which of them is task 0.
    """

    number: int
    workers: int
    base: int


@dataclass(frozen=True, slots=True)
class Keys:
    """How the submissions of one job and pool are known again: a comment, and a name where a site rewrites comments."""

    uid: str
    pool: str

    def comment(self, tag: Tag) -> str:
        return f"muster/{self.uid}/{self.pool}/{tag.number}/{tag.workers}/{tag.base}"

    def name(self, tag: Tag) -> str:
        return self.comment(tag).replace("/", "-")

    def read(self, name: str, comment: str) -> Tag | None:
        """Which submission a job belongs to; None if it is none of ours."""
        for text, mark in ((comment, "/"), (name, "-")):
            prefix = mark.join(["muster", self.uid, self.pool, ""])
            numbers = text.removeprefix(prefix).split(mark)
            if text.startswith(prefix) and len(numbers) == 3 and all(map(str.isdecimal, numbers)):
                return Tag(*map(int, numbers))
        return None


def build_request(
    job: ResolvedJob, pool: ResolvedPool, submission: Submission, environment: Mapping[str, str]
) -> Request:
    """The array job for these workers."""
    keys = Keys(job.uid, pool.name)
    tag, base = tag_of(submission), submission.base
    return Request(
        name=keys.name(tag),
        comment=keys.comment(tag),
        tasks=tuple(slot - base for slot in submission.slots),
        options=build_options(slurm_of(pool)),
        script=build_script(job, pool, base),
        environment={"PATH": PATH, **environment},
    )


def slurm_of(pool: ResolvedPool) -> Slurm:
    """How the pool's jobs are submitted. The schema sees to it that a Slurm pool says so."""
    if pool.spec.slurm is None:
        raise ValueError(f"pool {pool.name} is not of type Slurm")
    return pool.spec.slurm


def tag_of(submission: Submission) -> Tag:
    """What its jobs carry."""
    return Tag(submission.number, submission.workers, submission.base)


def build_options(slurm: Slurm) -> Options:
    """What the pool asks for, in SLURM's units."""
    return Options(
        nodes=slurm.nodes,
        tasks=slurm.tasks,
        time_limit_minutes=max(1, math.ceil(duration_s(slurm.time_limit) / 60)),
        signal_seconds=slurm.signal_seconds,
        requeue=slurm.requeue,
        work_dir=slurm.work_dir or "/",
        output=output_of(slurm),
        partition=slurm.partition,
        account=slurm.account,
        qos=slurm.qos,
        constraint=slurm.constraint,
        reservation=slurm.reservation,
        gres=slurm.gres,
        cpus_per_task=slurm.cpus_per_task,
        memory_mb=megabytes(slurm.memory) if slurm.memory else None,
    )


def megabytes(amount: str) -> int:
    """``16G`` → 16384; SLURM's unit, where none is given, is a megabyte."""
    unit = amount[-1] if amount[-1] in _MEGABYTES else "M"
    return math.ceil(int(amount.rstrip("KMGT")) * _MEGABYTES[unit])


def write_tasks(tasks: Iterable[int]) -> str:
    """(0, 1, 2, 7) → ``0-2,7``."""
    spans: list[list[int]] = []
    for task in sorted(tasks):
        if spans and task == spans[-1][1] + 1:
            spans[-1][1] = task
        else:
            spans.append([task, task])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
