"""What to do next, decided from what is wanted, what is remembered, and what SLURM says. Pure; time is an argument.

One pass: adopt what SLURM lists under our keys → judge what has ended → cancel what isn't wanted → submit what is
missing. It never branches on anything but its arguments, so a lost answer or a killed bridge costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from muster_slurm.jobs import Job
from muster_slurm.ledger import Ledger, Submission, Worker
from muster_slurm.request import Keys, Tag
from muster_slurm.states import Cause, Phase
from muster_spec.wording import counted

SETTLE_S = 20.0  # how long a submission whose answer was lost may take to show up in a listing
BACKOFF_S = (5.0, 15.0, 60.0, 300.0)
BAD_INPUT = 2
STOPPED = frozenset({130, 143})
GIVEN_UP = "givenUp"
REMEDY = "raise slurm.timeLimit, or let a training take less time (local.epochs, local.timeBudget)"


@dataclass(frozen=True, slots=True)
class Listing:
    """What SLURM knew at a moment, of the jobs that carry our keys."""

    began_at: float
    jobs: tuple[Job, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What there should be: so many workers, each given up after so many failures. `over`: the job has ended."""

    workers: int
    limit: int
    max_array: int
    over: bool = False
    patient: bool = False  # over, and running workers are about to leave by themselves
    largest: int = 1_000_000  # how many tasks a submission may have: less than all where the site has a limit


