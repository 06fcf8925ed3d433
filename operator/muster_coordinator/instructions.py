"""What the engine wants done. The driver does it, in order, and knows nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from muster_coordinator.records import AssignmentId, EvaluationRecord, RoundPlan, UsedUpdate
from muster_spec.clients import ClientId


@dataclass(frozen=True, slots=True)
class StorePlan:
    """Make this plan durable, then say PlanStored."""

    plan: RoundPlan


@dataclass(frozen=True, slots=True)
class OpenRound:
    """Make ready to sum updates against this base model. An empty base: the next update is a whole first model."""

    round: int
    base: str


@dataclass(frozen=True, slots=True)
class OrderTraining:
    client: ClientId
    assignment: AssignmentId
    round: int
    base: str
    seed: int
    deadline: float  # on the engine's clock


@dataclass(frozen=True, slots=True)
class OrderInitialisation:
    client: ClientId
    assignment: AssignmentId
    seed: int


class Scope(Enum):
    CENTRAL = "central"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class OrderEvaluation:
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
    """Decode this staged update into the sum with this weight."""

    assignment: AssignmentId
    weight: float


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


@dataclass(frozen=True, slots=True)
class Settle:
    """Tell a client what became of an update it holds."""

    client: ClientId
    assignment: AssignmentId
    used: bool
    reason: str


@dataclass(frozen=True, slots=True)
class StoreEvaluation:
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
    COMPLETE = "Complete"
    FAILED = "Failed"
    SUSPENDED = "Suspended"


@dataclass(frozen=True, slots=True)
class Finish:
    """The job is over: tell every worker, then leave."""

    outcome: Outcome
    reason: str  # CamelCase, typed: RoundsCompleted, TargetReached, NoImprovement, TooManyFailedRounds, …
    message: str


Instruction = (
    StorePlan
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
