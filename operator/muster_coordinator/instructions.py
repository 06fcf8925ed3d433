"""What the engine wants done. The driver does it, in order, and knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

from muster_coordinator.matching.phases import Phase
from muster_coordinator.records import (
    USUAL,
    Absence,
    AssignmentId,
    ClientProfile,
    EvaluationRecord,
    RoundPlan,
    Uplink,
    UsedUpdate,
)
from muster_spec.clients import ClientId


@dataclass(frozen=True, slots=True)
class StorePlan:
    """Make this plan durable, then say PlanStored."""

    plan: RoundPlan


@dataclass(frozen=True, slots=True)
class LoadFirstModel:
    """Read the first model from this file and commit it as round 0, then say RoundStored."""

    path: str


@dataclass(frozen=True, slots=True)
class OpenRound:
    """Make ready to sum updates against this base model. An empty base: the next update is a whole first model."""

    round: int
    base: str
    phase: Phase | None = None  # whose layer updates are, where layers are matched


@dataclass(frozen=True, slots=True)
class Matched:
    """The client trains for one layer's match: which it is, and where its units of the layer before are now."""

    phase: int
    places: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """The client chooses examples: to be done by then (engine's clock), those above the loss first."""

    finish_by: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class OrderTraining:
    """Ask a client to train from the base, and to hand its update in before the deadline."""

    client: ClientId
    assignment: AssignmentId
    round: int
    base: str
    seed: int
    deadline: float  # on the engine's clock
    place: int = 0  # in the cohort: which part of the model, where clients train parts
    uplink: Uplink = USUAL
    participations: int = 0  # of the client's updates, those that were used so far
    stop_by: float | None = None  # on the engine's clock: when to stop training, done or not (stragglers: Partial)
    steps: int = 0  # to take, whatever the job's epochs; 0: as the job says
    sampling: Sampling | None = None  # None: it trains on everything
    matched: Matched | None = None  # None: it trains the model as it is


@dataclass(frozen=True, slots=True)
class OrderInitialisation:
    """Ask a client to make the first model."""

    client: ClientId
    assignment: AssignmentId
    seed: int


class Scope(Enum):
    """What a model is measured on: the test set of the task, or the held-out data of one client."""

    CENTRAL = "central"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class OrderEvaluation:
    """Ask a client to measure a model."""

    client: ClientId
    assignment: AssignmentId
    round: int
    model: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Withdraw:
    """This work is no longer wanted: its client stops if it is still at it."""

    client: ClientId
    assignment: AssignmentId
    reason: str


@dataclass(frozen=True, slots=True)
class Accept:
    """Tell the client that its update is here and fine; it keeps it until its settlement."""

    client: ClientId
    assignment: AssignmentId


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the client that its update is of no use, and forget the staged bytes."""

    client: ClientId
    assignment: AssignmentId
    reason: str


@dataclass(frozen=True, slots=True)
class Fold:
    """Decode this staged update into the sum with this weight; and into the one beside it, where there is one."""

    assignment: AssignmentId
    weight: float
    beside: float = 0.0


@dataclass(frozen=True, slots=True)
class StoreCommit:
    """Turn the sum into the next model, store both it and the record (exclusively), then say RoundStored."""

    round: int
    attempt: int
    base: str
    used: tuple[UsedUpdate, ...]
    failed: Mapping[ClientId, str]
    failed_attempts: int
    opened: float  # on the engine's clock
    owed: tuple[AssignmentId, ...] = ()  # goes into the record as it is, like the rest
    stragglers: int = 0
    reason: str = ""
    absences: Mapping[ClientId, Absence] = field(default_factory=dict)
    scale: float = 1.0  # of the mean update, before the server steps with it
    is_rolling: bool = False
    corrections: Mapping[str, float] = field(default_factory=dict)  # of single tensors' (stragglers: LayerWise)
    profiled: Mapping[ClientId, ClientProfile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settle:
    """Tell a client what became of an update it holds, and forget its staged bytes if there are any."""

    client: ClientId
    assignment: AssignmentId
    used: bool
    reason: str


@dataclass(frozen=True, slots=True)
class StoreEvaluation:
    """Make these scores durable, then say EvaluationStored."""

    record: EvaluationRecord


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Nothing will happen by itself before this time (engine's clock); replaces any earlier wish."""

    when: float


@dataclass(frozen=True, slots=True)
class Tell:
    """Something worth knowing for people: shown, logged and counted; never acted on."""

    kind: str
    message: str
    details: Mapping[str, object]


class Outcome(Enum):
    """How a job ends."""

    COMPLETE = "Complete"
    FAILED = "Failed"
    SUSPENDED = "Suspended"


class Reason(StrEnum):
    """Why a job is over: every end has its name."""

    ROUNDS_COMPLETED = "RoundsCompleted"
    TARGET_REACHED = "TargetReached"
    NO_IMPROVEMENT = "NoImprovement"
    BUDGET_SPENT = "BudgetSpent"
    TOO_MANY_FAILED_ROUNDS = "TooManyFailedRounds"
    NOT_ENOUGH_UPDATES = "NotEnoughUpdates"
    TASK_FAILED = "TaskFailed"
    NO_FIRST_MODEL = "NoFirstModel"
    NO_CLIENTS = "NoClients"
    MEMORY_BUDGET = "MemoryBudget"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    STOPPED = "Stopped"
    PAUSED = "Paused"


@dataclass(frozen=True, slots=True)
class Finish:
    """The job is over: tell every worker, then leave."""

    outcome: Outcome
    reason: Reason
    message: str


Instruction = (
    StorePlan
    | LoadFirstModel
    | OpenRound
    | OrderTraining
    | OrderInitialisation
    | OrderEvaluation
    | Withdraw
    | Accept
    | Refuse
    | Fold
    | StoreCommit
    | Settle
    | StoreEvaluation
    | WakeAt
    | Tell
    | Finish
)
