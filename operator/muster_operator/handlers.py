"""kopf's part, and the only place that knows kopf: watches feed an index, and every event makes a job due for a look.

No handler here decides anything, and none lets kopf write to an object: no finalizer, no annotation, no status. The
one finalizer that there is, finalizer.py plans.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import kopf
import msgspec

from muster_operator.api import path_of
from muster_operator.connection import Connection
from muster_operator.index import Index
from muster_operator.news import News
from muster_operator.objects import CHILDREN, JOB, POOL, RESOURCES, ROUTED, SELECTOR, Object, dig, key_of, label_of
from muster_operator.observed import Observed, observe
from muster_operator.pools import PoolSeen
from muster_operator.queue import JobKey, WorkQueue
from muster_operator.watches import GIVEN_UP_S, LASTS_S, Watches

_REQUEST_S, _CONNECT_S = 30, 10
_TOGETHER_S = 0.05  # parts change together, and one look sees them all
_POOL_S = 1.0  # a pool is a sum over jobs, each of which changes as often
_ENCODER = msgspec.json.Encoder()


class _Status(msgspec.Struct):
    phase: str = "Pending"


class _Job(msgspec.Struct):
    """As little of a job as has to be read to count it."""

    status: _Status = msgspec.field(default_factory=_Status)


_PHASE = msgspec.json.Decoder(_Job)


@dataclass(frozen=True, slots=True)
class Queues:
    """What is to be looked at."""

    jobs: WorkQueue
    pools: WorkQueue


class KopfWorld:
    """What the watches have told so far, as observations."""

    def __init__(self) -> None:
        self._jobs, self._pools, self._parts = Index[bytes](), Index[bytes](), Index[bytes]()
        self._pool_parts = Index[bytes]()
        self._users = Index[str]()

    def keep(self, kind: str, body: Object, *, is_gone: bool = False) -> None:
        """An object is like this, or gone."""
        uid, namespace = body["metadata"]["uid"], body["metadata"].get("namespace", "")
        by_name = {} if is_gone else {(namespace, body["metadata"]["name"]): slim(kind, body)}
        if kind == "FederatedJob":
            self._jobs.put(uid, by_name)
            pools = () if is_gone else _pools_of(body)
            self._users.put(uid, {(namespace, pool): body["metadata"]["name"] for pool in pools})
        elif kind == "ClientPool":
            self._pools.put(uid, by_name)
        else:
            job, pool = ("", "") if is_gone else (label_of(body, label) for label in (JOB, POOL))
            self._parts.put(uid, {(namespace, job): slim(kind, body)} if job else {})
            self._pool_parts.put(uid, {(namespace, pool): slim(kind, body)} if pool and not job else {})

    def recall(self, kind: str, uid: str) -> Object | None:
        """What is kept of an object."""
        parts = (self._parts, self._pool_parts)
        indexes = {"FederatedJob": (self._jobs,), "ClientPool": (self._pools,)}.get(kind, parts)
        raw = next((raw for index in indexes if (raw := index.value(uid)) is not None), None)
        return msgspec.json.decode(raw) if raw is not None else None

    def observe(self, namespace: str, name: str) -> Observed | None:
        found = _read(self._jobs, (namespace, name))
        if not found:
            return None
        pools = [pool for each in _pools_of(found[0]) for pool in _read(self._pools, (namespace, each))]
        return observe(found[0], pools, _read(self._parts, (namespace, name)))

    def jobs(self) -> Collection[JobKey]:
        return list(self._jobs)

    def phases(self) -> dict[JobKey, str]:
        """The phase of every job, as its status says; Pending before there is one."""
        return {key: _PHASE.decode(raw).status.phase for key in self._jobs for raw in self._jobs.get(key)}

    def observe_pool(self, namespace: str, name: str) -> PoolSeen | None:
        found = _read(self._pools, (namespace, name))
        jobs = [job for key in self.users_of(namespace, name) for job in _read(self._jobs, key)]
        parts = {key_of(part): part for part in _read(self._pool_parts, (namespace, name))}
        return PoolSeen(found[0], tuple(jobs), parts) if found else None

    def pools(self) -> Collection[JobKey]:
        return list(self._pools)

    def users_of(self, namespace: str, pool: str) -> list[JobKey]:
        """The jobs that name a pool."""
        return [(namespace, name) for name in self._users.get((namespace, pool))]


def _read(index: Index[bytes], key: JobKey) -> list[Object]:
    return [msgspec.json.decode(raw) for raw in index.get(key)]


def _pools_of(job: Object) -> list[str]:
    """The ClientPools that a job names."""
    return [entry["name"] for entry in dig(job, "spec", "pools") or () if "inline" not in entry]


def slim(kind: str, body: Mapping[str, Any]) -> bytes:
    """An object as it is kept: complete but for who wrote what, and for what secrets hold."""
    value = {**body, "kind": kind, "apiVersion": RESOURCES[kind].api_version}
    value["metadata"] = {name: each for name, each in value["metadata"].items() if name != "managedFields"}
    if kind == "Secret":
        value.pop("data", None)
    return _ENCODER.encode(value)


class Patience:
    """How long kopf waits between tries, which it never gives up: an error that it gives up on ends the operator."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.5, 1.0, 2.0)
        while True:
            yield 4.0


