"""What a user asked for, as frozen values.

The schema in crds/ is the only source of names, defaults and bounds; these types only mirror it, so that the rest of
Muster reads attributes instead of digging in dictionaries. A field is optional here exactly where the schema gives it
no default. Durations are strings in the manifest (``30s``) and stay so here; `muster_spec.durations` reads them.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from muster_spec.pool_types import ClientData, PoolData, PoolSpec, Slurm, Template, Workers
from muster_spec.rounds_types import (
    Central,
    Evaluation,
    LateUpdates,
    Local,
    NextRound,
    Optimizer,
    Rounds,
    Selection,
    Target,
)
from muster_spec.strategy_types import Compression, FedProx, Privacy, Robustness, Strategy, Weighting
from muster_spec.values import NamedObject, NamedPath, Resources, Value

__all__ = [
    "Central",
    "Checkpoint",
    "ClientData",
    "Compression",
    "Coordinator",
    "Evaluation",
    "FedProx",
    "FileModel",
    "InitialModel",
    "JobSpec",
    "LateUpdates",
    "Local",
    "NextRound",
    "Optimizer",
    "PathSource",
    "PoolData",
    "PoolRef",
    "PoolSpec",
    "Privacy",
    "ResolvedJob",
    "ResolvedPool",
    "Robustness",
    "Rounds",
    "RunPolicy",
    "Selection",
    "Service",
    "Slurm",
    "Source",
    "Storage",
    "StorageUrl",
    "StorageVolume",
    "Strategy",
    "Target",
    "TaskSpec",
    "Template",
    "Value",
    "Weighting",
    "Workers",
]

FileModel = NamedPath
PathSource = NamedPath


class InitialModel(Value, frozen=True):
    type: Literal["Client", "File"]
    file: FileModel | None = None


class Source(Value, frozen=True):
    """Where the task's code comes from, beside the image: a folder that workers put on their import path."""

    type: Literal["Image", "Path", "ConfigMap"]
    path: PathSource | None = None
    config_map: NamedObject | None = None


class TaskSpec(Value, frozen=True):
    entrypoint: str
    config: dict[str, Any]
    initial_model: InitialModel
    source: Source | None = None


class PoolRef(Value, frozen=True):
    name: str
    inline: PoolSpec | None = None


class StorageVolume(Value, frozen=True):
    size: str
    claim_name: str | None = None
    storage_class_name: str | None = None


class StorageUrl(Value, frozen=True):
    url: str
    secret_name: str | None = None


class Storage(Value, frozen=True):
    type: Literal["Path", "Volume", "Url"]
    path: NamedPath | None = None
    volume: StorageVolume | None = None
    url: StorageUrl | None = None


class Checkpoint(Value, frozen=True):
    """Where models and records are kept. `every` is None when no older models are kept for good."""

    keep: int
    when_deleted: Literal["Retain", "Delete"]
    every: int | None = None
    storage: Storage | None = None


class Service(Value, frozen=True):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"]
    port: int
    node_port: int | None = None
    address: str | None = None
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class Coordinator(Value, frozen=True):
    image: str | None = None
    resources: Resources | None = None
    service: Service | None = None
    memory_budget: str | None = None
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    priority_class_name: str | None = None


class RunPolicy(Value, frozen=True):
    backoff_limit: int
    clean_pod_policy: Literal["Running", "All", "None"]
    active_deadline_seconds: int | None = None
    pre_running_deadline_seconds: int | None = None
    ttl_seconds_after_finished: int | None = None


class JobSpec(Value, frozen=True):
    """What to train, with whom and how. The parts with a default here always have one in the schema too."""

    task: TaskSpec
    pools: tuple[PoolRef, ...]
    rounds: Rounds
    strategy: Strategy
    local: Local
    evaluation: Evaluation
    seed: int
    suspend: bool
    compression: Compression = Compression(preset="none")
    selection: Selection = Selection(type="Random")
    checkpoint: Checkpoint = Checkpoint(keep=3, when_deleted="Retain")
    run_policy: RunPolicy = RunPolicy(backoff_limit=6, clean_pod_policy="Running")
    privacy: Privacy | None = None
    robustness: Robustness | None = None
    coordinator: Coordinator | None = None


# --- What runs --------------------------------------------------------------------------------------------------------


class ResolvedPool(Value, frozen=True, omit_defaults=True):
    """`uid` is that of the ClientPool in a cluster, where its credentials are the pool's own (type External)."""

    name: str
    spec: PoolSpec
    uid: str = ""


class ResolvedJob(Value, frozen=True):
    """A job with its pools looked up and every default filled in: all that a coordinator has to know."""

    name: str
    namespace: str
    uid: str
    spec: JobSpec
    pools: tuple[ResolvedPool, ...]

    @property
    def clients_total(self) -> int:
        return sum(pool.spec.clients for pool in self.pools)
