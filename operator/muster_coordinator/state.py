"""Everything that the engine remembers, as frozen values.

The phase is a tagged union: each phase holds exactly what it needs, so that there is no field that means something
only sometimes. Growing collections are copied when they change; at ten thousand clients that is some tens of
microseconds (benchmarks/engine.py measures it).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from muster_coordinator.allocations import Allocation, Queues
from muster_coordinator.compass import Group
from muster_coordinator.config import EngineConfig
from muster_coordinator.events import UpdateStaged
from muster_coordinator.histories import Histories
from muster_coordinator.instructions import Outcome, Reason, Settle, Withdraw
from muster_coordinator.reach import Reach
from muster_coordinator.records import (
    USUAL,
    Absence,
    AssignmentId,
    ClientProfile,
    EvaluationRecord,
    RoundCommit,
    RoundPlan,
    Scores,
    Stint,
    Uplink,
    UsedUpdate,
)
from muster_coordinator.stepcontrol import Pace
from muster_coordinator.uplink import Line
from muster_coordinator.weighing import Weighing
from muster_spec.clients import ClientId
from muster_wire.adaptive import Search


@dataclass(frozen=True, slots=True)
class Roster:
    """Who is here, and through which worker. Whoever is not in `workers` is away, perhaps in a queue."""

    workers: Mapping[ClientId, str] = field(default_factory=dict)
    first_join: float | None = None  # of this session of the coordinator
    last_join: float | None = None
    gone: frozenset[ClientId] = frozenset()  # were here and are away
    queues: Queues = field(default_factory=Queues)

    def __contains__(self, client: ClientId) -> bool:
        return client in self.workers

    def __len__(self) -> int:
        return len(self.workers)

    def joined(self, worker: str, clients: tuple[ClientId, ...], now: float) -> Roster:
        first = now if self.first_join is None else self.first_join
        grew = any(client not in self.workers for client in clients)
        workers = {**self.workers, **dict.fromkeys(clients, worker)}
        last, gone = now if grew else self.last_join, self.gone.difference(clients)
        return replace(self, workers=workers, first_join=first, last_join=last, gone=gone)

    def lost(self, clients: tuple[ClientId, ...]) -> Roster:
        workers = dict(self.workers)
        for client in clients:
            workers.pop(client, None)
        return replace(self, workers=workers, gone=self.gone.union(clients))

    def queued(self, client: ClientId) -> Allocation | None:
        """What it waits for, if it waits in a queue."""
        allocation = self.queues.allocations.get(client)
        return allocation if allocation and not allocation.is_running and client not in self.workers else None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a client has nothing to offer; `raised` when its own code did it."""

    reason: str
    raised: bool
    absence: Absence = Absence.FAILED


@dataclass(frozen=True, slots=True)
class Round:
    """One attempt at one round, from its orders to its commit."""

    plan: RoundPlan
    opened: float
    deadline: float
    places: Mapping[AssignmentId, int]  # position in the plan's cohort; none where the round is rolling
    updates: Mapping[AssignmentId, UpdateStaged] = field(default_factory=dict)  # accepted
    failures: Mapping[AssignmentId, Failure] = field(default_factory=dict)
    turn: int = 0  # the place whose update is folded next, where the cohort's order is kept
    folded: tuple[UsedUpdate, ...] = ()  # in the order of the sum, late ones among them
    late: frozenset[AssignmentId] = frozenset()  # of `folded`: trained for an earlier round
    extensions: int = 0
    is_timed: bool = True  # False after a restart: nobody knows when its orders went out
    makers: frozenset[str] = frozenset()  # worker processes that came to make the first model
    weighing: Weighing = field(default_factory=Weighing)
    is_rolling: bool = False  # nobody waits for it: all work is owed, from the moment it is planned (rolling.py)
    next_plan: int = 1  # the number of its next plan, where it may have more than one

    @property
    def number(self) -> int:
        return self.plan.round

    @property
    def failed_before(self) -> int:
        """Attempts in a row that have failed so far."""
        return self.extensions if self.is_rolling else self.plan.attempt + self.extensions

    @property
    def outstanding(self) -> int:
        return len(self.places) - len(self.updates) - len(self.failures)

    @property
    def keeps_order(self) -> bool:
        """With everybody awaited the sum can follow the cohort's order, so that its bits do not depend on luck."""
        return self.plan.close_at == len(self.places)

    @property
    def waits(self) -> bool:
        """Whether its updates are summed only when it closes."""
        return self.number > 0 and self.weighing.waits

    @property
    def scale(self) -> float:
        """What the mean of the sum is multiplied by, once everything is in it."""
        return self.weighing.scale(self.folded) if self.number else 1.0

    def is_outstanding(self, assignment: AssignmentId) -> bool:
        return assignment in self.places and assignment not in self.updates and assignment not in self.failures