def watched(namespaces: tuple[str, ...], children: Sequence[str] = CHILDREN) -> dict[str, tuple[str, str | None]]:
    """The path of each watch, with the kind that it shows, and the namespace: None for all."""
    kinds = ("FederatedJob", "ClientPool", *children)
    return {path_of(kind, where): (kind, where) for kind in kinds for where in (namespaces or (None,))}


def build_registry(
    world: KopfWorld, queues: Queues, connection: Connection, watches: Watches, children: Sequence[str] = CHILDREN
) -> kopf.OperatorRegistry:
    """All that kopf is told to do."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=connection.server, aiohttp_session=watches.session())

    looks: dict[str, _Look] = {"FederatedJob": partial(_look_at_job, News()), "ClientPool": _look_at_pool}
    kinds = ("FederatedJob", "ClientPool", *children)
    each = {kind: partial(looks.get(kind, _look_at_part), queues, world) for kind in kinds}
    for kind, look in each.items():
        _watch(registry, kind, world, watches, look)

    def deliver(kind: str, body: Object, is_gone: bool) -> None:
        world.keep(kind, body, is_gone=is_gone)
        each[kind](body, is_gone)

    watches.deliver, watches.recall = deliver, world.recall
    return registry


def _watch(
    registry: kopf.OperatorRegistry,
    kind: str,
    world: KopfWorld,
    watches: Watches,
    look: Callable[[Object, bool], None],
) -> None:
    @kopf.on.event(RESOURCES[kind].api_version, RESOURCES[kind].plural, registry=registry)
    def hear(event: kopf.RawEvent, **_: Any) -> None:
        body, is_gone = dict(event["object"]), event["type"] == "DELETED"
        world.keep(kind, body, is_gone=is_gone)
        watches.told(kind, body, is_gone=is_gone)
        look(body, is_gone)


_Look: TypeAlias = Callable[[Queues, KopfWorld, Object, bool], None]
"""Makes due what an object that has changed, or is gone, may change."""


def _look_at_job(news: News, queues: Queues, _world: KopfWorld, job: Object, is_gone: bool) -> None:
    if is_gone:
        news.forget(_key_of(job))
    elif not news.is_in(_key_of(job), job):
        return
    queues.jobs.add(_key_of(job))
    for pool in _pools_of(job):
        queues.pools.add((_key_of(job)[0], pool), _POOL_S)


def _look_at_pool(queues: Queues, world: KopfWorld, pool: Object, _is_gone: bool) -> None:
    queues.pools.add(_key_of(pool))
    for key in world.users_of(*_key_of(pool)):
        queues.jobs.add(key)


def _look_at_part(queues: Queues, _world: KopfWorld, part: Object, _is_gone: bool) -> None:
    job, pool = label_of(part, JOB), label_of(part, POOL)
    if job:
        queues.jobs.add((_key_of(part)[0], job), _TOGETHER_S)
    elif pool:
        queues.pools.add((_key_of(part)[0], pool), _TOGETHER_S)


def _key_of(value: Object) -> JobKey:
    return str(value["metadata"].get("namespace", "")), str(value["metadata"]["name"])


def place_kopf_line(record: logging.LogRecord) -> bool:
    """A filter that drops nothing: kopf's lines about an object say where it is in a way of their own."""
    reference = getattr(record, "k8s_ref", None)
    if isinstance(reference, Mapping):
        record.namespace = reference.get("namespace")
        record.job = reference.get("name") if reference.get("kind") == "FederatedJob" else None
    return True


def build_settings() -> kopf.OperatorSettings:
    """kopf, told to be quiet, to watch only what is ours, and to notice a watch that has died."""
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.persistence.finalizer = "operator.muster.dev/finalizer"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="operator.muster.dev")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="operator.muster.dev")
    settings.scanning.disabled = True
    settings.watching.server_timeout = LASTS_S
    settings.watching.client_timeout = GIVEN_UP_S
    settings.watching.connect_timeout = _CONNECT_S
    settings.networking.request_timeout = _REQUEST_S
    settings.networking.connect_timeout = _CONNECT_S
    settings.networking.error_backoffs = Patience()
    settings.watching.reconnect_backoff = 1
    # A worker an object, which stays a while in case there is more: together they bound how fast kopf is.
    settings.queueing.idle_timeout = 0.2
    settings.queueing.worker_limit = 1000
    for kind in ROUTED:
        version, plural = RESOURCES[kind].api_version, RESOURCES[kind].plural
        settings.watching.label_selectors[version, plural] = SELECTOR
    return settings


# Among kopf's own peers, of which there are none. Left to itself it looks for the user's name, and a pod's has none.
_ALONE: Any = "muster-operator"


async def run_kopf(
    registry: kopf.OperatorRegistry, namespaces: tuple[str, ...], ready: asyncio.Event, stop: asyncio.Event
) -> None:
    """Watch until told to stop. `ready` is set once kopf has begun, and with it has taken the signals."""
    await kopf.operator(
        registry=registry,
        settings=build_settings(),
        standalone=True,
        identity=_ALONE,
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=ready,
        stop_flag=stop,
    )