@dataclass(frozen=True, slots=True)
class Heard:
    """What the coordinator has said of the pool's workers. `present`: of whose clients it hears; None: nobody has said
    yet. `fruitless`: whose clients have work, and none of it was handed in by the worker that is there, or was last.
    """

    present: frozenset[int] | None = None
    fruitless: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class News:
    """Something that people, or whoever started the bridge, want to know."""

    kind: str
    message: str
    slots: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The next ledger, which is to be durable before the rest is done."""

    ledger: Ledger
    submit: tuple[Submission, ...] = ()
    cancel: tuple[int, ...] = ()
    news: tuple[News, ...] = ()

    @property
    def is_idle(self) -> bool:
        """Whether nothing of ours is left in SLURM."""
        return not self.ledger.submissions and not self.submit


def make_plan(ledger: Ledger, listing: Listing, wanted: Wanted, keys: Keys, heard: Heard, now: float) -> Plan:
    """One pass."""
    return _Pass(ledger, listing, wanted, keys, heard, now).plan()


class _Pass:
    """One pass under way: what is decided so far."""

    def __init__(self, ledger: Ledger, listing: Listing, wanted: Wanted, keys: Keys, heard: Heard, now: float) -> None:
        self._listing = listing
        self._wanted = wanted
        self._heard = heard
        self._now = now
        self._before = ledger
        self._next = ledger.next
        self._workers = dict(ledger.workers)
        self._submissions = list(ledger.submissions)
        self._jobs, self._tags = _by_submission(listing.jobs, keys)
        self._submit: list[Submission] = []
        self._cancel: dict[int, None] = {}
        self._news: list[News] = []

    def plan(self) -> Plan:
        self._take_up_strangers()
        adopted = [self._adopt(each) for each in self._submissions]
        accepted = self._before.accepted or any(each.job for each in adopted)
        self._submissions = [kept for each in adopted if (kept := self._follow(each)) is not None]
        if not self._wanted.over:
            self._fill()
        ledger = Ledger(self._next, tuple(self._submissions), self._workers, accepted, self._before.max_array)
        return Plan(ledger, tuple(self._submit), tuple(self._cancel), tuple(self._news))

    # --- what there is ------------------------------------------------------------------------------------------------

    def _adopt(self, submission: Submission) -> Submission:
        """Find the id of one whose answer never came; of several with the same key the first is kept."""
        arrays = sorted({job.array for job in self._jobs.get(submission.number, ())})
        if submission.job == 0 and arrays:
            submission = msgspec.structs.replace(submission, job=arrays[0])
        for array in arrays:
            if array != submission.job:
                self._cancel_array(self._jobs[submission.number], array)
        return submission

    def _cancel_array(self, jobs: Iterable[Job], array: int) -> None:
        if any(job.array == array and job.phase is not Phase.ENDED for job in jobs):
            self._cancel[array] = None

    def _take_up_strangers(self) -> None:
        """Jobs under our keys that no submission stands for: their ledger was lost, or all their tasks were judged.

        The newest first: a worker that was submitted again is in an older array, too.
        """
        known = {submission.number for submission in self._submissions}
        for number in sorted(self._jobs.keys() - known, reverse=True):
            self._next = max(self._next, number + 1)
            jobs = [job for job in self._jobs[number] if job.phase is not Phase.ENDED]
            submission = self._stranger(self._tags[number], jobs)
            if submission is not None:
                self._submissions.append(submission)
            for array in {job.array for job in jobs} - ({submission.job} if submission else set()):
                self._cancel_array(jobs, array)

    def _stranger(self, tag: Tag, jobs: Sequence[Job]) -> Submission | None:
        """The submission that these jobs, which haven't ended, are of, for the workers that have no other."""
        if not jobs or tag.workers != self._wanted.workers or any(job.is_rest for job in jobs):
            return None
        array = min(job.array for job in jobs)
        busy = {slot for submission in self._submissions for slot in submission.slots}
        slots = {tag.base + task for job in jobs if job.array == array for task in job.tasks} - busy
        submission = Submission(tag.number, tuple(sorted(slots)), tag.workers, self._now, array, tag.base)
        return submission if slots else None

    def _follow(self, submission: Submission) -> Submission | None:
        """What is left of a submission."""
        if submission.job == 0:
            return self._ask_again(submission)
        jobs = [job for job in self._jobs.get(submission.number, ()) if job.array == submission.job]
        found, rest = _by_task(submission.base, jobs)
        self._cancel_queued(submission, jobs)
        left = tuple(slot for slot in submission.slots if self._keep(submission, slot, found.get(slot, rest)))
        return msgspec.structs.replace(submission, slots=left) if left else None

    def _cancel_queued(self, submission: Submission, jobs: Sequence[Job]) -> None:
        """Patience is for those who work: an array of which nothing runs goes at once."""
        phases = {job.phase for job in jobs} - {Phase.ENDED}
        if self._wanted.patient and phases and not phases & {Phase.RUNNING, Phase.ENDING}:
            self._cancel[submission.job] = None

    def _ask_again(self, submission: Submission) -> Submission | None:
        """The same submission once more, under the same key, if a listing made long enough after it lacks it."""
        if submission.asked_at and self._listing.began_at < submission.asked_at + SETTLE_S:
            return submission
        if not self._is_wanted(submission, submission.slots[0]):
            return None
        again = msgspec.structs.replace(submission, asked_at=self._now)
        self._submit.append(again)
        return again

    def _keep(self, submission: Submission, slot: int, job: Job | None) -> bool:
        """Whether a worker's task is to be followed further; judged, if not."""
        if job is None:
            return not self._is_forgotten(submission, slot)
        if job.phase is Phase.ENDED:
            self._judge(submission, slot, job)
            return False
        if not self._is_wanted(submission, slot) and not self._wanted.patient:
            self._cancel[submission.job] = None
        return True

    def _is_forgotten(self, submission: Submission, slot: int) -> bool:
        """SLURM lists ended jobs for MinJobAge only. One that the coordinator hears from hasn't ended."""
        if self._listing.began_at < submission.asked_at + SETTLE_S:
            return False
        present = self._heard.present
        if not self._wanted.over and (present is None or slot in present):
            return False
        self._fail(slot, "SLURM no longer knows its job, and the coordinator doesn't hear from it", submission)
        return True

    def _is_wanted(self, submission: Submission, slot: int) -> bool:
        return not self._wanted.over and slot < self._wanted.workers and submission.workers == self._wanted.workers

    # --- what has ended -----------------------------------------------------------------------------------------------

    def _judge(self, submission: Submission, slot: int, job: Job) -> None:
        if not self._is_wanted(submission, slot):
            return
        states = ", ".join(job.states)
        if job.cause is Cause.COMPLETED:
            self._workers[slot] = Worker(fate="done")
        elif job.cause is Cause.INTERRUPTED or _was_warned(job):
            message = f"worker {slot} was interrupted ({states} on {job.nodes}); it is submitted again"
            self._again(slot, message, was_limited=_was_warned(job) or "TIMEOUT" in job.states)
        elif job.exit.code == BAD_INPUT:
            self._give_up(slot, f"its job {job.id} ended with exit code 2: it can't work as it was asked to")
        else:
            self._fail(slot, f"its job {job.id} ended: {states}, {job.exit} {job.reason}".rstrip(), submission)

    def _again(self, slot: int, message: str, *, was_limited: bool) -> None:
        """It costs nothing, unless that shows later that its time limit leaves it no time for any work."""
        worker = self._workers.get(slot, Worker())
        self._workers[slot] = Worker(
            worker.failures, self._now + BACKOFF_S[0], fruitless=worker.fruitless, was_limited=was_limited
        )
        self._news.append(News("interrupted", message, (slot,)))

    def _weigh(self, slot: int) -> None:
        """Whether the job before this one was any use. By now the coordinator has heard, and said, what it brought."""
        worker = self._workers.get(slot, Worker())
        if not worker.was_limited:
            return
        fruitless = worker.fruitless + 1 if slot in self._heard.fruitless else 0
        if fruitless > self._wanted.limit:
            self._give_up(slot, f"{_in_a_row(fruitless)} before anything was handed in: {REMEDY}")
            return
        self._workers[slot] = msgspec.structs.replace(worker, fruitless=fruitless, was_limited=False)
        if fruitless:
            self._news.append(
                News("fruitless", f"worker {slot}: {_in_a_row(fruitless)} before anything was handed in", (slot,))
            )

    def _fail(self, slot: int, reason: str, submission: Submission) -> None:
        if not self._is_wanted(submission, slot):
            return
        failures = self._workers.get(slot, Worker()).failures + 1
        if failures > self._wanted.limit:
            self._give_up(slot, f"{reason} ({counted(failures, 'failure')})")
            return
        self._workers[slot] = Worker(failures, self._now + BACKOFF_S[min(failures, len(BACKOFF_S)) - 1])
        self._news.append(
            News("failed", f"worker {slot} failed: {reason}; it is submitted again ({failures})", (slot,))
        )

    def _give_up(self, slot: int, reason: str) -> None:
        self._workers[slot] = Worker(fate="given up")
        self._news.append(News(GIVEN_UP, f"worker {slot} is given up: {reason}", (slot,)))

    # --- what is missing ----------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        busy = {slot for submission in self._submissions for slot in submission.slots}
        due = [slot for slot in range(self._wanted.workers) if slot not in busy and self._is_due(slot)]
        for slot in due:
            self._weigh(slot)
        due = [slot for slot in due if self._is_due(slot)]
        for base, slots in _batches(due, self._wanted):
            submission = Submission(self._next, slots, self._wanted.workers, self._now, base=base)
            self._next += 1
            self._submissions.append(submission)
            self._submit.append(submission)

    def _is_due(self, slot: int) -> bool:
        worker = self._workers.get(slot, Worker())
        return not worker.fate and worker.not_before <= self._now


