"""Whose history a storage directory holds: `job.json`, written by the first coordinator, held against all later ones.

A job's specification is part of its history: rounds made under one learning rate can't be continued under another
without saying so. What may change while a job lives is listed here; everything else is refused by its path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from muster_coordinator.errors import WrongJobError
from muster_spec.types import ResolvedJob

ABSENT = "absent"

_MAY_CHANGE = re.compile(
    r"spec\.(suspend|runPolicy|checkpoint|coordinator)\b"
    r"|(pools\[\d+\]\.spec|spec\.pools\[\d+\]\.inline)\.(workers|template|data|slurm)\b"
)


class JobFile(msgspec.Struct, frozen=True):
    """The job as it was when its history was last continued."""

    job: ResolvedJob


def check_same_job(stored: ResolvedJob, now: ResolvedJob) -> None:
    """Raises WrongJobError where this history can't be continued under this specification, naming every difference."""
    if stored.uid != now.uid:
        raise WrongJobError(
            f"this directory holds the history of job {stored.name} (uid {stored.uid}), not of uid {now.uid}"
        )
    refused = [
        f"{path}: was {was}, is now {new}"
        for path, was, new in differences(msgspec.to_builtins(stored), msgspec.to_builtins(now))
        if not _may_change(path, was, new)
    ]
    if refused:
        raise WrongJobError(
            "this job's history was made under another specification: " + "; ".join(refused) + ". "
            "Only rounds.total may grow; put the rest back, or start anew in an empty directory"
        )


def _may_change(path: str, was: object, new: object) -> bool:
    if path == "spec.rounds.total":
        return isinstance(was, int) and isinstance(new, int) and new >= was
    return _MAY_CHANGE.match(path) is not None


def differences(was: Any, new: Any, path: str = "") -> Iterator[tuple[str, object, object]]:
    """Every leaf that differs between two JSON values, with its path."""
    if isinstance(was, dict) and isinstance(new, dict):
        for key in [*was, *(key for key in new if key not in was)]:
            inner = f"{path}.{key}" if path else key
            yield from differences(was.get(key, ABSENT), new.get(key, ABSENT), inner)
    elif isinstance(was, (list, tuple)) and isinstance(new, (list, tuple)) and len(was) == len(new):
        for index, (a, b) in enumerate(zip(was, new, strict=True)):
            yield from differences(a, b, f"{path}[{index}]")
    elif was != new:
        yield path, was, new
