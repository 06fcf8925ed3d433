"""``--set path=value``: small changes to a job without editing its file.

They are made on the document as the user wrote it, before defaults and checks, so that a bad one is reported like any
other mistake in the manifest.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from muster_cli.errors import BadInput

ROOTS = ("spec", "metadata")
Step = str | int


@dataclass(frozen=True, slots=True)
class Override:
    """One value to put into the job. A number in the path is a place in a list."""

    path: tuple[Step, ...]
    value: Any


def parse_override(text: str) -> Override:
    """Read ``spec.rounds.total=5``; the value is YAML, as it would stand in the file. Raises BadInput."""
    path, equals, value = text.partition("=")
    steps = tuple(int(step) if step.isdigit() else step for step in path.split("."))
    if not equals or steps[0] not in ROOTS or len(steps) < 2 or "" in steps:
        raise BadInput(f"--set {text}: write it as spec.some.field=value, for example --set spec.rounds.total=5")
    try:
        return Override(steps, yaml.safe_load(value))
    except yaml.YAMLError as error:
        raise BadInput(
            f"--set {path}: the value {value!r} is not YAML; quote it as it would stand in the file"
        ) from error


def apply_overrides(job: Mapping[str, Any], overrides: Iterable[Override]) -> dict[str, Any]:
    """The same document with the values put in; mappings on the way are made. Raises BadInput for a path that can't be."""
    changed = copy.deepcopy(dict(job))
    for override in overrides:
        _put(changed, override)
    return changed


def _put(document: Any, override: Override) -> None:
    place = document
    for depth, step in enumerate(override.path[:-1]):
        place = _descend(place, step, override, depth)
    last = override.path[-1]
    if _has_no_place(place, last):
        raise _misplaced(override, len(override.path) - 1)
    place[last] = override.value


def _descend(place: Any, step: Step, override: Override, depth: int) -> Any:
    if _has_no_place(place, step):
        raise _misplaced(override, depth)
    if isinstance(place, dict):
        if place.get(step) is None:
            place[step] = {}
        return place[step]
    return place[step]


def _has_no_place(place: Any, step: Step) -> bool:
    if isinstance(place, dict):
        return False
    return not (isinstance(place, list) and isinstance(step, int) and step < len(place))


def _misplaced(override: Override, depth: int) -> BadInput:
    path = ".".join(str(step) for step in override.path)
    parent = ".".join(str(step) for step in override.path[:depth])
    return BadInput(
        f"--set {path}: the job has no {override.path[depth]!r} in {parent}; `muster validate --explain` shows it"
    )
