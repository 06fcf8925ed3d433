"""What a user asked for, as frozen values.

The schema in crds/ is the only source of names, defaults and bounds; these types only mirror it, so that the rest of
Muster reads attributes instead of digging in dictionaries. A field is optional here exactly where the schema gives it
no default. Durations are strings in the manifest (``30s``, ``4h``) and stay so here; `muster_spec.durations` reads them.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The base of every value in a manifest: immutable, camelCase outside, nothing unknown inside."""


# --- FederatedJob -----------------------------------------------------------------------------------------------------


class FileModel(Value):
    path: str


class InitialModel(Value):
    type: Literal["Client", "File"]
    file: FileModel | None = None


class PathSource(Value):
    path: str


class Source(Value):
    """Where the task's code comes from, beside the image: a folder that workers put on their import path."""

    type: Literal["Image", "Path", "ConfigMap"]
    path: PathSource | None = None
    config_map: dict[str, Any] | None = None


class TaskSpec(Value):
    entrypoint: str
    config: dict[str, Any]
    initial_model: InitialModel
    source: Source | None = None


class NextRound(Value):
    max_staleness: int
    exponent: float


class LateUpdates(Value):
    type: Literal["Discard", "NextRound"]
    next_round: NextRound | None = None


class Target(Value):
    metric: str
    value: float


class Rounds(Value):
    """How rounds go. `cohort` and `min_updates` are None for "everybody" and "the whole cohort"."""

    mode: Literal["Synchronous", "SemiSynchronous", "Asynchronous"]
    total: int
    deadline_seconds: int
    overselect: float
    on_insufficient: Literal["Retry", "Extend", "Fail"]
    max_failed_rounds: int
    late_updates: LateUpdates
    cohort: int | None = None
    min_updates: int | None = None
    target: Target | None = None
    patience: int | None = None


class FedProx(Value):
    mu: float


class Strategy(Value):
    type: str
    fed_prox: FedProx | None = None
    server_optimizer: dict[str, Any] | None = None


class Optimizer(Value):
    type: Literal["SGD", "Adam", "AdamW"]
    momentum: float
    weight_decay: float


class Local(Value):
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Optimizer
    gradient_clip_norm: float | None = None
    time_budget: str | None = None
    max_steps: int | None = None


class Central(Value):
    """Whether a trusted client measures each model on the task's own test set."""

    type: Literal["Auto", "Never"]


class Evaluation(Value):
    every: int
    central: Central
    federated: bool
    timeout_seconds: int


class PoolRef(Value):
    name: str
    inline: PoolSpec | None = None


class Checkpoint(Value):
    every: int
    keep: int
    when_deleted: Literal["Retain", "Delete"]
    storage: dict[str, Any] | None = None


class JobSpec(Value):
    task: TaskSpec
    pools: tuple[PoolRef, ...]
    rounds: Rounds
    strategy: Strategy
    local: Local
    evaluation: Evaluation
    seed: int
    suspend: bool


# --- ClientPool -------------------------------------------------------------------------------------------------------


class Workers(Value):
    min: int
    clients_per_worker: int
    max: int | None = None


class PoolData(Value):
    path: str | None = None


class PoolSpec(Value):
    type: Literal["Kubernetes", "Slurm", "External"]
    clients: int
    workers: Workers
    data: PoolData | None = None
    trusted: bool | None = None

    @property
    def is_trusted(self) -> bool:
        """External clients are run by somebody else, so they have to be marked; the others run what we launched."""
        return self.trusted if self.trusted is not None else self.type != "External"


# --- What runs --------------------------------------------------------------------------------------------------------


class ResolvedPool(Value):
    name: str
    spec: PoolSpec


class ResolvedJob(Value):
    """A job with its pools looked up and every default filled in: all that a coordinator has to know."""

    name: str
    namespace: str
    uid: str
    spec: JobSpec
    pools: tuple[ResolvedPool, ...]

    @property
    def clients_total(self) -> int:
        return sum(pool.spec.clients for pool in self.pools)
