"""What this version can do of what the schema accepts: no field is taken and then ignored.

support.yaml lists the fields that are refused so far, those that a laptop can't do, and those that only the parts of a
cluster read.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from muster_spec.defaults import with_defaults
from muster_spec.paths import FieldPath, dig, format_path
from muster_spec.problems import Category, Problem
from muster_spec.schemas import schema_of

_ROOTS = {"FederatedJob": "job", "ClientPool": "pool"}
Which = Literal["unsupported", "clusters_only", "elsewhere"]
_INLINE = "job.spec.pools[].inline"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of support.yaml: a field (and perhaps only some of its values) and why."""

    path: str
    because: str
    values: tuple[str, ...] = ()


class Support(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """What is refused so far, what only a cluster can do, and what only a cluster's parts read."""

    unsupported: tuple[Entry, ...]
    clusters_only: tuple[Entry, ...]
    elsewhere: tuple[Entry, ...]


@functools.cache
def support() -> Support:
    """The lists."""
    text = (Path(__file__).parent / "support.yaml").read_text(encoding="utf-8")
    return msgspec.convert(yaml.safe_load(text), Support)


def unsupported_fields(value: Any, kind: str) -> Iterator[tuple[FieldPath, Problem]]:
    """What the document asks for that this version can't do yet."""
    for path, shown, entry in _found(value, kind, "unsupported"):
        what = (
            f"{shown} is not supported by this version of Muster"
            if shown
            else "not supported by this version of Muster"
        )
        yield path, Problem(Category.UNSUPPORTED, what, entry.because, format_path(path))


def fields_refused_here(value: Any, kind: str) -> list[str]:
    """What the document asks for that a laptop can't do, in a line each."""
    return [
        f"{format_path(path)}: {shown} is for clusters; {entry.because}"
        for path, shown, entry in _found(value, kind, "clusters_only")
    ]


def fields_for_clusters(value: Any, kind: str) -> list[tuple[str, str]]:
    """The fields that the document sets for a cluster's parts only, each with what reads it. Defaults set nothing."""
    plain = with_defaults({"spec": {}}, schema_of(kind))
    return [
        (format_path(path), entry.because)
        for path, _, entry in _found(value, kind, "elsewhere")
        if dig(value, *path) != dig(plain, *path)
    ]


def _found(value: Any, kind: str, which: Which) -> Iterator[tuple[FieldPath, str, Entry]]:
    for entry in getattr(support(), which):
        for pattern in _patterns(entry.path, kind):
            for path, found in _at(value, pattern, ()):
                if not entry.values or found in entry.values:
                    yield path, str(found) if entry.values else "", entry


def _patterns(path: str, kind: str) -> list[list[str]]:
    """Where a path of the list stands in a document of the kind. A pool's path also holds inside a job."""
    root, _, rest = path.partition(".")
    if root == _ROOTS[kind]:
        return [_steps(rest)]
    if root == "pool" and kind == "FederatedJob":
        return [_steps(f"{_INLINE}.{rest.removeprefix('spec.')}".removeprefix("job."))]
    return []


def _steps(path: str) -> list[str]:
    return path.replace("[]", ".[]").split(".")


def _at(value: Any, steps: list[str], path: FieldPath) -> Iterator[tuple[FieldPath, Any]]:
    if not steps:
        yield path, value
    elif steps[0] == "[]" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _at(item, steps[1:], (*path, index))
    elif isinstance(value, dict) and value.get(steps[0]) is not None:
        yield from _at(value[steps[0]], steps[1:], (*path, steps[0]))
