"""The loop around the plan: list → plan → make durable → cancel and submit → say what happened. Its only I/O is through
the transport, the ledger's file and `tell`.

Nothing is decided here but how long to wait: a listing that took long is made seldom, a site that doesn't answer is
asked less and less often, and every wait has jitter, so that a thousand pools don't ask at once.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from muster_slurm.coordinator import News
from muster_slurm.errors import Away, Denied, Full, Limited, Oversized, Refused, SlurmError, Unreachable
from muster_slurm.ledger import Ledger, Submission, read_ledger, write_ledger
from muster_slurm.plan import (
    GIVEN_UP,
    Heard,
    Listing,
    Plan,
    Wanted,
    given_up,
    make_plan,
    note_answer,
    note_max_array,
    note_refusal,
    note_silence,
)
from muster_slurm.request import Keys, Request, build_request, slurm_of, tag_of
from muster_slurm.standing import Shape, Standing, standing_of
from muster_slurm.states import PHASES, Phase
from muster_slurm.transport import Transport
from muster_spec.types import ResolvedJob, ResolvedPool

POLL_S = 10.0
CLOSING_POLL_S = 1.0
PATIENCE_S = 15.0  # for workers that have heard that the job is over
SHARE_OF_TIME = 10  # a listing may take one tenth of the time
LONGEST_WAIT_S = 60.0
FULL_WAIT_S = 60.0
REFUSED_WAIT_S = 60.0

Tell = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a bridge works from."""

    job: ResolvedJob
    pool: ResolvedPool
    ledger: Path
    environment: Callable[[], Mapping[str, str]]  # what is secret, as it is now
    poll_s: float = POLL_S


