"""A ClientPool as frozen values. Mirrors crds/clientpools.yaml; a test holds the two together, leaf by leaf."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from muster_spec.values import NamedObject, NamedPath, Resources, SecretKey, Value


class Workers(Value, frozen=True):
    min: int
    clients_per_worker: int
    max: int | None = None


class Toleration(Value, frozen=True):
    operator: Literal["Equal", "Exists"]
    key: str | None = None
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = None


class Variable(Value, frozen=True):
    """An environment variable: either `value` or `secret`."""

    name: str
    value: str | None = None
    secret: SecretKey | None = None


class Proxy(Value, frozen=True):
    http: str | None = None
    https: str | None = None
    exceptions: str | None = None


class RunAs(Value, frozen=True):
    user: int
    group: int
    volume_group: int | None = None


class Template(Value, frozen=True):
    """What the worker pods of a Kubernetes pool look like."""

    spot: bool
    termination_grace_period_seconds: int
    image: str | None = None
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    image_pull_secrets: tuple[NamedObject, ...] = ()
    resources: Resources | None = None
    shared_memory: str | None = None
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()
    priority_class_name: str | None = None
    runtime_class_name: str | None = None
    service_account_name: str | None = None
    environment: tuple[Variable, ...] = ()
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    proxy: Proxy | None = None
    run_as: RunAs | None = None


class DataClaim(Value, frozen=True):
    claim_name: str
    read_only: bool
    sub_path: str | None = None


class DataVolume(Value, frozen=True):
    type: Literal["PersistentVolumeClaim", "ConfigMap", "Secret"]
    persistent_volume_claim: DataClaim | None = None
    config_map: NamedObject | None = None
    secret: NamedObject | None = None


class ClientData(Value, frozen=True):
    """Where one client's data lies."""

    path: str | None = None
    volume: DataVolume | None = None
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    labels: dict[str, str] = msgspec.field(default_factory=dict)


class PoolData(Value, frozen=True):
    """Where the data of a pool lies: in one place, or in `per_client` places, in the order of the clients' indices."""

    path: str | None = None
    volume: DataVolume | None = None
    per_client: tuple[ClientData, ...] = ()


class StateClaim(Value, frozen=True):
    claim_name: str


class ClientState(Value, frozen=True):
    type: Literal["Ephemeral", "Path", "Volume"]
    path: NamedPath | None = None
    volume: StateClaim | None = None


class SlurmAuth(Value, frozen=True):
    user: str
    token_secret: SecretKey


class Ssh(Value, frozen=True):
    host: str
    port: int
    user: str
    key_secret: SecretKey
    known_hosts_secret: SecretKey


class SlurmCommand(Value, frozen=True):
    type: Literal["Local", "Ssh"]
    ssh: Ssh | None = None


class Relay(Value, frozen=True):
    type: Literal["SharedFolder", "Ssh"]
    shared_folder: NamedPath | None = None


class SlurmContainer(Value, frozen=True):
    runtime: Literal["Apptainer", "Enroot", "Pyxis"]
    image: str
    mounts: tuple[str, ...] = ()


class Mpi(Value, frozen=True):
    type: Literal["Mpi", "Distributed"]
    launcher: Literal["Srun", "Mpirun"]
    plugin: str | None = None


class Slurm(Value, frozen=True):
    """How a Slurm pool's jobs are submitted (`url` or `command`) and what they ask for."""

    nodes: int
    tasks: int
    time_limit: str
    requeue: bool
    signal_seconds: int
    url: str | None = None
    api_version: str | None = None
    ca_secret: SecretKey | None = None
    auth: SlurmAuth | None = None
    command: SlurmCommand | None = None
    relay: Relay | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    reservation: str | None = None
    gres: str | None = None
    cpus_per_task: int | None = None
    memory: str | None = None
    container: SlurmContainer | None = None
    modules: tuple[str, ...] = ()
    work_dir: str | None = None
    preamble: str | None = None
    environment: tuple[Variable, ...] = ()
    mpi: Mpi | None = None


class External(Value, frozen=True):
    bundle_validity: str
    certificate_validity: str
    revoked: bool
    bundle_secret: str | None = None


class Cost(Value, frozen=True):
    per_hour: float
    interruptions_per_hour: float
    watts: float


class PoolSpec(Value, frozen=True):
    """Who the clients of a pool are and how their workers are started."""

    type: Literal["Kubernetes", "Slurm", "External"]
    clients: int
    workers: Workers
    template: Template | None = None
    data: PoolData | None = None
    state: ClientState | None = None
    slurm: Slurm | None = None
    external: External | None = None
    cost: Cost | None = None
    trusted: bool | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)

    def labels_of(self, index: int) -> dict[str, str]:
        """A client's labels: its pool's, and its own on top."""
        places = self.data.per_client if self.data else ()
        return {**self.labels, **(places[index].labels if index < len(places) else {})}

    @property
    def is_trusted(self) -> bool:
        """External clients are run by somebody else, so they have to be marked; the others run what we launched."""
        return self.trusted if self.trusted is not None else self.type != "External"

    @property
    def has_own_places(self) -> bool:
        """Whether each client's data lies in a place of its own."""
        return self.data is not None and bool(self.data.per_client)

    @property
    def state_outlives_workers(self) -> bool:
        """Whether what a client keeps between rounds lies where every worker of the pool finds it."""
        return self.state is not None and self.state.type != "Ephemeral"

    @property
    def workers_wanted(self) -> int:
        """As many as clientsPerWorker asks for, within min and max, and never more than there are clients.

        Clients whose data lies in different places have a worker each: no other could read it.
        """
        if self.has_own_places:
            return self.clients
        wanted = max(self.workers.min, math.ceil(self.clients / self.workers.clients_per_worker))
        if self.workers.max is not None:
            wanted = min(wanted, self.workers.max)
        return max(1, min(wanted, self.clients))
