"""kopf's part, and the only place that knows kopf: watches feed indexes, and every event makes a job due for a look.

No handler here decides anything, and none lets kopf write to an object: no finalizer, no annotation, no status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import kopf
import msgspec

from muster_operator.api import path_of
from muster_operator.connection import Connection
from muster_operator.news import News
from muster_operator.objects import CHILDREN, JOB, RESOURCES, SELECTOR, Object, dig, label_of
from muster_operator.observed import Observed, observe
from muster_operator.pools import PoolSeen
from muster_operator.queue import JobKey, WorkQueue
from muster_operator.watches import GIVEN_UP_S, LASTS_S, Watches

_REQUEST_S, _CONNECT_S = 30, 10
_JOBS, _USERS, _POOLS, _PARTS = "jobs_by_name", "jobs_by_pool", "pools_by_name", "parts_by_job"
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
    """What kopf's indexes hold, as observations. They are complete before the first handler is called."""

    def __init__(self) -> None:
        self._indexes: Mapping[str, Any] = {}

    def attach(self, indexes: Mapping[str, Any]) -> None:
        self._indexes = indexes

    def observe(self, namespace: str, name: str) -> Observed | None:
        found = self._read(_JOBS, (namespace, name))
        if not found:
            return None
        pools = [pool for each in _pools_of(found[0]) for pool in self._read(_POOLS, (namespace, each))]
        return observe(found[0], pools, self._read(_PARTS, (namespace, name)))

    def jobs(self) -> Collection[JobKey]:
        return list(self._indexes.get(_JOBS, ()))

    def phases(self) -> dict[JobKey, str]:
        """The phase of every job, as its status says; Pending before there is one."""
        index = self._indexes.get(_JOBS, {})
        return {key: _PHASE.decode(raw).status.phase for key in list(index) for raw in index.get(key, ())}

    def observe_pool(self, namespace: str, name: str) -> PoolSeen | None:
        found = self._read(_POOLS, (namespace, name))
        jobs = [job for key in self.users_of(namespace, name) for job in self._read(_JOBS, key)]
        return PoolSeen(found[0], tuple(jobs)) if found else None

    def pools(self) -> Collection[JobKey]:
        return list(self._indexes.get(_POOLS, ()))

    def users_of(self, namespace: str, pool: str) -> list[JobKey]:
        """The jobs that name a pool."""
        return [(namespace, name) for name in self._indexes.get(_USERS, {}).get((namespace, pool), ())]

    def _read(self, index: str, key: JobKey) -> list[Object]:
        return [msgspec.json.decode(raw) for raw in self._indexes.get(index, {}).get(key, ())]


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


def watched(namespaces: tuple[str, ...]) -> dict[str, str]:
    """The path of each watch, and the kind that it shows."""
    kinds = ("FederatedJob", "ClientPool", *CHILDREN)
    return {path_of(kind, namespace): kind for kind in kinds for namespace in (namespaces or (None,))}


def build_registry(world: KopfWorld, queues: Queues, connection: Connection, watches: Watches) -> kopf.OperatorRegistry:
    """All that kopf is told to do."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    async def login(**_: Any) -> kopf.AiohttpSession:
        return kopf.AiohttpSession(server=connection.server, aiohttp_session=watches.session())

    _watch_jobs(registry, world, queues)
    _watch_pools(registry, world, queues)
    for kind in CHILDREN:
        _watch_parts(registry, world, queues.jobs, kind)
    return registry


def _watch_jobs(registry: kopf.OperatorRegistry, world: KopfWorld, queues: Queues) -> None:
    @kopf.index("muster.dev", "federatedjobs", id=_JOBS, registry=registry)
    def keep(namespace: str | None, name: str, body: kopf.Body, **_: Any) -> dict[JobKey, bytes]:
        return {(namespace or "", name): slim("FederatedJob", body)}

    @kopf.index("muster.dev", "federatedjobs", id=_USERS, registry=registry)
    def keep_use(namespace: str | None, name: str, body: kopf.Body, **_: Any) -> dict[JobKey, str]:
        return {(namespace or "", pool): name for pool in _pools_of(dict(body))}

    news = News()

    @kopf.on.event("muster.dev", "federatedjobs", registry=registry)
    def look(namespace: str | None, name: str, body: kopf.Body, **kwargs: Any) -> None:
        world.attach(kwargs)
        key = (namespace or "", name)
        if kwargs.get("type") == "DELETED":
            news.forget(key)
        elif not news.is_in(key, dict(body)):
            return
        queues.jobs.add(key)
        for pool in _pools_of(dict(body)):
            queues.pools.add((namespace or "", pool), _POOL_S)


def _watch_pools(registry: kopf.OperatorRegistry, world: KopfWorld, queues: Queues) -> None:
    @kopf.index("muster.dev", "clientpools", id=_POOLS, registry=registry)
    def keep(namespace: str | None, name: str, body: kopf.Body, **_: Any) -> dict[JobKey, bytes]:
        return {(namespace or "", name): slim("ClientPool", body)}

    @kopf.on.event("muster.dev", "clientpools", registry=registry)
    def look(namespace: str | None, name: str, **kwargs: Any) -> None:
        world.attach(kwargs)
        queues.pools.add((namespace or "", name))
        for key in world.users_of(namespace or "", name):
            queues.jobs.add(key)


def _watch_parts(registry: kopf.OperatorRegistry, world: KopfWorld, queue: WorkQueue, kind: str) -> None:
    version, plural = RESOURCES[kind].api_version, RESOURCES[kind].plural

    @kopf.index(version, plural, id=_PARTS, registry=registry)
    def keep(namespace: str | None, body: kopf.Body, **_: Any) -> dict[JobKey, bytes]:
        job = label_of(dict(body), JOB)
        return {(namespace or "", job): slim(kind, body)} if job else {}

    @kopf.on.event(version, plural, registry=registry)
    def look(namespace: str | None, body: kopf.Body, **kwargs: Any) -> None:
        world.attach(kwargs)
        job = label_of(dict(body), JOB)
        if job:
            queue.add((namespace or "", job), _TOGETHER_S)


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
    settings.queueing.idle_timeout = 1
    # No limit: at first each object's worker waits until all objects are known, so a limit would be a deadlock.
    settings.queueing.worker_limit = None
    for kind in CHILDREN:
        version, plural = RESOURCES[kind].api_version, RESOURCES[kind].plural
        settings.watching.label_selectors[version, plural] = SELECTOR
    return settings


async def run_kopf(
    registry: kopf.OperatorRegistry, namespaces: tuple[str, ...], ready: asyncio.Event, stop: asyncio.Event
) -> None:
    """Watch until told to stop. `ready` is set once kopf has begun, and with it has taken the signals."""
    await kopf.operator(
        registry=registry,
        settings=build_settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=ready,
        stop_flag=stop,
    )
