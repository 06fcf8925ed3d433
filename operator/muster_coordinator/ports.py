"""Everything outside the driver, as it sees it: production passes disks, sums and clocks; a simulation its own.

`Orders` stands with the book that keeps it, in orders.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from muster_coordinator.matching.phases import Phase
from muster_coordinator.meter import Traffic
from muster_coordinator.observer import Observer
from muster_coordinator.orders import Orders
from muster_coordinator.records import AssignmentId, EvaluationRecord, RoundCommit, RoundPlan
from muster_wire.chain import Audience

Corrections = Mapping[str, float]  # by tensor
NO_CORRECTIONS: Corrections = MappingProxyType({})


class Store(Protocol):
    """Remembers records. What it has returned from is durable."""

    def save_plan(self, plan: RoundPlan) -> None: ...

    def save_commit(self, commit: RoundCommit) -> None:
        """Raises CommitLost where this round has been committed by somebody else."""

    def save_evaluation(self, record: EvaluationRecord) -> None: ...


@dataclass(frozen=True, slots=True)
class Made:
    """A model that is durable, by its digest; and what the server keeps with it for the next one, likewise."""

    model: str
    server_state: str = ""  # empty: nothing
    norm: float = 0.0  # of the mean of the updates that it is made of
    widths: tuple[int, ...] = ()  # of a first model whose layers are matched
    matches: tuple[tuple[int, ...], ...] = ()  # where the units of each update are, in the order of the folds


class Models(Protocol):
    """Makes models out of staged updates, keeps them durably, and gives them out to clients."""

    def open(self, base: str, number: int, phase: Phase | None = None) -> None:
        """Make ready to sum the updates of this round against this model, and to give out what its clients train.

        With an empty base the next update is a whole first model. With a phase updates are of that layer alone.
        """

    def fold(self, assignment: AssignmentId, weight: float, beside: float = 0.0) -> None:
        """Decode a staged update into the sum; and into the one beside it, where the strategy has one."""

    def forget(self, assignment: AssignmentId) -> None:
        """Drop a staged update, if there is one."""

    def make(self, number: int, scale: float = 1.0, corrections: Corrections = NO_CORRECTIONS) -> Made:
        """Turn the sum into the model of this round, durably; the mean update is multiplied by the scale, and where
        updates may lack layers, each tensor's by its correction.
        """

    def load_first(self, path: str) -> Made:
        """Read the first model from a file, and keep it durably. Raises InputError."""

    def publish(self, model: str, number: int, audience: Audience) -> None:
        """This is the model to give out from now on, made by this round; and who is expected to fetch it."""

    def prune(self, keep: Collection[str]) -> None:
        """Forget all stored models but these and the newest few."""


class Clock(Protocol):
    """Two clocks: one for deadlines that only ever runs, and one that people read."""

    def now(self) -> float: ...

    def unix(self) -> float: ...


class Reporter(Protocol):
    """Tells people."""

    def tell(self, kind: str, details: Mapping[str, object]) -> None: ...


class Meter(Protocol):
    """Counts the bytes that crossed the wire."""

    def take(self) -> Traffic:
        """What crossed it since the last time."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What one driver works with."""

    store: Store
    models: Models
    orders: Orders
    clock: Clock
    reporter: Reporter
    meter: Meter
    observer: Observer
