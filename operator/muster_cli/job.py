"""From manifest files to the job that is run: the first step of `muster run`, which alone reads what users write."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from muster_cli.errors import BadInput
from muster_cli.folder import RunFolder
from muster_spec.documents import read_documents
from muster_spec.loading import load
from muster_spec.problems import SpecError
from muster_spec.resolving import resolve
from muster_spec.schemas import API_VERSION
from muster_spec.support import fields_for_clusters, fields_refused_here
from muster_spec.types import ResolvedJob


def load_job(files: Sequence[Path], name: str | None, overrides: Sequence[str]) -> ResolvedJob:
    """The job of that name (or the only one) with its pools and every default. Raises BadInput with all problems."""
    try:
        job = resolve(load(files, overrides=overrides, job=name), name)
    except SpecError as error:
        raise BadInput(str(error)) from error
    if job.spec.suspend:
        raise BadInput(f"FederatedJob/{job.name}: spec.suspend is true, so nothing would run; --set spec.suspend=false")
    refused = [line for one in manifest_of(job) for line in fields_refused_here(one, one["kind"])]
    if refused:
        raise BadInput("\n".join(f"FederatedJob/{job.name}: {line}" for line in refused))
    return job


def identify(job: ResolvedJob, folder: RunFolder) -> ResolvedJob:
    """The job with the uid that its history in this folder has, or with a new one. Raises BadInput."""
    if not folder.job.exists():
        return msgspec.structs.replace(job, uid=str(uuid.uuid4()))
    try:
        before = msgspec.json.decode(folder.job.read_bytes(), type=ResolvedJob)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadInput(f"{folder.job}: can't be read ({error}); start anew in another folder (--out)") from error
    return msgspec.structs.replace(job, uid=before.uid)


def write_job(job: ResolvedJob, folder: RunFolder) -> None:
    """Leave the job in its folder: for the coordinator as JSON, for people as a manifest."""
    folder.job.write_bytes(msgspec.json.encode(job))
    documents = list(manifest_of(job))
    folder.manifest.write_text(yaml.safe_dump_all(documents, sort_keys=False, allow_unicode=True), encoding="utf-8")


def storage_of(job: ResolvedJob, folder: RunFolder) -> Path:
    """Where the coordinator keeps its history, or its copy of it: in the run's folder, unless the job names another."""
    storage = job.spec.checkpoint.storage
    return Path(storage.path.path) if storage and storage.path else folder.checkpoint


def store_of(job: ResolvedJob) -> str:
    """The object store that the job's history is on; empty where it is on a disk."""
    storage = job.spec.checkpoint.storage
    return storage.url.url if storage and storage.url else ""


def manifest_of(job: ResolvedJob) -> Iterator[dict[str, Any]]:
    """The documents that resolve to this job, with everything in them that was left to defaults."""
    place = {"namespace": job.namespace}
    entries = []
    for entry, pool in zip(job.spec.pools, job.pools, strict=True):
        entries.append(msgspec.structs.replace(entry, inline=pool.spec if entry.inline else None))
        if entry.inline is None:
            yield _document("ClientPool", {"name": pool.name, **place}, pool.spec)
    pools = tuple(entries)
    yield _document("FederatedJob", {"name": job.name, **place}, msgspec.structs.replace(job.spec, pools=pools))


def _document(kind: str, metadata: dict[str, str], spec: msgspec.Struct) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": _written(spec)}


def _written(value: Any) -> Any:
    """As a user would write it: what is absent stays absent, and what users' own mappings hold stays as it is."""
    if isinstance(value, tuple):
        return [_written(item) for item in value]
    if not isinstance(value, msgspec.Struct):
        return value
    return {
        field.encode_name: _written(item)
        for field in msgspec.structs.fields(value)
        if (item := getattr(value, field.name)) is not None and not _is_empty_default(field, item)
    }


def _is_empty_default(field: msgspec.structs.FieldInfo, item: object) -> bool:
    return not field.required and item in ((), [], {})


_OF_SLURM = re.compile(r"^spec\.(slurm|state)$|\.inline\.(slurm|state)$")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A field that is set and has no effect on this machine."""

    document: str
    path: str
    because: str

    def __str__(self) -> str:
        return f"{self.document} {self.path}: takes effect on a cluster only ({self.because})"


def fields_without_effect(files: Sequence[Path], *, drives_slurm: bool = False) -> list[Elsewhere]:
    """What the files set for a cluster's parts, less what SLURM's jobs take from it where this command drives them."""
    documents, _ = read_documents(list(files))
    return [
        Elsewhere(f"{document.kind}/{document.name}", path, because)
        for document in documents
        if document.kind in {"FederatedJob", "ClientPool"}
        for path, because in fields_for_clusters(document.value, document.kind)
        if not (drives_slurm and _OF_SLURM.search(path))
    ]
