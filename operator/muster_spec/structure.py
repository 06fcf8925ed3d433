"""Checks a document against the OpenAPI part of the schema: names, types, bounds, enums.

jsonschema does the checking; here its findings become the paths that the API server prints and sentences that say what
would be right. Runs after `defaults` and before `rules`, like the API server.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema
from jsonschema.protocols import Validator
from jsonschema.validators import Draft4Validator, extend

from muster_spec.paths import FieldPath, format_path, nearest
from muster_spec.problems import Category, Problem
from muster_spec.schemas import Schema, schema_of

# Fields that every Kubernetes object may have; the CRD's schema does not repeat them.
_METADATA = [
    "name",
    "generateName",
    "namespace",
    "labels",
    "annotations",
    "finalizers",
    "ownerReferences",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
]

_NAME = {"type": "string", "description": "A name in lower-case letters, digits and dashes", "maxLength": 63}
_METADATA_SCHEMA = {
    "required": ["name"],
    "properties": {
        "namespace": {**_NAME, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}

# The API server doesn't evaluate rules on an object with such an error, since they could not be trusted.
_BLOCKING = {"required", "enum", "maxLength", "maxItems", "maxProperties", "type"}

_KINDS_OF_VALUE = {
    "object": "an object with fields",
    "array": "a list",
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


def unknown_fields(value: Any, schema: Schema, path: FieldPath = ()) -> Iterator[tuple[FieldPath, Problem]]:
    """Fields that the schema does not have, as kubectl's strict validation reports them."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from unknown_fields(item, schema.get("items", {}), (*path, index))
    elif isinstance(value, dict) and schema:
        yield from _unknown_in_object(value, schema, path)


def _unknown_in_object(value: dict[str, Any], schema: Schema, path: FieldPath) -> Iterator[tuple[FieldPath, Problem]]:
    known: dict[str, Schema] = schema.get("properties", {})
    others = schema.get("additionalProperties")
    if path == ("metadata",):
        known = {name: {} for name in _METADATA} | known
    for key, item in value.items():
        if key in known:
            yield from unknown_fields(item, known[key], (*path, key))
        elif isinstance(others, dict):
            yield from unknown_fields(item, others, (*path, key))
        else:
            yield (*path, key), _unknown(key, known, (*path, key))


def _unknown(key: str, known: dict[str, Schema], path: FieldPath) -> Problem:
    guess = nearest(key, known)
    names = f"known here: {_some(sorted(known))}" if known else "no field belongs here"
    remedy = f"did you mean {guess}?" if guess else names
    return Problem(Category.UNKNOWN_FIELD, "there is no such field", remedy, format_path(path))


def _some(names: list[str]) -> str:
    return ", ".join(names[:12]) + (" …" if len(names) > 12 else "")


def schema_problems(value: Any, kind: str) -> Iterator[tuple[FieldPath, Problem]]:
    """What the schema of the kind refuses, each with its path."""
    for error in _validator(kind).iter_errors(value):
        path = tuple(error.absolute_path)
        message, remedy = _explain(error)
        is_blocking = error.validator in _BLOCKING
        yield path, Problem(Category.SCHEMA, message, remedy, format_path(path), is_blocking=is_blocking)


@functools.cache
def _validator(kind: str) -> Validator:
    keywords = {"required": _required, "x-kubernetes-list-map-keys": _unique_by_key}
    checker = extend(Draft4Validator, keywords)  # type: ignore[no-untyped-call]
    schema = _for_jsonschema(schema_of(kind))
    metadata = schema["properties"]["metadata"]
    properties = _METADATA_SCHEMA["properties"] | metadata["properties"]
    whole = {**metadata, "required": _METADATA_SCHEMA["required"], "properties": properties}
    validator: Validator = checker(
        {
            **schema,
            "required": ["metadata", *schema["required"]],
            "properties": {**schema["properties"], "metadata": whole},
        }
    )
    return validator


