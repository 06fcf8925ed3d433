"""What a plan is made of: the job, the pools that it names, and everything in the cluster that is a part of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from muster_operator.build.common import WORKER
from muster_operator.objects import COMPONENT, POOL, Key, Object, dig, is_controlled_by, is_going, key_of, label_of


@dataclass(frozen=True, slots=True)
class Observed:
    """One job as it is now.

    `children` are the job's own, but its pods. `strangers` have the label, but belong to another job that was called
    the same and is on its way out. `refusals` are the API server's words to Jobs whose pods it doesn't admit, by uid.
    `code` is what is in the config map that the task's code comes from: None where there is none, or none is named.
    """

    job: Object
    pools: Mapping[str, Object]
    children: Mapping[Key, Object]
    strangers: frozenset[Key]
    pods: tuple[Object, ...]
    refusals: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] | None = None

    @property
    def code_source(self) -> str | None:
        """The name of the config map that the task's code comes from."""
        source = dig(self.job, "spec", "task", "source")
        return dig(source, "configMap", "name") if dig(source, "type") == "ConfigMap" else None

    @property
    def name(self) -> str:
        return str(self.job["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.job["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        return str(self.job["metadata"]["uid"])

    @property
    def labels(self) -> Mapping[str, str]:
        """The job's own, as its user set them."""
        return dig(self.job, "metadata", "labels") or {}

    @property
    def generation(self) -> int:
        return int(self.job["metadata"].get("generation", 0))

    @property
    def is_suspended(self) -> bool:
        return bool(dig(self.job, "spec", "suspend"))

    def child(self, kind: str, name: str) -> Object | None:
        return self.children.get(Key(kind, name))

    def of_kind(self, kind: str) -> list[Object]:
        return [value for key, value in sorted(self.children.items()) if key.kind == kind]

    def workers_of(self, pool: str) -> list[Object]:
        """The worker Jobs of a pool."""
        jobs = self.of_kind("Job")
        return [job for job in jobs if label_of(job, COMPONENT) == WORKER and label_of(job, POOL) == pool]

    def pods_of(self, job: Object | None, pool: str | None = None) -> list[Object]:
        """The pods of a child Job, or of all Jobs of a pool: those of a Job that is gone are no longer of interest."""
        owner = job["metadata"]["uid"] if job else None
        return [
            pod
            for pod in self.pods
            if (is_controlled_by(pod, owner) if owner else pool is not None and label_of(pod, POOL) == pool)
        ]


def observe(job: Object, pools: Iterable[Object], labelled: Iterable[Object]) -> Observed:
    """Sort what carries the job's label."""
    uid = job["metadata"]["uid"]
    children: dict[Key, Object] = {}
    strangers: set[Key] = set()
    pods = []
    for value in labelled:
        if value["kind"] == "Pod":
            pods.append(value)
        elif is_controlled_by(value, uid) or not value["metadata"].get("ownerReferences"):
            children[key_of(value)] = value
        else:
            strangers.add(key_of(value))
    named = {pool["metadata"]["name"]: pool for pool in pools if not is_going(pool)}
    return Observed(job, named, children, frozenset(strangers), tuple(sorted(pods, key=_pod_order)))


def _pod_order(pod: Object) -> tuple[str, str]:
    return str(pod["metadata"].get("creationTimestamp", "")), str(pod["metadata"]["name"])
