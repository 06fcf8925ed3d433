"""What can happen to a job, as the engine is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from muster_coordinator.allocations import Allocation
from muster_coordinator.records import AssignmentId, ClientProfile, EvaluationRecord, Losses, RoundCommit, RoundPlan
from muster_spec.clients import ClientId


@dataclass(frozen=True, slots=True)
class ClientsJoined:
    """A worker opened a session for these clients, holding updates that it has not heard of again."""

    worker: str
    clients: tuple[ClientId, ...]
    held: tuple[AssignmentId, ...] = ()
    device: str = ""  # for people


@dataclass(frozen=True, slots=True)
class ClientsLost:
    """The worker of these clients has not been heard of for a lease."""

    clients: tuple[ClientId, ...]
    reason: str
    worker: str = ""  # only those still with this worker are lost; empty: whoever they are with


@dataclass(frozen=True, slots=True)
class QueueSeen:
    """What the batch system of a pool has for its clients, the whole of it."""

    pool: str
    allocations: Mapping[ClientId, Allocation]


@dataclass(frozen=True, slots=True)
class ClientsProfiled:
    """A worker has measured itself and its line, for these clients."""

    worker: str
    clients: tuple[ClientId, ...]
    profile: ClientProfile


@dataclass(frozen=True, slots=True)
class UpdateStaged:
    """An update arrived whole and passed every check; its bytes wait in the staging area under its assignment."""

    client: ClientId
    assignment: AssignmentId
    examples: int
    steps: int
    metrics: Mapping[str, float]
    size_bytes: int
    train_ms: int = 0
    upload_s: float = 0.0  # for its bytes to come, in the call that ended it; 0: not known
    losses: Losses | None = None  # where the share of values sent is learnt
    plain_bytes: int = 0  # what it would have been in float32, and of the whole model
    memory_lost: bool = False  # its client began without what it had left to send of earlier updates
    norm: float = 0.0  # of its trainable values
    missing: tuple[str, ...] = ()  # trainable tensors that it lacks (stragglers: LayerWise)
    factor: float = 1.0  # what its weight is multiplied by: the engine says it
    elapsed_s: float = 0.0  # from its order to its arrival: the engine says it; 0: not known


@dataclass(frozen=True, slots=True)
class UpdateRejected:
    """An update failed a check: its client has nothing to offer this round."""

    client: ClientId
    assignment: AssignmentId
    reason: str


@dataclass(frozen=True, slots=True)
class WorkFailed:
    """The client's own code raised."""

    client: ClientId
    assignment: AssignmentId
    reason: str


@dataclass(frozen=True, slots=True)
class EvaluationReported:
    """What a client measured. No examples under scope CENTRAL means: the task has no test set."""

    client: ClientId
    assignment: AssignmentId
    examples: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class PlanStored:
    """The plan is durable: people may be asked to work."""

    plan: RoundPlan


@dataclass(frozen=True, slots=True)
class RoundStored:
    """The commit is durable and ours."""

    commit: RoundCommit


@dataclass(frozen=True, slots=True)
class EvaluationStored:
    """The scores of a model are durable."""

    record: EvaluationRecord


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class BudgetExceeded:
    """The job's memory budget can never hold its model."""

    reason: str


@dataclass(frozen=True, slots=True)
class StopRequested:
    """Somebody wants the coordinator to leave; the job can be resumed."""

    reason: str


@dataclass(frozen=True, slots=True)
class PauseWished:
    """Somebody wants the job to rest after the round that is open, or to go on after all."""

    is_wished: bool


Event = (
    ClientsJoined
    | ClientsLost
    | ClientsProfiled
    | QueueSeen
    | UpdateStaged
    | UpdateRejected
    | WorkFailed
    | EvaluationReported
    | PlanStored
    | RoundStored
    | EvaluationStored
    | Tick
    | BudgetExceeded
    | StopRequested
    | PauseWished
)
