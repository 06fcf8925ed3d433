"""Which specification a job works from: the one that was pinned when it started, else what is asked for now.

The pinned one is a ResolvedJob in an immutable ConfigMap named by its digest; where that is lost, its copy. A pool that
changes later changes other jobs, not this one. What may change while a job runs is taken from the live objects:
suspend, the pools' workers, ttl, and a total of rounds that grew (which pins a new ConfigMap).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from muster_operator.build.code import CODE_FOLDER
from muster_operator.build.common import COORDINATOR, child_name, is_relayed
from muster_operator.build.coordinator import CODE_KEY, JOB_KEY, SPEC_DIGEST
from muster_operator.build.memory import restored
from muster_operator.build.workers import PLAIN
from muster_operator.objects import Object, annotation_of, digest, is_controlled_by
from muster_operator.observed import Observed
from muster_operator.podless import lacking_in_pods
from muster_operator.settings import Install
from muster_spec.defaults import with_defaults, with_union_members
from muster_spec.documents import Document
from muster_spec.pool_types import Slurm, Workers
from muster_spec.references import reference_problems
from muster_spec.schemas import schema_of
from muster_spec.support import unsupported_fields
from muster_spec.types import (
    Coordinator,
    JobSpec,
    PathSource,
    PoolSpec,
    ResolvedJob,
    ResolvedPool,
    RunPolicy,
    Source,
    TaskSpec,
)

CODE_AGAIN_S = 30.0
_ANY_WORKERS = Workers(min=1, clients_per_worker=1)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a job can't start. It starts by itself once that is mended; `again_s` where no event tells of that."""

    reason: str
    message: str
    again_s: float | None = None


@dataclass(frozen=True, slots=True)
class Pinned:
    """What a job works from, and its text as kept. `memory` has the ledger: the ConfigMap with it, or what is left of
    its copy; None before there is one.
    """

    job: ResolvedJob
    spec_digest: str
    run_policy: RunPolicy
    pools: dict[str, PoolSpec]  # with the bounds on their workers that hold now
    text: str
    memory: Object | None = None
    drift: dict[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)


def pin(seen: Observed, install: Install) -> Pinned | Refusal:
    """What the job works from, or why it can't."""
    live = _read_live(seen)
    config = current_config(seen)
    if config is None:
        return _pin_first(seen, live, install)
    return _pin_again(seen, live, config)


def current_config(seen: Observed) -> Object | None:
    """The ConfigMap with the pinned spec; of two, the one with more rounds, since the total only grows. Its copy where
    somebody has deleted it.
    """
    found = [
        (_total(config), config["metadata"]["name"], config) for config in seen.of_kind("ConfigMap") if _total(config)
    ]
    if found:
        return max(found, key=lambda one: one[:2])[2]
    account = _remembering_account(seen)
    copy = restored(account) if account else None
    return copy if copy and _total(copy) else None


def _remembering_account(seen: Observed) -> Object | None:
    """The ServiceAccount with the copy. Whoever isn't ours says nothing of this job."""
    account = seen.child("ServiceAccount", child_name(seen.name, COORDINATOR))
    is_ours = account is not None and is_controlled_by(account, seen.uid) and annotation_of(account, SPEC_DIGEST)
    return account if is_ours else None


def _total(config: Object) -> int:
    try:
        return read_pinned(config).spec.rounds.total
    except (msgspec.MsgspecError, KeyError):
        return 0  # not ours, or of another version: the job is pinned anew


def read_pinned(config: Object) -> ResolvedJob:
    """The job in a ConfigMap. Raises KeyError or MsgspecError where it holds something else."""
    return msgspec.json.decode(config["data"][JOB_KEY], type=ResolvedJob)


def read_code(config: Object) -> dict[str, str]:
    """The code that is pinned beside a job."""
    return msgspec.json.decode(config["data"].get(CODE_KEY) or "{}", type=dict[str, str])


def _read_live(seen: Observed) -> JobSpec:
    schema = schema_of("FederatedJob")
    value = with_defaults(seen.job, schema)
    return msgspec.convert(with_union_members(value["spec"], schema["properties"]["spec"]), JobSpec)


def _read_pool(pool: Object) -> PoolSpec:
    schema = schema_of("ClientPool")
    value = with_defaults(pool, schema)
    return msgspec.convert(with_union_members(value["spec"], schema["properties"]["spec"]), PoolSpec)


