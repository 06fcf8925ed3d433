"""What can be wrong with a manifest, as values: every check returns these, and nothing stops at the first one."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class Category(enum.StrEnum):
    """Which check found it. `SYNTAX` to `RULE` are what an API server finds too; the rest only Muster can see."""

    UNREADABLE = "unreadable"
    SYNTAX = "syntax"
    UNKNOWN_FIELD = "unknown field"
    SCHEMA = "schema"
    RULE = "rule"
    TRANSITION = "transition"
    REFERENCE = "reference"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: where (file, document, field), what, and what would be right."""

    category: Category
    message: str
    remedy: str = ""
    path: str = ""
    file: str = ""
    document: int = 0
    line: int = 0
    column: int = 0
    kind: str = ""
    name: str = ""
    is_blocking: bool = True

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        subject = f"{self.kind}/{self.name}" if self.kind and self.name else self.kind
        head = " ".join(part for part in (where and f"{where}:", subject, self.path and f"{self.path}:") if part)
        return " ".join(part for part in (head, self.text) if part)

    @property
    def text(self) -> str:
        """What is wrong and what would be right, in one line."""
        return f"{self.message} ({self.remedy})" if self.remedy else self.message


class SpecError(Exception):
    """The base of what muster_spec raises."""


class ManifestError(SpecError):
    """A manifest that can't be used. Carries every problem found, in the order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SchemaNotFoundError(SpecError):
    """The CRDs are neither in the installed package nor in the checkout: a broken installation."""

    def __init__(self, looked_in: Iterable[Path]) -> None:
        places = ", ".join(str(place) for place in looked_in)
        super().__init__(f"Muster's CRDs are missing (looked in {places}): install Muster again")
