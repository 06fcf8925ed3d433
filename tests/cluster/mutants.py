"""Manifests with one odd value each, made from the schema: one field, one way to break or to change it.

Pure. The values around the field are the least that the schema asks for, so rules may well complain too: that is fine,
as both doors see the same document.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Schema = dict[str, Any]
Steps = tuple[str, ...]

_POOL = {"type": "Kubernetes", "clients": 4}
_JOB = {"task": {"entrypoint": "a.b:C"}, "pools": [{"name": "cloud"}]}
_SPECS = {"ClientPool": _POOL, "FederatedJob": _JOB}
_EXAMPLES = {
    "^([1-9][0-9]*(ms|s|m|h))+$": "30s",
    "^[0-9]+(\\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$": "1Gi",
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A document, and what was done to it where."""

    document: dict[str, Any]
    what: str

    @property
    def name(self) -> str:
        name: str = self.document["metadata"]["name"]
        return name


def mutants(kind: str, schema: Schema) -> Iterator[Mutant]:
    """Every field of `spec`, broken in every way that its schema forbids, once null, and once another value."""
    cases = (
        (steps, how, value) for steps, field in _fields(schema["properties"]["spec"], ()) for how, value in _odd(field)
    )
    for number, (steps, how, value) in enumerate(cases):
        document = plain(kind, f"m{number}")
        _put(document["spec"], schema["properties"]["spec"], steps, value)
        yield Mutant(document, f"{how} {'.'.join(steps)}")


def plain(kind: str, name: str) -> dict[str, Any]:
    """The manifest that every mutant differs from in one place."""
    spec = copy.deepcopy(_SPECS[kind])
    return {"apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _fields(schema: Schema, steps: Steps) -> Iterator[tuple[Steps, Schema]]:
    """Where each field is; `*` is the first item of a list or an entry of a map. Inline pools are seen as pools."""
    if steps[-1:] == ("inline",):
        return
    if steps:
        yield steps, schema
    for name, child in schema.get("properties", {}).items():
        yield from _fields(child, (*steps, name))
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            yield from _fields(schema[inner], (*steps, "*"))


def _odd(schema: Schema) -> Iterator[tuple[str, Any]]:
    """Values that the schema's own words make odd, each with what is odd about it."""
    yield "null for", None
    yield "another value of", _another(schema)
    yield "wrong type of", _of_wrong_type(schema)
    yield from ((how, make(schema)) for keyword, how, make in _ODDITIES if schema.get(keyword) is not None)


_ODDITIES: tuple[tuple[str, str, Callable[[Schema], Any]], ...] = (
    ("minimum", "the bound of", lambda schema: schema["minimum"]),
    ("minimum", "too little in", lambda schema: schema["minimum"] - (0 if schema.get("exclusiveMinimum") else 1)),
    ("maximum", "the bound of", lambda schema: schema["maximum"]),
    ("maximum", "too much in", lambda schema: schema["maximum"] + (0 if schema.get("exclusiveMaximum") else 1)),
    ("enum", "no such choice in", lambda _: "Nonsense"),
    ("pattern", "wrong form of", lambda _: "ö !"),
    ("minLength", "nothing in", lambda _: ""),
    ("maxLength", "as many letters, of two bytes each, as fit in", lambda schema: "ö" * schema["maxLength"]),
    ("maxLength", "too much text in", lambda schema: "x" * (schema["maxLength"] + 1)),
    ("minItems", "no items in", lambda _: []),
    (
        "maxItems",
        "too many items in",
        lambda schema: [_least(schema["items"], n) for n in range(schema["maxItems"] + 1)],
    ),
    ("maxProperties", "too many entries in", lambda schema: _entries(schema, schema["maxProperties"] + 1)),
)


def _entries(schema: Schema, count: int) -> dict[str, Any]:
    """A map with so many entries; of a fixed field where there is none to choose."""
    entry = schema.get("additionalProperties")
    return {f"k{number}": _least(entry if isinstance(entry, dict) else {}) for number in range(count)}


def _of_wrong_type(schema: Schema) -> Any:
    return {"string": 7, "boolean": "yes please", "integer": 1.5}.get(schema.get("type", ""), True)


def _another(schema: Schema) -> Any:
    """A value that the schema takes, seldom the default."""
    if "enum" in schema:
        return schema["enum"][-1]
    if schema.get("type") == "boolean":
        return not schema.get("default", False)
    if schema.get("type") in ("integer", "number"):
        return min(schema.get("maximum", 3), schema.get("default", schema.get("minimum", 0)) + 1)
    if isinstance(schema.get("additionalProperties"), dict):
        return {"key": _least(schema["additionalProperties"])}
    return [_least(schema["items"])] if schema.get("type") == "array" else _least(schema, 1)


def _put(value: Any, schema: Schema, steps: Steps, leaf: Any) -> None:
    """Set a field, making what lies on the way with the least that is required."""
    step, *rest = steps
    key, inner = _inside(schema, step)
    if isinstance(value, list) and not value:
        value.append(_least(inner))
    if not rest:
        value[key] = leaf
        return
    if isinstance(value, dict) and not isinstance(value.get(key), dict | list):
        value[key] = _least(inner)
    _put(value[key], inner, tuple(rest), leaf)


def _inside(schema: Schema, step: str) -> tuple[Any, Schema]:
    """What a step of a path is in a document, and the schema there."""
    if step != "*":
        return step, schema["properties"][step]
    return (0, schema["items"]) if "items" in schema else ("key", schema["additionalProperties"])


def _least(schema: Schema, number: int = 0) -> Any:
    """The smallest value that the schema takes; different ones for different numbers, where it can be."""
    if "default" in schema:
        return copy.deepcopy(schema["default"])
    if "enum" in schema:
        return schema["enum"][0]
    return _LEAST.get(schema.get("type", ""), lambda _, __: 1)(schema, number)


_LEAST: dict[str, Callable[[Schema, int], Any]] = {
    "object": lambda schema, n: {name: _least(schema["properties"][name], n) for name in schema.get("required", ())},
    "array": lambda schema, _: [_least(schema["items"], n) for n in range(schema.get("minItems", 0))],
    "integer": lambda schema, _: schema.get("minimum", 0) + (1 if schema.get("exclusiveMinimum") else 0),
    "number": lambda schema, _: schema.get("minimum", 0) + (1 if schema.get("exclusiveMinimum") else 0),
    "boolean": lambda _, __: False,
    "string": lambda schema, n: _EXAMPLES.get(schema.get("pattern", ""), f"x{n}"),
}