def _pin_first(seen: Observed, live: JobSpec, install: Install) -> Pinned | Refusal:
    missing = [entry.name for entry in live.pools if entry.inline is None and entry.name not in seen.pools]
    if missing:
        return Refusal("PoolNotFound", f"there is no ClientPool {', '.join(missing)} in namespace {seen.namespace}")
    pools = tuple(
        ResolvedPool(name=entry.name, spec=entry.inline or _read_pool(seen.pools[entry.name])) for entry in live.pools
    )
    refusal = _refuse(seen, live, pools, install) or _refuse_code(seen)
    if refusal:
        return refusal
    job = ResolvedJob(
        name=seen.name,
        namespace=seen.namespace,
        uid=seen.uid,
        spec=_with_image(live, install),
        pools=tuple(_with_uid(_with_worker_image(pool, install), seen) for pool in pools),
    )
    code = seen.code if seen.code_source and seen.code else {}
    now = {pool.name: pool.spec for pool in pools}
    # Of a copy that didn't fit, the ledger is left.
    memory = _remembering_account(seen)
    return Pinned(job, digest_of(job), live.run_policy, now, written(job), memory, code=code)


def _pin_again(seen: Observed, live: JobSpec, config: Object) -> Pinned:
    job = read_pinned(config)
    inline = {entry.name: entry.inline for entry in live.pools}
    now = {
        pool.name: inline.get(pool.name) or (_read_pool(seen.pools[pool.name]) if pool.name in seen.pools else None)
        for pool in job.pools
    }
    # Workers follow the live pool; a pool that is gone leaves them as they were.
    pools = {one.name: _with_workers(one.spec, now[one.name]) for one in job.pools}
    code = read_code(config)
    drift = {pool.name: text for pool in job.pools if (text := _drift(pool, now[pool.name]) or _code_drift(seen, code))}
    if live.rounds.total > job.spec.rounds.total:
        rounds = msgspec.structs.replace(job.spec.rounds, total=live.rounds.total)
        job = msgspec.structs.replace(job, spec=msgspec.structs.replace(job.spec, rounds=rounds))
        return Pinned(job, digest_of(job), live.run_policy, pools, written(job), config, drift, code)
    # Digest and text as they were made: a later version of the operator might write the same job otherwise.
    name = annotation_of(config, SPEC_DIGEST) or digest_of(job)
    return Pinned(job, name, live.run_policy, pools, config["data"][JOB_KEY], config, drift, code)


def _with_workers(pinned: PoolSpec, live: PoolSpec | None) -> PoolSpec:
    """The pool that the job was started with, with as many workers as it may have now."""
    return msgspec.structs.replace(pinned, workers=live.workers) if live else pinned


def _drift(pinned: ResolvedPool, live: PoolSpec | None) -> str:
    """How a pool differs from what this job works with; images that were filled in are no difference."""
    if live is None:
        return f"the ClientPool {pinned.name} is gone; this job goes on with what it was"
    image = pinned.spec.template.image if pinned.spec.template else None
    before, after = (msgspec.to_builtins(_comparable(spec, image)) for spec in (pinned.spec, live))
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if not changed:
        return ""
    return f"the ClientPool {pinned.name} has changed ({', '.join(changed)}); this job goes on with what it was"


def _code_drift(seen: Observed, pinned: Mapping[str, str]) -> str:
    if seen.code_source is None or seen.code == pinned:
        return ""
    what = "is gone" if seen.code is None else "has changed"
    return f"the ConfigMap {seen.code_source} with the task's code {what}; this job goes on with what it was"


def _comparable(spec: PoolSpec, image: str | None) -> PoolSpec:
    """A pool without what may change, and with the image that was filled in where it names none.

    An External pool's credentials are no part of what a job works with.
    """
    template = spec.template or PLAIN
    template = msgspec.structs.replace(template, image=template.image or image)
    return msgspec.structs.replace(spec, template=template, workers=_ANY_WORKERS, external=None)


def written(job: ResolvedJob) -> str:
    """The job as the coordinator reads it."""
    return msgspec.json.encode(job).decode()


def digest_of(job: ResolvedJob) -> str:
    """The name of a pinned spec."""
    return digest(msgspec.to_builtins(job))


def _with_image(spec: JobSpec, install: Install) -> JobSpec:
    """The spec as it is pinned: with the image of the day, and without what is read from the live object."""
    coordinator = spec.coordinator or Coordinator()
    # Layers are matched by scipy, which weighs as much as all the rest of the coordinator's image; workers' have it.
    image = coordinator.image or (install.worker_image if spec.strategy.type == "FedMA" else install.coordinator_image)
    return msgspec.structs.replace(
        spec,
        coordinator=msgspec.structs.replace(coordinator, image=image),
        task=_with_code_folder(spec.task),
        suspend=False,
    )


def _with_code_folder(task: TaskSpec) -> TaskSpec:
    """The task as workers see it: code from a config map is a folder there."""
    if task.source is None or task.source.type != "ConfigMap":
        return task
    return msgspec.structs.replace(task, source=Source(type="Path", path=PathSource(path=CODE_FOLDER)))


