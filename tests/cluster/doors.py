"""The two doors of one schema, asked the same question: is this manifest right, and if not, where is it wrong?

The server's door is `kubectl apply --dry-run=server`, whose messages are read for the paths that they name; the other
is what `muster validate` and `muster run` call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from muster_spec.loading import Source, check
from muster_spec.problems import Category

ADMISSION = (Category.SYNTAX, Category.UNKNOWN_FIELD, Category.SCHEMA, Category.RULE, Category.TRANSITION)
"""What an API server sees too. It can't look up references, and accepts what this version doesn't support yet."""

# `FederatedJob.muster.dev "digits" is invalid: spec.rounds.total: Invalid value: 0: …` and its list form.
_INVALID = re.compile(r'(?:^|: )(?:The )?\w+(?:\.muster\.dev)? "([^"]*)" is invalid: ?(.*)', re.DOTALL)
_CAUSE = re.compile(
    r"(?:^|[\[\s,*])((?:metadata|spec|status|apiVersion|kind)[^\s:,]*): "
    r"(?:Invalid value|Unsupported value|Required value|Duplicate value|Forbidden|Too long|Too many|Too few|Not found)"
)
_UNKNOWN = re.compile(r'unknown field "([^"]+)"')
_TYPED = re.compile(r"(?:^|[\s:])\.((?:metadata|spec)[^\s:]*): ")
_ITEM = re.compile(r"\[[^\]]*\]")
_FROM_SERVER = re.compile(r"^(?=Error from server|The \w+ \")", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the API server named, and its own words."""

    paths: frozenset[str]
    text: str


def refusals(stderr: str) -> list[tuple[str | None, Refusal]]:
    """Each error that kubectl printed: the object's name, where the message has it, and the paths named."""
    found = []
    for text in filter(str.strip, _FROM_SERVER.split(stderr)):
        invalid = _INVALID.search(text)
        paths = {*_CAUSE.findall(invalid[2])} if invalid else {*_UNKNOWN.findall(text), *_TYPED.findall(text)}
        found.append((invalid[1] if invalid else None, Refusal(frozenset(paths), text.strip())))
    return found


def paths_of_validate(sources: Iterable[Source], against: Iterable[Source] = ()) -> frozenset[str]:
    """The paths that validate names, of what an API server should refuse too."""
    problems = check(sources, against=against).problems
    return frozenset(problem.path for problem in problems if problem.category in ADMISSION)


def unnamed(refusal: Refusal, named: frozenset[str]) -> set[str]:
    """What the server names and validate doesn't.

    `apply --server-side` checks types before anything else, and has its own way with lists: an item is written by its
    key (`pools[name="cloud"]`), and where the key is missing or there twice it names the list alone.
    """
    is_typed = "failed to create typed patch object" in refusal.text
    return {path for path in refusal.paths if not any(_is_same(path, each, is_typed) for each in named)}


def _is_same(path: str, named: str, is_typed: bool) -> bool:
    if not is_typed:
        return path == named
    pattern = r"\[\d+\]".join(re.escape(part) for part in re.split(r"\[\w+=[^\]]*\]", path))
    return re.fullmatch(rf"{pattern}(\[\d+\](\.\w+)?)?", named) is not None
