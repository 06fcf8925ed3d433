"""Picks one job of a manifest and looks up its pools: the result is all that a coordinator has to know."""

from __future__ import annotations

from pathlib import Path

import msgspec

from muster_spec.loading import Job, Manifest
from muster_spec.problems import SpecError
from muster_spec.types import JobSpec, PoolSpec, ResolvedJob, ResolvedPool
from muster_spec.values import NamedPath


class JobChoiceError(SpecError):
    """There is no job, not the one asked for, or more than one and nobody said which."""


def resolve(manifest: Manifest, job: str | None = None, uid: str = "") -> ResolvedJob:
    """The job of that name (or the only one), with its pools.

    Relative paths are taken from the folder of the file that they stand in.

    Raises:
        JobChoiceError: it can't be told which job is meant.
    """
    chosen = choose(manifest, job)
    pools = {(pool.namespace, pool.name): pool for pool in manifest.pools}
    resolved = []
    for entry in chosen.spec.pools:
        pool = None if entry.inline else pools[chosen.namespace, entry.name]
        file = pool.document.file if pool else chosen.document.file
        spec = pool.spec if pool else entry.inline
        if spec is None:  # a manifest without problems has either
            raise JobChoiceError(f"the job {chosen.name} has no pool {entry.name}")
        resolved.append(ResolvedPool(name=entry.name, spec=_pool_from(spec, file)))
    whole = _job_from(chosen.spec, chosen.document.file)
    return ResolvedJob(name=chosen.name, namespace=chosen.namespace, uid=uid, spec=whole, pools=tuple(resolved))


def choose(manifest: Manifest, job: str | None = None) -> Job:
    """The job of that name, or the only one. Raises JobChoiceError."""
    names = ", ".join(one.name for one in manifest.jobs)
    if not manifest.jobs:
        raise JobChoiceError("there is no FederatedJob in these files: give the file that holds it")
    if job is None and len(manifest.jobs) > 1:
        raise JobChoiceError(f"there are several jobs: say which with --job ({names})")
    found = next((one for one in manifest.jobs if job in (None, one.name)), None)
    if found is None:
        raise JobChoiceError(f"there is no job {job}: there are {names}")
    return found


def _pool_from(spec: PoolSpec, file: str) -> PoolSpec:
    if not spec.data:
        return spec
    path = _absolute(spec.data.path, file) if spec.data.path else None
    per_client = tuple(
        msgspec.structs.replace(one, path=_absolute(one.path, file)) if one.path else one
        for one in spec.data.per_client
    )
    return msgspec.structs.replace(spec, data=msgspec.structs.replace(spec.data, path=path, per_client=per_client))


def _job_from(spec: JobSpec, file: str) -> JobSpec:
    task, storage = spec.task, spec.checkpoint.storage
    initial = msgspec.structs.replace(task.initial_model, file=_named(task.initial_model.file, file))
    source = msgspec.structs.replace(task.source, path=_named(task.source.path, file)) if task.source else None
    checkpoint = spec.checkpoint
    if storage:
        place = msgspec.structs.replace(storage, path=_named(storage.path, file))
        checkpoint = msgspec.structs.replace(checkpoint, storage=place)
    selection = msgspec.structs.replace(spec.selection, memory=_named(spec.selection.memory, file))
    whole = msgspec.structs.replace(task, initial_model=initial, source=source)
    return msgspec.structs.replace(spec, task=whole, checkpoint=checkpoint, selection=selection)


def _named(place: NamedPath | None, file: str) -> NamedPath | None:
    return NamedPath(path=_absolute(place.path, file)) if place else None


def _absolute(path: str, file: str) -> str:
    """The path from the manifest's folder. A manifest that came from no file leaves its paths alone."""
    return str((Path(file).absolute().parent / Path(path).expanduser()).resolve()) if file else path
