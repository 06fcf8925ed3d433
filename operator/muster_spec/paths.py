"""Paths of fields, as the API server prints them: ``spec.pools[0].name``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any

FieldPath = tuple[str | int, ...]

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def format_path(path: FieldPath) -> str:
    """``("spec", "pools", 0, "name")`` → ``spec.pools[0].name``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def parse_path(text: str) -> FieldPath | None:
    """``spec.pools[0].name`` → its steps; None when it isn't a path."""
    steps: list[str | int] = []
    position = 0
    for match in _STEP.finditer(text):
        if match.start() != position:
            return None
        position = match.end()
        steps.append(match[1] if match[1] is not None else int(match[2]))
    return tuple(steps) if steps and position == len(text) else None


def dig(value: Any, *steps: str | int) -> Any:
    """A field inside nested dictionaries and lists; None where there is none."""
    for step in steps:
        if isinstance(value, list):
            value = value[step] if isinstance(step, int) and step < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant. Case counts for little: ``deadlineseconds`` means ``deadlineSeconds``."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None