class Bridge:
    """One pool's."""

    def __init__(self, setup: Setup, transport: Transport, tell: Tell) -> None:
        """Raises SettingsError if what an earlier bridge left can't be read."""
        self._setup = setup
        self._transport = transport
        self._tell = tell
        self._keys = Keys(setup.job.uid, setup.pool.name)
        self._ledger = read_ledger(setup.ledger)
        self._wanted = Wanted(setup.pool.spec.workers_wanted, setup.job.spec.run_policy.backoff_limit, 0)
        self._heard = Heard()
        self._last_given_up = ""
        self._standings: tuple[Standing, ...] = ()
        self._is_missing = False
        self._over_at: float | None = None
        self._is_hasty = False
        self._is_idle = False
        self._fatal: str | None = None
        self._said: Mapping[str, int] = {}
        self._warned: set[str] = set()
        self._quiet = 0  # how often in a row SLURM didn't answer

    # --- what it is told ----------------------------------------------------------------------------------------------

    def hear(self, news: News) -> None:
        """What the coordinator says: whom it hears from, and what their workers log."""
        if self._is_missing:
            self._is_missing = False
            self._say("coordinator", "the coordinator answers again")
        present = self._heard.present if news.present is None else self._workers_of(news.present)
        self._heard = Heard(present, self._workers_of(news.fruitless))
        for line in news.lines:
            self._say("log", f"{line.source}: {line.text}", client=line.source)

    def _workers_of(self, clients: frozenset[int]) -> frozenset[int]:
        return frozenset(index % self._wanted.workers for index in clients)

    def note_relay(self, message: str) -> None:
        """What has become of the way that the pool's workers take."""
        self._say("relay", message)

    def miss(self, error: Away) -> None:
        """The coordinator doesn't answer. It is said once."""
        if not self._is_missing:
            self._is_missing = True
            self._say("coordinator", str(error))

    def finish(self, *, hasty: bool) -> None:
        """The job is over: nothing is to be left in SLURM. Hasty: running workers aren't waited for."""
        self._over_at = self._over_at if self._over_at is not None else time.monotonic()
        self._is_hasty = self._is_hasty or hasty

    @property
    def is_over(self) -> bool:
        return self._over_at is not None

    @property
    def is_idle(self) -> bool:
        """Whether it is over and SLURM has nothing of ours left."""
        return self.is_over and self._is_idle

    @property
    def is_done(self) -> bool:
        """Whether every worker has left because the job is over, or was given up."""
        return all(self._ledger.worker(slot).fate for slot in range(self._wanted.workers))

    @property
    def fatal(self) -> str | None:
        """Why nothing will come of this pool."""
        return self._fatal

    @property
    def tasks(self) -> Mapping[str, int]:
        """How many of the pool's tasks SLURM has, by phase, as it last said."""
        return self._said

    @property
    def standings(self) -> tuple[Standing, ...]:
        """What SLURM has for the pool's clients, as it last said."""
        return self._standings

    @property
    def left(self) -> tuple[str, ...]:
        """The names of the jobs that may be left."""
        return tuple(self._keys.name(tag_of(each)) for each in self._ledger.submissions)

    # --- one turn -----------------------------------------------------------------------------------------------------

    def turn(self) -> float:
        """Look, decide, act; how long to wait before the next turn, in seconds."""
        try:
            self._find_limits()
            began = time.monotonic()
            listing = self._transport.list_jobs(self._setup.job.uid)
            took_s = time.monotonic() - began
            self._carry_out(self._plan(listing))
            self._standings = self._stand(listing)
        except SlurmError as error:
            self._warn(error)
            self._quiet += 1
            return self._jittered(min(LONGEST_WAIT_S, self._poll_s * 2**self._quiet))
        if self._quiet:
            self._say("answers", "SLURM answers again")
        self._quiet = 0
        self._warned.clear()
        return self._jittered(max(self._poll_s, min(SHARE_OF_TIME * took_s, LONGEST_WAIT_S)))

    @property
    def _poll_s(self) -> float:
        return min(CLOSING_POLL_S, self._setup.poll_s) if self.is_over else self._setup.poll_s

    @staticmethod
    def _jittered(wait_s: float) -> float:
        return wait_s * random.uniform(0.8, 1.2)

    def _find_limits(self) -> None:
        if not self._wanted.max_array:
            found = self._ledger.max_array or self._transport.max_array()
            self._wanted = replace(self._wanted, max_array=found)

    def _plan(self, listing: Listing) -> Plan:
        over_at = self._over_at
        is_patient = over_at is not None and not self._is_hasty and time.monotonic() < over_at + PATIENCE_S
        wanted = replace(self._wanted, over=self.is_over or self._fatal is not None, patient=is_patient)
        plan = make_plan(self._ledger, listing, wanted, self._keys, self._heard, time.time())
        self._is_idle = plan.is_idle and not plan.cancel
        self._show(listing)
        return plan

    def _stand(self, listing: Listing) -> tuple[Standing, ...]:
        spec, wanted = self._setup.pool.spec, self._wanted
        shape = Shape(spec.clients, wanted.workers, slurm_of(self._setup.pool).signal_seconds)
        return standing_of(self._ledger, listing.jobs, self._keys, shape)

    def _carry_out(self, plan: Plan) -> None:
        self._keep(plan.ledger)
        for news in plan.news:
            self._say(news.kind, news.message, slots=list(news.slots))
            self._last_given_up = news.message if news.kind == GIVEN_UP else self._last_given_up
        for job in plan.cancel:
            self._transport.cancel(job)
        for submission in plan.submit:
            if self._fatal is None:
                self._submit(submission)
            else:
                self._keep(note_refusal(self._ledger, submission.number, 0.0, time.time(), counts=False))
        if given_up(self._ledger, self._wanted.workers):
            why = f": {self._last_given_up}" if self._last_given_up else ""
            self._fatal = self._fatal or f"every worker of pool {self._setup.pool.name} is given up{why}"

    def _submit(self, submission: Submission) -> None:
        """Ask for it. What comes of it is durable before anything else is asked."""
        setup = self._setup
        request = build_request(setup.job, setup.pool, submission, setup.environment())
        try:
            job = self._transport.submit(request)
        except Refused as error:
            self._refused(submission, error)
        except Oversized as error:
            self._find_max_array(submission, request, error)
        except Full as error:
            self._put_off(submission, error)
        except (Unreachable, Denied):
            self._keep(note_silence(self._ledger, submission.number, time.time()))
            raise
        else:
            self._keep(note_answer(self._ledger, submission.number, job))
            self._say("submitted", f"job {job}: {request.array}", job=job, slots=list(submission.slots))

    def _find_max_array(self, submission: Submission, request: Request, error: Oversized) -> None:
        """Half of what was too much: slurmrestd tells MaxArraySize to nobody."""
        half = (max(request.tasks) + 1) // 2
        if not half:
            self._refused(submission, error)
            return
        self._wanted = replace(self._wanted, max_array=min(half, self._wanted.max_array))
        ledger = note_refusal(self._ledger, submission.number, 0.0, time.time(), counts=False)
        self._keep(note_max_array(ledger, self._wanted.max_array))
        self._say("smaller", f"{error}; arrays of {self._wanted.max_array} are tried")

    def _put_off(self, submission: Submission, error: Full) -> None:
        """Smaller arrays, a while later. Where one alone is too much, it isn't their number that is limited."""
        if isinstance(error, Limited) and len(submission.slots) == 1 and not self._is_queued:
            self._refused(submission, error)
            return
        self._wanted = replace(self._wanted, largest=max(1, len(submission.slots) // 2))
        self._keep(note_refusal(self._ledger, submission.number, FULL_WAIT_S, time.time(), counts=False))
        self._warn(error)

    @property
    def _is_queued(self) -> bool:
        """Whether SLURM has anything of ours."""
        return any(each.job for each in self._ledger.submissions)

    def _refused(self, submission: Submission, error: SlurmError) -> None:
        """While SLURM has taken nothing, it is a mistake in the manifest; later it may be the site's mood."""
        is_first = not self._ledger.accepted
        self._keep(note_refusal(self._ledger, submission.number, REFUSED_WAIT_S, time.time(), counts=True))
        self._warn(error)
        if error.job:
            self._transport.cancel(error.job)
        if is_first:
            self._fatal = str(error)

    def _keep(self, ledger: Ledger) -> None:
        if ledger != self._ledger:
            write_ledger(self._setup.ledger, ledger)
            self._ledger = ledger

    # --- words --------------------------------------------------------------------------------------------------------

    def _show(self, listing: Listing) -> None:
        """How many workers wait and run, when that has changed; and what only a person can put right."""
        counts: Counter[str] = Counter()
        for job in listing.jobs:
            if self._keys.read(job.name, job.comment) is None:
                continue
            counts[job.phase.value] += max(1, len(job.tasks))
            self._show_oddity(job.id, job.states, job.phase, job.reason if job.never_starts else "")
        shown = {phase: count for phase, count in sorted(counts.items()) if phase != Phase.ENDED.value}
        if shown != self._said:
            self._said = shown
            words = ", ".join(f"{count} {phase}" for phase, count in shown.items()) or "no jobs"
            self._say("queue", words, counts=dict(shown))

    def _show_oddity(self, job: int, states: tuple[str, ...], phase: Phase, reason: str) -> None:
        if phase is Phase.UNKNOWN:
            unknown = ", ".join(state for state in states if state not in PHASES) or "nothing"
            self._warn_once(f"job {job} is in a state that this version doesn't know ({unknown}); it is left alone")
        if phase is Phase.HELD:
            self._warn_once(f"job {job} is held; somebody has to release it (scontrol release {job})")
        if reason:
            self._warn_once(f"job {job} will not start as it is ({reason}); change the pool, or ask the site")

    def _warn(self, error: SlurmError) -> None:
        self._warn_once(str(error))

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            self._say("warning", message)

    def _say(self, kind: str, message: str, **details: object) -> None:
        pool = self._setup.pool.name
        self._tell(
            {"event": "slurm", "time": time.time(), "pool": pool, "what": kind, **details}
            | {"message": f"pool {pool}: {message}"}
        )