# --- phases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LoadingModel:
    """The driver reads the first model from a file."""


@dataclass(frozen=True, slots=True)
class Gathering:
    """There is no plan yet: enough clients have to be here."""

    round: int
    attempt: int
    since: float
    patient: bool  # more clients are expected soon: the coordinator has just started
    because: str = ""  # what became of the attempt before


@dataclass(frozen=True, slots=True)
class Planning:
    """The plan is being stored; nobody may be asked before it is. `within`: more clients, for a round that is open."""

    plan: RoundPlan
    within: Round | None = None


@dataclass(frozen=True, slots=True)
class Collecting:
    """Clients are at work."""

    round: Round


@dataclass(frozen=True, slots=True)
class Committing:
    """The round is closed, and its commit is being stored."""

    round: Round


@dataclass(frozen=True, slots=True)
class Evaluating:
    """The newest model is being measured: on the task's test set by one client, on its own data by each client."""

    round: int
    model: str
    until: float
    restored: bool  # after a restart: nobody has joined yet, so absence says nothing
    waiting: frozenset[ClientId] = frozenset()  # scope LOCAL
    local: Mapping[ClientId, Scores] = field(default_factory=dict)
    central: Scores | None = None
    central_wanted: bool = False
    evaluator: ClientId | None = None  # who has been asked for `central`
    tried: frozenset[ClientId] = frozenset()  # evaluators that failed
    missing: Mapping[ClientId, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoringEvaluation:
    """The scores are being stored."""

    record: EvaluationRecord


@dataclass(frozen=True, slots=True)
class Finished:
    """The job is over; nothing happens any more."""

    outcome: Outcome
    reason: Reason
    message: str


Phase = LoadingModel | Gathering | Planning | Collecting | Committing | Evaluating | StoringEvaluation | Finished


# --- the job ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Best:
    """The best model so far, by the metric that decides."""

    round: int
    model: str
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class RoundSummary:
    """How one round went, for people: what is left of its records once they are folded."""

    round: int
    epoch: int
    outcome: str  # Committed, or why not
    reason: str
    seconds: float
    asked: int
    used: int
    rejected: int
    stragglers: int
    queued: int = 0  # sent back to a queue meanwhile, which is nobody's fault
    started_s: float | None = None  # Unix time; None of an attempt that left no record
    bytes_up: int = 0
    bytes_down: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """What has been learnt, for good: a fold over the records, see recovery.py."""

    last: RoundCommit | None = None
    evaluated: EvaluationRecord | None = None
    best: Best | None = None
    used: Mapping[ClientId, tuple[AssignmentId, ...]] = field(default_factory=dict)  # the newest few of each client
    rounds: tuple[RoundSummary, ...] = ()  # the newest few, oldest first
    seconds: float = 0.0
    bytes_up: int = 0
    bytes_down: int = 0
    bytes_plain: int = 0  # in float32
    bytes_plain_up: int = 0  # of these, of updates
    search: Search | None = None  # for the share of values to send; None: nothing is learnt yet
    reach: Reach = field(default_factory=Reach)  # how often each tensor came, where updates may lack some
    noise: float | None = None  # how far updates scatter, beside their mean; None: not known yet
    widths: tuple[int, ...] = ()  # of the first model, where layers are matched
    pace: Pace | None = None  # where steps are learnt; None: before the first round
    participations: Mapping[ClientId, int] = field(default_factory=dict)  # updates of each client that were used
    histories: Histories = field(default_factory=Histories)

    @property
    def saved(self) -> float:
        """The share of bytes that compression has taken away so far; below 0 where it added some."""
        return _saved(self.bytes_up + self.bytes_down, self.bytes_plain)

    @property
    def saved_up(self) -> float:
        return _saved(self.bytes_up, self.bytes_plain_up)

    @property
    def saved_down(self) -> float:
        return _saved(self.bytes_down, self.bytes_plain - self.bytes_plain_up)

    @property
    def committed(self) -> int:
        """The newest round that is over; -1 before there is a first model."""
        return self.last.round if self.last else -1

    @property
    def model(self) -> str:
        return self.last.model if self.last else ""

    def has_used(self, client: ClientId, assignment: AssignmentId) -> bool:
        return assignment in self.used.get(client, ())


def _saved(size: int, plain: int) -> float:
    return 1 - size / plain if plain else 0.0


@dataclass(frozen=True, slots=True)
class Owed:
    """Work of a round that is over, still welcome under the job's policy for late updates; or any, of a rolling one.

    Times are on the engine's clock. Nobody knows when work was asked for that an earlier coordinator asked for.
    """

    client: ClientId
    round: int
    base: str
    seed: int
    place: int = 0  # in its round's cohort
    uplink: Uplink = USUAL
    factor: float = 1.0
    steps: int = 0  # that it takes; 0: as the job says
    stint: Stint | None = None
    asked_at: float | None = None
    until: float = math.inf  # when it is given up
    loss_threshold: float | None = None


@dataclass(frozen=True, slots=True)
class JobState:
    """The whole job between two events."""

    config: EngineConfig
    phase: Phase
    progress: Progress
    roster: Roster = field(default_factory=Roster)
    lines: Mapping[ClientId, Line] = field(default_factory=dict)  # measured by this coordinator
    owed: Mapping[AssignmentId, Owed] = field(default_factory=dict)
    parked: tuple[UpdateStaged, ...] = ()  # accepted, waiting for a round that they can be folded into
    groups: Mapping[int, Group] = field(default_factory=dict)  # of clients that are to arrive together, by number
    # What to tell the clients of a failed attempt. Its failure is durable with the next plan, and not before.
    deferred: Mapping[AssignmentId, Settle | Withdraw] = field(default_factory=dict)
    initialisers: tuple[ClientId, ...] = ()  # who has been asked for the first model
    undefined: frozenset[str] = frozenset()  # metrics that somebody measured as no number, which has been said
    is_to_pause: bool = False  # as soon as no round is open
    has_test_set: bool = True  # until an evaluator says that the task has none
    active_until: float | None = None
    absences: Mapping[ClientId, Absence] = field(default_factory=dict)  # of failed attempts at the next round
    profiled: Mapping[ClientId, ClientProfile] = field(default_factory=dict)  # since the newest commit
    failed_attempt: RoundSummary | None = None  # at the round that is to be committed next, in this session
    wake: float | None = None  # the last wish

    def surveyed_up(self, client: ClientId) -> float:
        """Bytes a second of its uplink, as its worker has measured them by now; nan: it hasn't."""
        if client in self.profiled:
            return self.profiled[client].up_bytes_per_s
        return self.progress.histories.surveyed_up(client, self.config.ordinals)

    @property
    def is_finished(self) -> bool:
        return isinstance(self.phase, Finished)
