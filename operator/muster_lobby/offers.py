"""What the API server's objects mean here: the External pools, and which jobs want their clients now. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from muster_coordinator.external import Standing
from muster_operator.objects import Object, dig, is_going, unix_of
from muster_spec.defaults import with_defaults, with_union_members
from muster_spec.durations import DurationError, duration_s
from muster_spec.schemas import schema_of
from muster_spec.terms import terms_of
from muster_spec.types import JobSpec

WANTING = frozenset({"Starting", "Running"})
DEFAULT_CERTIFICATE_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Pool:
    """An External pool. `authority` (PEM) vouches for its workers; empty as long as the operator has made none."""

    uid: str
    namespace: str
    name: str
    standing: Standing
    authority: str
    certificate_s: float


@dataclass(frozen=True, slots=True)
class Offer:
    """One job that wants clients of a pool: what a worker is told."""

    job: str
    namespace: str
    name: str
    pool: str
    coordinator: str
    authorities: str
    terms: str
    capacity: int
    share: int


def read_pool(value: Object) -> Pool | None:
    """None for a pool whose workers somebody of ours starts."""
    if dig(value, "spec", "type") != "External" or is_going(value):
        return None
    external, enrolment = dig(value, "spec", "external"), dig(value, "status", "enrolment")
    return Pool(
        uid=str(value["metadata"]["uid"]),
        namespace=str(value["metadata"]["namespace"]),
        name=str(value["metadata"]["name"]),
        standing=Standing(bool(dig(external, "revoked")), unix_of(dig(enrolment, "since")) or 0.0),
        authority=str(dig(enrolment, "certificateAuthority") or ""),
        certificate_s=_seconds(dig(external, "certificateValidity")),
    )


def _seconds(text: Any) -> float:
    try:
        return duration_s(str(text)) if text else DEFAULT_CERTIFICATE_S
    except DurationError:
        return DEFAULT_CERTIFICATE_S


def pools_named(job: Object) -> list[str]:
    """The ClientPools that a job names."""
    return [entry["name"] for entry in dig(job, "spec", "pools") or () if "inline" not in entry]


def offers_for(pool: Pool, jobs: Iterable[Object]) -> tuple[Offer, ...]:
    """The oldest job first. A pool that is revoked is offered nothing."""
    if pool.standing.is_revoked:
        return ()
    return tuple(offer for job in sorted(jobs, key=_age) for offer in _offer(pool, job))


def _age(job: Object) -> tuple[str, str]:
    return str(job["metadata"].get("creationTimestamp", "")), str(job["metadata"]["name"])


def _offer(pool: Pool, job: Object) -> Iterator[Offer]:
    entry = _named(dig(job, "status", "pools"), pool.name)
    authorities = str(dig(job, "status", "coordinator", "certificateAuthority") or "")
    if not _wants(pool, job, entry) or not entry.get("endpoint") or not authorities:
        return
    clients, workers = int(entry.get("clients") or 0), max(1, int(entry.get("workersWanted") or 1))
    yield Offer(
        job=str(job["metadata"]["uid"]),
        namespace=pool.namespace,
        name=str(job["metadata"]["name"]),
        pool=pool.name,
        coordinator=str(entry["endpoint"]),
        authorities=authorities,
        terms=_terms(job, entry),
        capacity=clients,
        share=max(1, -(-clients // workers)),
    )


def _wants(pool: Pool, job: Object, entry: dict[str, Any]) -> bool:
    """Whether it runs and lacks clients of this pool. Where its coordinator has said nothing, it lacks all."""
    if is_going(job) or dig(job, "status", "phase") not in WANTING or pool.name not in pools_named(job):
        return False
    if dig(job, "status", "training", "phase") == "Finished":
        return False
    told = _named(dig(job, "status", "training", "clients", "pools"), pool.name)
    return bool(entry) and int(told.get("connected") or 0) < int(entry.get("clients") or 0)


def _named(entries: Any, name: str) -> dict[str, Any]:
    return next((one for one in entries or () if one.get("name") == name), {})


def _terms(job: Object, entry: dict[str, Any]) -> str:
    """As JSON; empty where this version can't read the job, and nobody can then say that it is allowed."""
    schema = schema_of("FederatedJob")
    value = with_defaults(job, schema)
    total = sum(int(pool.get("clients") or 0) for pool in dig(job, "status", "pools") or ())
    try:
        spec = msgspec.convert(with_union_members(value["spec"], schema["properties"]["spec"]), JobSpec)
    except msgspec.ValidationError:
        return ""
    return msgspec.json.encode(terms_of(spec, total, str(entry.get("image") or ""))).decode()
