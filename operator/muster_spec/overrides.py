"""``--set path=value``: small changes to documents without editing their files, made before anything is checked.

A path is one of a job's fields (``spec.rounds.total``, or short ``rounds.total``), or names its document first
(``ClientPool/hpc.spec.clients``). The value is YAML.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from muster_spec.documents import Document, parse_documents
from muster_spec.paths import FieldPath, format_path, parse_path
from muster_spec.problems import Category, Problem
from muster_spec.schemas import KINDS

_ROOTS = ("spec", "metadata", "status", "apiVersion", "kind")


def apply_overrides(
    documents: Sequence[Document], overrides: Iterable[str], job: str | None = None
) -> tuple[list[Document], list[Problem]]:
    """The documents with the values put in, and what is wrong with the overrides.

    Args:
        documents: as they were read; they stay as they are.
        overrides: texts of the form ``path=value``.
        job: the FederatedJob that paths without a document mean. Without it they mean every job there is.
    """
    changed = [dataclasses.replace(document, value=copy.deepcopy(document.value)) for document in documents]
    problems: list[Problem] = []
    for text in overrides:
        error = _apply(changed, text, job)
        if error:
            problems.append(error)
    return changed, problems


def _apply(documents: list[Document], text: str, job: str | None) -> Problem | None:
    target, equals, value_text = text.partition("=")
    path = parse_path(_without_document(target))
    if not equals or path is None:
        return _problem(text, "not an override", "write it as path=value, such as spec.rounds.total=5")
    values, wrong = parse_documents(value_text or "null", "--set")
    if wrong or len(values) > 1:
        return _problem(target, "the value is not YAML", "quote it as it would stand in the file")
    meant = _meant(documents, target, job)
    if not meant:
        return _problem(target, "there is no such document", f"there are: {_names(documents)}")
    value = values[0].value if values else None
    whole = path if path[0] in _ROOTS else ("spec", *path)
    return next(filter(None, (_put(document.value, whole, value, target) for document in meant)), None)


def _without_document(target: str) -> str:
    return target.partition(".")[2] if _document_of(target) else target


def _document_of(target: str) -> tuple[str, str] | None:
    kind, slash, name = target.partition(".")[0].partition("/")
    return (kind, name) if slash else None


def _meant(documents: list[Document], target: str, job: str | None) -> list[Document]:
    named = _document_of(target)
    if named:
        return [one for one in documents if (one.kind, one.name) == named]
    return [one for one in documents if one.kind == KINDS[0] and job in (None, one.name)]


def _names(documents: list[Document]) -> str:
    return ", ".join(f"{one.kind}/{one.name}" for one in documents if one.kind in KINDS) or "none"


def _put(document: Any, path: FieldPath, value: Any, target: str) -> Problem | None:
    place = document
    for depth, step in enumerate(path):
        key = _key(place, step)
        if key is None:
            return _problem(target, f"there is no {format_path(path[: depth + 1])}", "see muster validate --explain")
        if depth == len(path) - 1:
            place[key] = value
        elif isinstance(place, dict) and place.get(key) is None:
            place[key] = {}
        place = place[key]
    return None


def _key(place: Any, step: str | int) -> Any:
    """What to index a place with; None when it can't be. In lists, ``0`` and ``[0]`` are the same."""
    if isinstance(place, dict) and isinstance(step, str):
        return step
    index = int(step) if isinstance(step, str) and step.isdigit() else step
    return index if isinstance(place, list) and isinstance(index, int) and index < len(place) else None


def _problem(target: str, message: str, remedy: str) -> Problem:
    return Problem(Category.REFERENCE, message, remedy, path=target, file="--set")