def note_answer(ledger: Ledger, number: int, job: int) -> Ledger:
    """SLURM has answered to a submission with its id."""
    submissions = tuple(
        msgspec.structs.replace(each, job=job) if each.number == number else each for each in ledger.submissions
    )
    return msgspec.structs.replace(ledger, submissions=submissions, accepted=True)


def note_silence(ledger: Ledger, number: int, now: float) -> Ledger:
    """No answer came: it may still show up for a while."""
    submissions = tuple(
        msgspec.structs.replace(each, asked_at=now) if each.number == number else each for each in ledger.submissions
    )
    return msgspec.structs.replace(ledger, submissions=submissions)


def note_refusal(ledger: Ledger, number: int, wait_s: float, now: float, *, counts: bool) -> Ledger:
    """SLURM has said that it did not take a submission, so there is nothing to look for: its workers wait a while."""
    slots = [slot for each in ledger.submissions if each.number == number for slot in each.slots]
    kept = tuple(each for each in ledger.submissions if each.number != number)
    before = {slot: ledger.worker(slot) for slot in slots}
    waiting = {
        slot: msgspec.structs.replace(worker, failures=worker.failures + counts, not_before=now + wait_s)
        for slot, worker in before.items()
    }
    return msgspec.structs.replace(ledger, submissions=kept, workers=ledger.workers | waiting)


def note_max_array(ledger: Ledger, found: int) -> Ledger:
    """An array was too large for the site: from now on they are to stay below this."""
    return msgspec.structs.replace(ledger, max_array=found)


def given_up(ledger: Ledger, workers: int) -> bool:
    """Whether nothing will ever come of this pool: every worker was given up."""
    return all(ledger.worker(slot).fate == "given up" for slot in range(workers))


def _was_warned(job: Job) -> bool:
    """SLURM warns of a time limit, and the worker leaves before it."""
    return job.cause is Cause.FAILED and job.exit.code in STOPPED


def _in_a_row(jobs: int) -> str:
    return "its job came to its time limit" if jobs == 1 else f"{jobs} jobs in a row came to their time limit"


def _by_submission(jobs: Iterable[Job], keys: Keys) -> tuple[dict[int, list[Job]], dict[int, Tag]]:
    found: dict[int, list[Job]] = {}
    tags: dict[int, Tag] = {}
    for job in jobs:
        tag = keys.read(job.name, job.comment)
        if tag is not None:
            found.setdefault(tag.number, []).append(job)
            tags[tag.number] = tag
    return found, tags


def _by_task(base: int, jobs: Sequence[Job]) -> tuple[Mapping[int, Job], Job | None]:
    """The record of each worker, and the one that stands for those without."""
    rest = next((job for job in jobs if job.is_rest), None)
    return {base + task: job for job in jobs for task in job.tasks}, rest


def _batches(due: Sequence[int], wanted: Wanted) -> Iterable[tuple[int, tuple[int, ...]]]:
    """One array for each block of MaxArraySize numbers, which begin at 0 again, and none larger than the site takes.

    Each with the worker that its task 0 is.
    """
    blocks: dict[int, list[int]] = {}
    for slot in due:
        blocks.setdefault(slot - slot % wanted.max_array, []).append(slot)
    for base, slots in blocks.items():
        for first in range(0, len(slots), wanted.largest):
            yield base, tuple(slots[first : first + wanted.largest])
