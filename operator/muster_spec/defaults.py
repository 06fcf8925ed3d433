"""Fills in the schema's defaults, exactly as the API server does.

Structural defaulting: a default is applied where its field is missing inside an object that is there; a default that is
itself an object then gets its own members' defaults. A null counts as missing, since no field of ours may be null.
"""

from __future__ import annotations

import copy
from typing import Any

from muster_spec.schemas import Schema


def with_defaults(value: Any, schema: Schema) -> Any:
    """A copy of the value with every default of the schema filled in. What has the wrong type is left as it is."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return copy.deepcopy(value)
    if isinstance(value, dict):
        return _object_with_defaults(value, schema)
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [with_defaults(item, schema["items"]) for item in value]
    return _as_integer(value) if schema.get("type") == "integer" else value


def _object_with_defaults(value: dict[str, Any], schema: Schema) -> dict[str, Any]:
    properties: dict[str, Schema] = schema.get("properties", {})
    others = schema.get("additionalProperties")
    described = value.keys() if isinstance(others, dict) else properties.keys()
    present = {key: item for key, item in value.items() if item is not None or key not in described}
    missing = {
        name: child["default"] for name, child in properties.items() if name not in present and "default" in child
    }
    return {
        key: with_defaults(item, properties.get(key, others if isinstance(others, dict) else {}))
        for key, item in (present | copy.deepcopy(missing)).items()
    }


def _as_integer(value: Any) -> Any:
    """``5.0`` is 5 in JSON, which is all that the API server ever sees."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def with_union_members(value: Any, schema: Schema) -> Any:
    """Spells out the parameters of every choice: ``{type: FedProx}`` gets its ``fedProx`` with all defaults.

    The API server has no such step, so this comes after validation, for what reads the values.
    """
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return value
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        return [with_union_members(item, schema["items"]) for item in value]
    if not isinstance(value, dict) or "properties" not in schema:
        return value
    properties: dict[str, Schema] = schema["properties"]
    member = member_of(value.get("type", value.get("mode")), properties)
    if member and member not in value and not properties[member].get("required"):
        value = {**value, member: with_defaults({}, properties[member])}
    return {key: with_union_members(item, properties.get(key, {})) for key, item in value.items()}


def member_of(choice: Any, properties: dict[str, Schema]) -> str | None:
    """The name of the member that holds a choice's parameters: ``FedProx`` → ``fedProx``, ``SGD`` → ``sgd``."""
    if not isinstance(choice, str) or not choice:
        return None
    candidates = (choice[0].lower() + choice[1:], choice.lower())
    return next((name for name in candidates if "properties" in properties.get(name, {})), None)
