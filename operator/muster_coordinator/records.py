"""What the coordinator writes down, and nothing else survives it.

Three kinds of record make a job's history. A plan is stored before anybody is asked to work, so that a coordinator that
dies finds the assignments its clients still hold. A commit is created exclusively: of two coordinators one loses. An
evaluation follows its commit. Everything that the engine knows between rounds is a fold over these records.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NewType

import msgspec

from muster_spec.clients import ClientId

AssignmentId = NewType("AssignmentId", str)


class Record(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The base of what is stored: immutable, and strict when it is read back."""


class Uplink(Record, frozen=True):
    """How one update travels, where that is not the same for everybody and always."""

    preset: str = ""  # the client's own (compression: auto); empty: the job's
    share: float = 0.0  # of the values, what is sent in this round (AdaptiveTopK); 0: the job's
    probe: float = 0.0  # the smaller share that it is compared with


USUAL: Final = Uplink()


class Losses(Record, frozen=True):
    """What a client measured on a few of its examples: with AdaptiveTopK, see adaptive.py of muster_wire."""

    before: float  # of the base
    after: float  # of the base and its update
    fewer: float  # of the base and what the probe's share would have sent of it


class Absence(StrEnum):
    """How a client that was asked came not to be in the sum."""

    FAILED = "Failed"  # its code raised, or its update was refused
    QUEUED = "Queued"  # it waited in the queue of a batch system when the round closed: nobody's fault
    LOST = "Lost"  # its worker was away when the round closed
    LATE = "Late"  # it was still at work at the deadline
    OVERTAKEN = "Overtaken"  # it was still at work when the round closed early, with others enough


class ClientProfile(Record, frozen=True):
    """What a worker measured of itself and its line, on joining and now and then. Its own word, within bounds."""

    flops: float  # float32 operations a second
    memory_bytes: int
    latency_s: float  # there and back
    up_bytes_per_s: float
    down_bytes_per_s: float


class KnownClient(Record, frozen=True):
    """What earlier jobs on the same pool knew of a client: see carried.py."""

    used: float = 0.0
    failed: float = 0.0
    pace: float | None = None  # its time over the median of its pool's; None: not known
    bytes_per_s: float | None = None
    profile: ClientProfile | None = None


class Carried(Record, frozen=True):
    """What a job begins with, or leaves behind, of some clients."""

    clients: Mapping[ClientId, KnownClient]


class Stint(Record, frozen=True):
    """How much one client does in mode SemiSynchronous, and with whom it is to arrive."""

    steps: int
    group: int  # 0: it counts by itself, as soon as it comes
    arrival_s: float = 0.0  # how long it should take; 0: not known


class PlannedClient(Record, frozen=True):
    """One place in a cohort."""

    client: ClientId
    assignment: AssignmentId
    seed: int
    reason: str  # why the selector asked this client
    factor: float = 1.0  # what its update's weight is multiplied by (rounds.inclusionCorrection)
    uplink: Uplink = USUAL
    stint: Stint | None = None  # None: as the job says for everybody


class RoundPlan(Record, frozen=True):
    """Who is asked to do what in one attempt at one round. Round 0 is the making of the first model.

    Where rounds are not waited for (modes.py), one has several plans, each of clients that are asked in addition.
    """

    round: int
    attempt: int  # 0, or how many times in a row this round has failed before; or which of its plans this is
    base: str  # digest of the model to train from; empty for round 0
    cohort: tuple[PlannedClient, ...]
    close_at: int  # updates that end the round early (fastest-K)
    minimum: int  # updates without which the round fails at its deadline
    deadline_s: float  # length; the clock starts when the assignments go out, again after a restart
    epoch: int  # the coordinator session that planned it: a name, not a fence
    absences: Mapping[ClientId, Absence] = msgspec.field(default_factory=dict)  # of attempts at this round before
    deadline_reason: str = ""  # where it is chosen for each round
    number_reason: str = ""  # why `close_at`, where it is chosen for each round
    loss_threshold: float | None = (
        None  # above which examples teach most (local.sampling); None: not known, or not asked
    )
    steps: int = 0  # that each client takes (local.stepControl); 0: as the job says


class UsedUpdate(Record, frozen=True):
    """One part of a sum."""

    client: ClientId
    assignment: AssignmentId
    round: int  # the round it was trained for: less than the commit's when it came late
    examples: int
    weight: float  # in the sum, in a unit of the round's own: what weighting and strategy make of its claims
    steps: int
    metrics: Mapping[str, float]
    train_s: float = 0.0
    upload_s: float = 0.0  # 0: not known
    losses: Losses | None = None
    memory_lost: bool = False  # made without what its client had left to send of earlier updates
    elapsed_s: float = 0.0  # from its order to its arrival, as the coordinator saw it; 0: not known
    size_bytes: int = 0
    norm: float = 0.0  # of its trainable values
    missing: tuple[str, ...] = ()  # trainable tensors that it lacked (stragglers: LayerWise)
    discount: float = 1.0  # what its weight is multiplied by: for coming late, for how often its client is counted


class RoundCommit(Record, frozen=True):
    """One round is over, for good: the model that it made and the updates that are in it."""

    round: int
    attempt: int
    epoch: int
    base: str
    model: str  # digest
    used: tuple[UsedUpdate, ...]
    failed: Mapping[ClientId, str]  # who was asked and is not in it, and why
    failed_attempts: int  # in a row, before this one
    started_s: float  # Unix time, for people
    seconds: float
    bytes_up: int
    bytes_down: int
    bytes_plain: int = 0  # what the same models and updates would have been in float32, both ways
    bytes_plain_up: int = 0  # of these, of the updates
    owed: tuple[AssignmentId, ...] = ()  # of this round's plan: still welcome later (lateUpdates: NextRound)
    stragglers: int = 0  # of `failed`: who was still waited for when the round closed
    reason: str = ""  # why it closed when it did, and why these clients were asked
    norm: float = 0.0  # of what its updates come to together, before the server steps with it
    widths: tuple[
        int, ...
    ] = ()  # of round 0, where layers are matched: units of each but the last, as the task made them
    matches: Mapping[ClientId, tuple[int, ...]] = msgspec.field(
        default_factory=dict
    )  # where clients' units are (FedMA)
    server_state: str = ""  # digest of what a server optimiser keeps with this model; empty: nothing
    absences: Mapping[ClientId, Absence] = msgspec.field(default_factory=dict)  # of all attempts at this round
    profiled: Mapping[ClientId, ClientProfile] = msgspec.field(default_factory=dict)  # since the round before
    is_rolling: bool = False  # it is a version that nobody waited for: updates of any age count alike (modes.py)

    @property
    def fresh(self) -> tuple[UsedUpdate, ...]:
        """The updates that say what this round was like: its own. Late ones were made for another."""
        return self.used if self.is_rolling else tuple(each for each in self.used if each.round == self.round)


class Scores(Record, frozen=True):
    """Metrics of one model, averaged over examples."""

    metrics: Mapping[str, float]
    examples: int
    clients: int


class EvaluationRecord(Record, frozen=True):
    """How good the model of a round is, and who was asked but is missing from the averages."""

    round: int
    model: str
    central: Scores | None = None
    federated: Scores | None = None
    missing: Mapping[ClientId, str] = msgspec.field(default_factory=dict)
