"""Manifest files → checked and defaulted frozen values: the door that `muster validate` and `muster run` share.

The order is the API server's: read, refuse unknown fields, fill in defaults, check the schema, then the CEL rules.
After that come checks that only Muster can make: pools that are referred to, and what this version doesn't support.
Everything wrong is reported at once.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from muster_spec.defaults import with_defaults, with_union_members
from muster_spec.documents import Document, read_documents
from muster_spec.overrides import apply_overrides
from muster_spec.paths import FieldPath, dig, format_path, nearest
from muster_spec.problems import Category, ManifestError, Problem
from muster_spec.references import reference_problems
from muster_spec.rules import rule_problems
from muster_spec.schemas import API_VERSION, GROUP, KINDS, schema_of
from muster_spec.structure import schema_problems, unknown_fields
from muster_spec.support import unsupported_fields
from muster_spec.types import JobSpec, PoolSpec

SpecT = TypeVar("SpecT", JobSpec, PoolSpec)
Source = str | os.PathLike[str] | Document


@dataclass(frozen=True, slots=True)
class Job:
    """A FederatedJob of a manifest, with its defaults."""

    name: str
    namespace: str
    spec: JobSpec
    document: Document


@dataclass(frozen=True, slots=True)
class Pool:
    """A ClientPool of a manifest, with its defaults."""

    name: str
    namespace: str
    spec: PoolSpec
    document: Document


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the files hold. With problems, the documents that have any are missing from `jobs` and `pools`."""

    jobs: tuple[Job, ...]
    pools: tuple[Pool, ...]
    documents: tuple[Document, ...]
    problems: tuple[Problem, ...]


def load(
    sources: Iterable[Source],
    *,
    overrides: Iterable[str] = (),
    against: Iterable[Source] = (),
    job: str | None = None,
) -> Manifest:
    """The manifest, without a problem.

    Args:
        sources: YAML files, or documents that are read already.
        overrides: texts of ``--set``; see `muster_spec.overrides`.
        against: the manifest before a change, for the rules that say what may change.
        job: the job that overrides without a document mean.

    Raises:
        ManifestError: with everything that is wrong.
    """
    manifest = check(sources, overrides=overrides, against=against, job=job)
    if manifest.problems:
        raise ManifestError(manifest.problems)
    return manifest


def check(
    sources: Iterable[Source],
    *,
    overrides: Iterable[str] = (),
    against: Iterable[Source] = (),
    job: str | None = None,
) -> Manifest:
    """As `load`, but what is wrong is in the manifest's `problems`."""
    read, problems = _read(sources)
    changed, wrong_overrides = apply_overrides(read, overrides, job)
    old, wrong_old = _read(against)
    before = {_key(document): document for document in _ours(old)[0]}
    ours, foreign = _ours(changed)
    documents = [_defaulted(document) for document in ours]
    findings = [
        *foreign,
        *(
            finding
            for one, raw in zip(documents, ours, strict=True)
            for finding in _document_problems(one, raw, before)
        ),
    ]
    findings += reference_problems(documents)
    problems = [*problems, *wrong_old, *wrong_overrides, *_in_order(findings, changed)]
    faulty = {id(document) for document, _, _ in findings}
    sound = [document for document in documents if id(document) not in faulty]
    return Manifest(tuple(_jobs(sound)), tuple(_pools(sound)), tuple(documents), tuple(problems))


Finding = tuple[Document, FieldPath, Problem]


def _read(sources: Iterable[Source]) -> tuple[list[Document], list[Problem]]:
    documents: list[Document] = []
    problems: list[Problem] = []
    for source in sources:
        if isinstance(source, Document):
            documents.append(source)
        else:
            found, wrong = read_documents([Path(source)])
            documents += found
            problems += wrong
    return documents, problems


def _key(document: Document) -> tuple[str, str, str]:
    return document.kind, document.namespace, document.name


