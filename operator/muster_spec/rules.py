"""Evaluates the schema's CEL rules on a document, as the API server does on admission.

Runs after the structural checks, since a rule may rely on them. Rules that compare with the object before a change
(`oldSelf`) only run when there is one. Numbers become the types that the schema gives them, since CEL tells 1 from 1.0.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import cel

from muster_spec.paths import FieldPath, format_path, parse_path
from muster_spec.problems import Category, Problem
from muster_spec.schemas import Schema

_ABSENT = object()


def rule_problems(
    value: Any, schema: Schema, blocked: frozenset[FieldPath] = frozenset(), old: Any = None
) -> Iterator[tuple[FieldPath, Problem]]:
    """What the rules refuse.

    Args:
        value: the document, with defaults.
        schema: the schema of its kind.
        blocked: paths of structural errors; a rule that reads one of them isn't evaluated.
        old: the document before the change, with defaults; None when it is new.
    """
    typed = typed_for_cel(value, schema)
    before = typed_for_cel(old, schema) if old is not None else _ABSENT
    yield from _walk(typed, before, schema, (), blocked)


def typed_for_cel(value: Any, schema: Schema) -> Any:
    """The value with its numbers as CEL types: a whole number in a ``number`` field is a double."""
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        fallback = others if isinstance(others, dict) else {}
        return {key: typed_for_cel(item, properties.get(key, fallback)) for key, item in value.items()}
    if isinstance(value, list):
        return [typed_for_cel(item, schema.get("items", {})) for item in value]
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_whole and schema.get("type") == "number" else value


def _walk(
    value: Any, old: Any, schema: Schema, path: FieldPath, blocked: frozenset[FieldPath]
) -> Iterator[tuple[FieldPath, Problem]]:
    inside = [where[len(path) :] for where in blocked if where[: len(path)] == path]
    for rule in schema.get("x-kubernetes-validations", ()):
        if not _reads_any(rule["rule"], inside):
            yield from _apply(rule, value, old, path)
    for step, item, before, child in _children(value, old, schema):
        yield from _walk(item, before, child, (*path, step), blocked)


def _reads_any(rule: str, faulty: list[FieldPath]) -> bool:
    """Whether a rule may read one of these fields. The API server is coarser: it skips all rules of a faulty object."""
    if "oldSelf" in rule:
        return bool(faulty)
    names = [next((step for step in reversed(where) if isinstance(step, str)), "") for where in faulty]
    return any(name in rule for name in names)


def _children(value: Any, old: Any, schema: Schema) -> Iterator[tuple[str | int, Any, Any, Schema]]:
    """The parts of a value, each with its counterpart in the old one."""
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties")
        for key, item in value.items():
            child = properties.get(key, others if isinstance(others, dict) else None)
            if child is not None:
                yield key, item, old.get(key, _ABSENT) if isinstance(old, dict) else _ABSENT, child
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        keys = schema.get("x-kubernetes-list-map-keys", ())
        for index, item in enumerate(value):
            yield index, item, _counterpart(item, old, keys), schema["items"]


def _counterpart(item: Any, old: Any, keys: list[str]) -> Any:
    """The old entry with the same key. Entries of a list without keys have none, as for the API server."""
    if not keys or not isinstance(old, list) or not isinstance(item, dict):
        return _ABSENT
    mine = [item.get(key) for key in keys]
    return next((one for one in old if isinstance(one, dict) and [one.get(key) for key in keys] == mine), _ABSENT)


def _apply(rule: dict[str, Any], value: Any, old: Any, path: FieldPath) -> Iterator[tuple[FieldPath, Problem]]:
    program = _compiled(rule["rule"])
    is_transition = "oldSelf" in program.variables()
    if is_transition and old is _ABSENT:
        return
    try:
        holds = program.execute({"self": value, "oldSelf": old} if is_transition else {"self": value})
    except (TypeError, KeyError, ValueError, RuntimeError) as error:
        yield path, _problem(path, f"can't be checked: {error}", is_transition)
        return
    if holds is not True:
        where = path + (parse_path(rule.get("fieldPath", "")) or ())
        yield where, _problem(where, rule["message"], is_transition)


def _problem(path: FieldPath, message: str, is_transition: bool) -> Problem:
    """A rule's message is ``what is wrong: what would be right``."""
    wrong, _, right = message.partition(": ")
    category = Category.TRANSITION if is_transition else Category.RULE
    return Problem(category, wrong, right, format_path(path))


@functools.cache
def _compiled(expression: str) -> cel.Program:
    return cel.compile(expression)
