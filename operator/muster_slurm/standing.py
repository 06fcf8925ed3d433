"""What a pool's clients may expect of SLURM: who waits and until when, who runs and for how long. Pure.

It is what the coordinator is told, so that a client in a queue is nobody's straggler and nobody is asked for work that
its job has no time left for. SLURM warns a worker `signalSeconds` before the time limit, by its manual up to a minute
earlier, and from then on the worker leaves: that moment counts, not the limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from muster_slurm.jobs import Job
from muster_slurm.ledger import Ledger, Submission
from muster_slurm.request import Keys
from muster_slurm.states import Phase

EARLY_S = 60.0  # that much sooner than was asked SLURM may warn


@dataclass(frozen=True, slots=True)
class Span:
    """What SLURM has for a worker. Times are Unix seconds, 0 where nobody knows; `ends` is when it may be warned."""

    is_running: bool
    starts: float = 0.0
    ends: float = 0.0

    @property
    def lasts_s(self) -> float:
        """From its beginning until then; 0: not known."""
        return max(self.ends - self.starts, 0.0) if self.is_running and self.starts and self.ends else 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """The same for all clients, by their indices, of the workers that it is the same for."""

    span: Span
    clients: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """What of the pool has to be known."""

    clients: int
    workers: int  # wanted
    signal_s: float


def standing_of(ledger: Ledger, jobs: Iterable[Job], keys: Keys, shape: Shape) -> tuple[Standing, ...]:
    """Of every client of the pool that something is known of."""
    spans: dict[Span, list[int]] = {}
    for slot, workers, span in _spans(ledger, tuple(jobs), keys, shape):
        spans.setdefault(span, []).extend(range(slot, shape.clients, workers))
    return tuple(Standing(span, tuple(sorted(clients))) for span, clients in spans.items())


def _spans(ledger: Ledger, jobs: Sequence[Job], keys: Keys, shape: Shape) -> Iterator[tuple[int, int, Span]]:
    """Worker by worker, with how many there are."""
    of_number: dict[int, list[Job]] = {}
    for job in jobs:
        tag = keys.read(job.name, job.comment)
        if tag is not None:
            of_number.setdefault(tag.number, []).append(job)
    submitted: set[int] = set()
    for submission in ledger.submissions:
        submitted.update(submission.slots)
        for slot, found in _jobs_of(submission, of_number.get(submission.number, ())):
            span = _span(found, shape.signal_s) if found else Span(is_running=False)
            if span is not None and submission.workers == shape.workers:
                yield slot, submission.workers, span
    for slot in set(range(shape.workers)) - submitted:
        worker = ledger.worker(slot)
        if not worker.fate and not worker.failures:  # about to be submitted, for the first time or after a warning
            yield slot, shape.workers, Span(is_running=False)


def _jobs_of(submission: Submission, jobs: Iterable[Job]) -> Iterator[tuple[int, Job | None]]:
    """Each of its workers, and its job; none while SLURM's answer isn't there, or what it lists doesn't have it."""
    ours = [job for job in jobs if job.array == submission.job]
    found = {submission.base + task: job for job in ours for task in job.tasks}
    rest = next((job for job in ours if job.is_rest), None)
    for slot in submission.slots:
        yield slot, found.get(slot, rest)


def _span(job: Job, signal_s: float) -> Span | None:
    """None of a job that ends, or is in a state that nobody knows: it says nothing of what is to come."""
    if job.phase in {Phase.WAITING, Phase.HELD}:
        return Span(is_running=False, starts=float(job.starts))
    if job.phase is not Phase.RUNNING:
        return None
    if not job.ends:
        return Span(is_running=True, starts=float(job.starts))
    length_s = max(job.ends - job.starts, 0)
    return Span(True, float(job.starts), job.ends - min(signal_s + EARLY_S, length_s / 2))
