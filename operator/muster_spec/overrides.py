"""``--set path=value``: small changes to documents without editing their files, made before anything is checked.

A path is one of a job's fields (``spec.rounds.total``, or short ``rounds.total``), or names its document first
(``ClientPool/hpc.spec.clients``). The value is YAML.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from muster_spec.documents import Document, parse_documents
from muster_spec.paths import FieldPath, dig, format_path, parse_path
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
    changed = [
        dataclasses.replace(document, value=copy.deepcopy(document.value), lines=dict(document.lines))
        for document in documents
    ]
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
    for document in meant:
        place = _place(document.value, whole)
        if place is None:
            return _problem(target, f"there is no place for {format_path(whole)}", "see muster validate --explain")
        _put(document, place, copy.deepcopy(value))
    return None


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


def _place(value: Any, path: FieldPath) -> FieldPath | None:
    """The path with its list indices as numbers (``0`` and ``[0]`` are the same); None when it leads nowhere."""
    place: list[str | int] = []
    for name in path:
        step = int(name) if isinstance(value, list) and isinstance(name, str) and name.isdigit() else name
        if isinstance(value, list):
            if not isinstance(step, int) or step >= len(value):
                return None
        elif isinstance(step, int) or not (value is None or isinstance(value, dict)):
            return None
        place.append(step)
        value = dig(value, step)
    return tuple(place)


def _put(document: Document, path: FieldPath, value: Any) -> None:
    """Puts the value in, with the objects around it that are missing. It stands in no file, so it has no line."""
    place = document.value
    for step in path[:-1]:
        if isinstance(place, dict) and place.get(step) is None:
            place[step] = {}
        place = place[step]
    place[path[-1]] = value
    for where in _inside(value, path):
        document.lines[where] = 0


def _inside(value: Any, path: FieldPath) -> Iterator[FieldPath]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in items:
        yield from _inside(item, (*path, step))


def _problem(target: str, message: str, remedy: str) -> Problem:
    return Problem(Category.REFERENCE, message, remedy, path=target, file="--set")