def _for_jsonschema(schema: Any) -> Any:
    """The schema in words that jsonschema knows: a value that is a number or a text has two types there."""
    if isinstance(schema, list):
        return [_for_jsonschema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") is True:
        schema = {**schema, "type": ["integer", "string"]}
    return {key: _for_jsonschema(item) for key, item in schema.items() if key not in {"default", "anyOf"}}


def _required(_: Validator, names: list[str], instance: Any, schema: Schema) -> Iterator[jsonschema.ValidationError]:
    """As jsonschema's own, but the path is that of the missing field."""
    for name in names if isinstance(instance, dict) else ():
        if name not in instance:
            described = schema.get("properties", {}).get(name, {})
            yield jsonschema.ValidationError("required", path=(name,), validator="required", schema=described)


def _unique_by_key(_: Validator, keys: list[str], instance: Any, __: Schema) -> Iterator[jsonschema.ValidationError]:
    seen: list[list[Any]] = []
    for index, item in enumerate(instance if isinstance(instance, list) else ()):
        mine = [item.get(key) for key in keys] if isinstance(item, dict) else [item]
        if mine in seen:
            text = ", ".join(f"{key}: {value}" for key, value in zip(keys, mine, strict=False))
            yield jsonschema.ValidationError(text, path=(index,), validator="duplicate")
        seen.append(mine)


def _explain(error: jsonschema.ValidationError) -> tuple[str, str]:
    """What is wrong, and what would be right."""
    explain = _SENTENCES.get(str(error.validator))
    schema = error.schema if isinstance(error.schema, dict) else {}
    if explain is None:
        return error.message, _first_sentence(schema)
    message, remedy = explain(error, schema)
    return message, remedy or _first_sentence(schema)


def _first_sentence(schema: Schema) -> str:
    text: str = schema.get("description", "")
    return text.split(". ", maxsplit=1)[0].rstrip(".").strip()


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "…"


_Sentence = Callable[[Any, Schema], tuple[str, str]]


def _type_sentence(error: Any, _: Schema) -> tuple[str, str]:
    wanted = error.validator_value if isinstance(error.validator_value, list) else [error.validator_value]
    return (
        f"{_shown(error.instance)} is not {' or '.join(_KINDS_OF_VALUE.get(str(one), str(one)) for one in wanted)}",
        "",
    )


def _enum_sentence(error: Any, _: Schema) -> tuple[str, str]:
    choices = [str(choice) for choice in error.validator_value]
    guess = nearest(error.instance, choices) if isinstance(error.instance, str) else None
    hint = f"did you mean {guess}? " if guess else ""
    return f"{_shown(error.instance)} is not one of the choices", f"{hint}choices: {', '.join(choices)}"


def _minimum_sentence(error: Any, schema: Schema) -> tuple[str, str]:
    bound = "more than" if schema.get("exclusiveMinimum") else "at least"
    return f"{_shown(error.instance)} is too small: must be {bound} {error.validator_value}", ""


def _maximum_sentence(error: Any, schema: Schema) -> tuple[str, str]:
    bound = "less than" if schema.get("exclusiveMaximum") else "at most"
    return f"{_shown(error.instance)} is too large: must be {bound} {error.validator_value}", ""


def _count_sentence(words: str) -> _Sentence:
    return lambda error, _: (words.format(error.validator_value), "")


_SENTENCES: dict[str, _Sentence] = {
    "required": lambda _, schema: ("is required", _first_sentence(schema)),
    "duplicate": lambda error, _: (f"there are two with {error.message}", "give each its own, or remove one"),
    "type": _type_sentence,
    "enum": _enum_sentence,
    "minimum": _minimum_sentence,
    "maximum": _maximum_sentence,
    "pattern": lambda error, _: (f"{_shown(error.instance)} does not have the form {error.validator_value}", ""),
    "minLength": _count_sentence("is too short: at least {} characters"),
    "maxLength": _count_sentence("is too long: at most {} characters"),
    "minItems": _count_sentence("has too few entries: at least {}"),
    "maxItems": _count_sentence("has too many entries: at most {}"),
    "minProperties": _count_sentence("has too few entries: at least {}"),
    "maxProperties": _count_sentence("has too many entries: at most {}"),
}