def _ours(documents: Sequence[Document]) -> tuple[list[Document], list[Finding]]:
    """The documents of Muster's kinds, and what is wrong with those that should be. Other groups' objects pass."""
    ours: list[Document] = []
    findings: list[Finding] = []
    for document in documents:
        problem = _head_problem(document)
        if problem:
            findings.append((document, (problem.path,) if problem.path else (), problem))
        elif document.kind in KINDS and document.value.get("apiVersion") == API_VERSION:
            ours.append(document)
    return ours, findings


def _head_problem(document: Document) -> Problem | None:
    """What is wrong with apiVersion and kind."""
    value = document.value
    if not isinstance(value, dict):
        return Problem(Category.SCHEMA, "a document has to be an object with apiVersion, kind and spec")
    version = value.get("apiVersion")
    if not isinstance(version, str) or not version:
        return Problem(Category.SCHEMA, "is required", f"write apiVersion: {API_VERSION}", "apiVersion")
    is_group = version.split("/")[0] == GROUP
    if not document.kind:
        return Problem(Category.SCHEMA, "is required", f"write kind: {' or kind: '.join(KINDS)}", "kind")
    if is_group and document.kind not in KINDS:
        remedy = (
            f"did you mean {nearest(document.kind, KINDS)}?"
            if nearest(document.kind, KINDS)
            else f"kinds: {', '.join(KINDS)}"
        )
        return Problem(Category.SCHEMA, f"there is no kind {document.kind}", remedy, "kind")
    if document.kind in KINDS and version != API_VERSION:
        return Problem(
            Category.SCHEMA,
            f"there is no {version} of {document.kind}",
            f"write apiVersion: {API_VERSION}",
            "apiVersion",
        )
    return None


def _defaulted(document: Document) -> Document:
    return dataclasses.replace(document, value=with_defaults(document.value, schema_of(document.kind)))


def _document_problems(
    document: Document, raw: Document, before: dict[tuple[str, str, str], Document]
) -> Iterator[Finding]:
    schema = schema_of(document.kind)
    for path, problem in unknown_fields(raw.value, schema):
        yield document, path, problem
    structural = list(schema_problems(document.value, document.kind))
    for path, problem in structural:
        yield document, path, problem
    blocked = frozenset(path for path, problem in structural if problem.is_blocking)
    old = before.get(_key(document))
    old_value = with_defaults(old.value, schema) if old else None
    for path, problem in rule_problems(document.value, schema, blocked, old_value):
        yield document, path, problem
    for path, problem in unsupported_fields(document.value, document.kind):
        yield document, path, problem


def _in_order(findings: list[Finding], documents: list[Document]) -> list[Problem]:
    """The problems as they come when the files are read from top to bottom."""
    place = {(document.file, document.index): number for number, document in enumerate(documents)}
    placed = [_placed(*finding) for finding in findings]
    return sorted(placed, key=lambda problem: (place[problem.file, problem.document], problem.line))


def _placed(document: Document, path: FieldPath, problem: Problem) -> Problem:
    """The problem with the place where it stands."""
    return dataclasses.replace(
        problem,
        path=format_path(path),
        file=document.file,
        document=document.index,
        line=document.line_of(path),
        kind=document.kind,
        name=document.name,
    )


def _jobs(documents: list[Document]) -> Iterator[Job]:
    for document in documents:
        if document.kind == "FederatedJob":
            yield Job(document.name, document.namespace, typed_spec(document, JobSpec), document)


def _pools(documents: list[Document]) -> Iterator[Pool]:
    for document in documents:
        if document.kind == "ClientPool":
            yield Pool(document.name, document.namespace, typed_spec(document, PoolSpec), document)


def typed_spec(document: Document, of: type[SpecT]) -> SpecT:
    """The spec of a document without problems as frozen values, with the parameters of every choice spelt out."""
    schema = schema_of(document.kind)["properties"]["spec"]
    return msgspec.convert(with_union_members(dig(document.value, "spec"), schema), of)