def _with_worker_image(pool: ResolvedPool, install: Install) -> ResolvedPool:
    template = pool.spec.template or PLAIN
    template = msgspec.structs.replace(template, image=template.image or install.worker_image)
    return ResolvedPool(name=pool.name, spec=msgspec.structs.replace(pool.spec, template=template))


def _with_uid(pool: ResolvedPool, seen: Observed) -> ResolvedPool:
    """An External pool's credentials are of that very pool."""
    if pool.spec.type != "External":
        return pool
    return msgspec.structs.replace(pool, uid=str(seen.pools[pool.name]["metadata"]["uid"]))


# --- what can't run ---------------------------------------------------------------------------------------------------


def _refuse(seen: Observed, live: JobSpec, pools: tuple[ResolvedPool, ...], install: Install) -> Refusal | None:
    if refusal := _refuse_external(live, pools, install) or _refuse_slurm(live, pools):
        return refusal
    storage = live.checkpoint.storage
    if storage and storage.type == "Path":
        message = "spec.checkpoint.storage: a folder of the coordinator's pod goes with the pod; use type Volume"
        return Refusal("CheckpointNotDurable", message)
    if storage and storage.type == "Url" and live.selection.memory:
        message = (
            "spec.selection.memory: with an object store no volume outlives the coordinator's pod; use type Volume"
        )
        return Refusal("MemoryNotDurable", message)
    return _refuse_problems(seen)


def _refuse_external(live: JobSpec, pools: tuple[ResolvedPool, ...], install: Install) -> Refusal | None:
    external = [pool.name for pool in pools if pool.spec.type == "External"]
    names = ", ".join(external)
    if not external:
        return None
    if install.lobby is None:
        message = f"pools of type External ({names}) need the lobby: install the chart with lobby.enabled"
        return Refusal("NoLobby", message)
    inline = ", ".join(entry.name for entry in live.pools if entry.inline and entry.name in external)
    if inline:
        message = (
            f"pools of type External ({inline}): their sites enrol with a ClientPool, so name one; inline ones are for "
            "`muster run`"
        )
        return Refusal("ExternalPoolInline", message)
    if install.routes is None and not _outside_address(live):
        message = (
            "spec.coordinator.service.address: say where External sites reach the coordinator from outside the "
            "cluster, or install the chart with a gateway"
        )
        return Refusal("NoOutsideAddress", message)
    return None


def _outside_address(live: JobSpec) -> str:
    service = live.coordinator.service if live.coordinator else None
    return (service.address if service else None) or ""


def _refuse_slurm(live: JobSpec, pools: tuple[ResolvedPool, ...]) -> Refusal | None:
    slurm = [pool for pool in pools if pool.spec.type == "Slurm"]
    lacking = {pool.name: _lacking(pool.spec.slurm) for pool in slurm}
    for why in filter(None, lacking.values()):
        names = ", ".join(name for name, each in lacking.items() if each == why)
        message = f"pools of type Slurm ({names}): {why}; use url or ssh, or `muster run --pools real` on a login node"
        return Refusal("SlurmPoolNotSupported", message)
    if any(not is_relayed(pool) for pool in slurm) and not _outside_address(live):
        message = (
            "spec.coordinator.service.address: say where SLURM's nodes reach the coordinator from outside the cluster,"
            " or have the pool relay for them by ssh"
        )
        return Refusal("NoOutsideAddress", message)
    return None


def _lacking(slurm: Slurm | None) -> str | None:
    command, relay = (slurm.command, slurm.relay) if slurm else (None, None)
    return lacking_in_pods(command.type if command else None, relay.type if relay else None)


def _refuse_code(seen: Observed) -> Refusal | None:
    if seen.code_source is None or seen.code:
        return None
    what = "there is no" if seen.code is None else "there is nothing under data in the"
    return Refusal(
        "SourceNotFound",
        f"spec.task.source.configMap: {what} ConfigMap {seen.code_source} in namespace {seen.namespace}",
        CODE_AGAIN_S,
    )


def _refuse_problems(seen: Observed) -> Refusal | None:
    """What `muster validate` finds, beyond what the API server has checked already."""
    documents = [Document(value=_document(value)) for value in (seen.job, *seen.pools.values())]
    unsupported = [
        f"{problem.path}: {problem.text}"
        for document in documents
        for _, problem in unsupported_fields(document.value, document.kind)
    ]
    if unsupported:
        return Refusal("NotSupported", "; ".join(unsupported))
    problems = [f"{problem.path}: {problem.text}" for _, _, problem in reference_problems(documents)]
    return Refusal("InvalidSpec", "; ".join(problems)) if problems else None


def _document(value: Object) -> Object:
    document: Object = with_defaults(value, schema_of(value["kind"]))
    return document
