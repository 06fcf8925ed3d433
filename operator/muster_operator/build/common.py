"""What every child has in common: its name, its labels and whom it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from muster_operator.objects import COMPONENT, JOB, MANAGED_BY, MANAGER, POOL, RESOURCES, Object, digest
from muster_spec.types import ResolvedJob, ResolvedPool

COORDINATOR = "coordinator"
WORKER = "worker"
PORT = 8443
SERVICE_PORT = 443
METRICS_PORT = 9464
METRICS = "metrics"
"""The name of that port, of coordinators, workers and bridges, which PodMonitors look for."""
CLIENT = "muster.dev/client"
"""Label of a Job that acts for one client only: the client's index."""
INPUTS = "muster.dev/inputs"
"""Annotation of a Job: the digest of what its pod template was made from. Another digest, another Job."""

QUEUE_LABELS = "kueue.x-k8s.io/"
"""What labels for a queue begin with. A queue looks for them at Jobs, so they are put there as the user put them."""

QUEUE_NAME = f"{QUEUE_LABELS}queue-name"

FEWER_SINCE = "operator.muster.dev/fewer-since"
"""Annotation of a worker Job: since when it has had more workers than are wanted."""

_NAME_LENGTH = 52  # an indexed Job's pods are called after it, with the index, within 63 letters


def has_queue(labels: Mapping[str, str] | None) -> bool:
    """Whether what has these labels is for a queue to start."""
    return bool((labels or {}).get(QUEUE_NAME))


@dataclass(frozen=True, slots=True)
class Routes:
    """A Gateway that passes TLS on by name, and the domain below which coordinators are called there."""

    gateway: str
    namespace: str
    domain: str
    port: int = 443
    section: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """The job that children are made for, as it is pinned, and what else their manifests depend on.

    `authority_id` is the uid of the Secret with the job's certificate authority, "" where there is none yet. `workers`
    says how many there should be of each pool now, `fewer_since` since when a pool has had more than are wanted. `code`
    is the task's code, files by name, where it comes from a config map. `queue` holds the job's labels for queues.
    """

    job: ResolvedJob
    spec_digest: str
    authority_id: str = ""
    workers: dict[str, int] = field(default_factory=dict)
    fewer_since: dict[str, float] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    environment: tuple[tuple[str, str], ...] = ()  # what every process gets beside its own
    authority: str = ""  # its certificate, in PEM, where one is to be told of it
    routes: Routes | None = None
    queue: Mapping[str, str] = field(default_factory=dict)
    pull_secrets: tuple[str, ...] = ()  # for the images of all pods, besides what a pool names
    worker_certificate_minutes: int = 60

    @property
    def config_name(self) -> str:
        return child_name(self.job.name, f"spec-{self.spec_digest}")

    @property
    def authority_name(self) -> str:
        return child_name(self.job.name, "authority")

    @property
    def server_name(self) -> str:
        """Of the Secret with the coordinator's certificate."""
        return child_name(self.job.name, "server")

    def join_name(self, pool: str) -> str:
        """Of the Secret that a pool's workers join with."""
        return child_name(self.job.name, f"join-{pool}")

    @property
    def coordinator_name(self) -> str:
        return child_name(self.job.name, COORDINATOR)

    @property
    def service_port(self) -> int:
        coordinator = self.job.spec.coordinator
        return coordinator.service.port if coordinator and coordinator.service else SERVICE_PORT

    @property
    def service_host(self) -> str:
        return f"{self.coordinator_name}.{self.job.namespace}.svc"

    @property
    def address(self) -> str:
        """Where workers of this cluster dial in."""
        return f"{self.service_host}:{self.service_port}"

    @property
    def given_address(self) -> str:
        """Where the coordinator is from outside, as the user says; "" where nobody has said."""
        coordinator = self.job.spec.coordinator
        return (coordinator.service.address if coordinator and coordinator.service else None) or ""

    @property
    def external(self) -> tuple[ResolvedPool, ...]:
        """The pools whose workers somebody else runs."""
        return tuple(pool for pool in self.job.pools if pool.spec.type == "External")

    @property
    def is_routed(self) -> bool:
        """Whether those reach it through a Gateway."""
        return bool(self.routes and self.external and not self.given_address)

    @property
    def routed_host(self) -> str:
        """Its name there."""
        return f"{self.job.name}.{self.job.namespace}.{self.routes.domain}" if self.routes else ""

    @property
    def outside(self) -> str:
        """Where workers of other places dial in; "" where nobody has said."""
        if self.routes and self.is_routed:
            return f"{self.routed_host}:{self.routes.port}"
        given = self.given_address
        return given if ":" in given or not given else f"{given}:{self.service_port}"

    def address_of(self, pool: ResolvedPool) -> str:
        """Where the workers of a pool dial in; with a relay, where that carries to."""
        return self.outside if dials_from_outside(pool) else self.address

    @property
    def hosts(self) -> tuple[str, ...]:
        """What the coordinator may be called by those who dial it, so what its certificate has to name."""
        name, inside = self.coordinator_name, f"{self.coordinator_name}.{self.job.namespace}"
        given = self.given_address
        outside: tuple[str, ...] = (given.rpartition(":")[0] if ":" in given else given,) if given else ()
        outside += (self.routed_host,) if self.is_routed else ()
        return (name, inside, f"{inside}.svc", f"{inside}.svc.cluster.local", *outside)


def is_relayed(pool: ResolvedPool) -> bool:
    """Whether something carries for its workers, which can't dial by themselves."""
    return bool(pool.spec.slurm and pool.spec.slurm.relay)


def dials_from_outside(pool: ResolvedPool) -> bool:
    """Whether its workers come from outside the cluster, and nothing in it carries for them."""
    return pool.spec.type != "Kubernetes" and not is_relayed(pool)


def child_name(job: str, part: str) -> str:
    """The same name for the same part of a job, whoever asks and whenever. Long ones are cut and told apart."""
    name = f"{job}-{part}"
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 9].rstrip('-')}-{digest(name)[:8]}"


def labels(job: ResolvedJob, component: str = "", pool: str = "") -> dict[str, str]:
    """Labels of a child. Job and pool names fit into label values: the schema bounds them."""
    ours = {
        "app.kubernetes.io/name": "muster",
        "app.kubernetes.io/instance": job.name,
        MANAGED_BY: MANAGER,
        JOB: job.name,
    }
    return ours | ({COMPONENT: component} if component else {}) | ({POOL: pool} if pool else {})


def owner_reference(job: ResolvedJob) -> Object:
    """The garbage collector removes whatever carries this, once the job is gone."""
    return {
        "apiVersion": RESOURCES["FederatedJob"].api_version,
        "kind": "FederatedJob",
        "name": job.name,
        "uid": job.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def manifest(
    job: ResolvedJob, kind: str, name: str, component: str = "", pool: str = "", *, is_owned: bool = True, **body: Any
) -> Object:
    """A child. Only what may outlive the job isn't owned by it."""
    metadata: Object = {"name": name, "namespace": job.namespace, "labels": labels(job, component, pool)}
    if is_owned:
        metadata["ownerReferences"] = [owner_reference(job)]
    return {"apiVersion": RESOURCES[kind].api_version, "kind": kind, "metadata": metadata} | body


def annotated(value: Object, annotations: dict[str, str]) -> Object:
    """The same manifest with these annotations."""
    return value | {"metadata": value["metadata"] | {"annotations": annotations}}
