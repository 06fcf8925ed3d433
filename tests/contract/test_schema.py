"""The two CRDs by themselves: rules of structural schemas, bounds, defaults, and types that mirror them leaf by leaf.

A real API server has the last word (tests/cluster); these say the same without one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import cel
import msgspec
import pytest

from muster_spec.defaults import with_defaults
from muster_spec.paths import format_path, parse_path
from muster_spec.rules import rule_problems
from muster_spec.schemas import KINDS, Schema, crd, leaves, schema_of
from muster_spec.structure import unknown_fields
from muster_spec.types import JobSpec, PoolSpec

ROOT = Path(__file__).parents[2]
TYPES: dict[str, type[msgspec.Struct]] = {"FederatedJob": JobSpec, "ClientPool": PoolSpec}
ALLOWED = {
    "type", "description", "properties", "required", "items", "additionalProperties", "default", "enum", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minLength", "maxLength", "pattern", "minItems",
    "maxItems", "minProperties", "maxProperties", "anyOf", "x-kubernetes-int-or-string", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
}  # fmt: skip


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for word, mark in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(schema.get(word), dict):
            yield from nodes(schema[word], f"{path}{mark}")


NODES = [(kind, path, node) for kind in KINDS for path, node in nodes(schema_of(kind)) if path]
IDS = [f"{kind}{path}" for kind, path, _ in NODES]


@pytest.mark.parametrize(("kind", "path", "node"), NODES, ids=IDS)
def test_structural(kind: str, path: str, node: Schema) -> None:
    assert set(node) <= ALLOWED
    assert ("type" in node) != ("x-kubernetes-int-or-string" in node)
    assert not ("properties" in node and "additionalProperties" in node)
    if node.get("type") == "object" and path != ".metadata":
        assert {"properties", "additionalProperties", "x-kubernetes-preserve-unknown-fields"} & set(node)
    if node.get("x-kubernetes-list-type") == "map":
        keys = node["x-kubernetes-list-map-keys"]
        assert set(keys) <= set(node["items"]["required"])
    assert set(node.get("required", ())) <= set(node.get("properties", {}))
    assert not [name for name in node.get("required", ()) if "default" in node["properties"][name]]
    if kind == "FederatedJob" and node.get("x-kubernetes-preserve-unknown-fields"):
        assert path == ".spec.task.config"


@pytest.mark.parametrize(("kind", "path", "node"), NODES, ids=IDS)
def test_every_field_is_described_and_bounded(kind: str, path: str, node: Schema) -> None:
    del kind
    if path != ".metadata" and not path.endswith("[]"):
        assert re.fullmatch(r"[A-Za-z0-9].*\.", node.get("description", "")), "a sentence"
    if not path.startswith(".spec"):
        return
    match node.get("type"):
        case "array":
            assert "maxItems" in node
            assert "x-kubernetes-list-type" in node
        case "string" if "enum" not in node:
            assert "maxLength" in node
        case "integer":
            assert {"minimum", "maximum"} <= set(node)
        case "object" if "additionalProperties" in node:
            assert "maxProperties" in node


@pytest.mark.parametrize(("kind", "path", "node"), NODES, ids=IDS)
def test_defaults_are_said_and_are_valid(kind: str, path: str, node: Schema) -> None:
    del kind
    if "default" not in node:
        return
    default = node["default"]
    if not isinstance(default, dict):
        shown = {True: "true", False: "false"}.get(default, default) if isinstance(default, bool) else default
        if isinstance(shown, float) and shown < 0.0001:
            shown = f"{shown:.10f}".rstrip("0")
        assert f"Default {shown}" in node["description"], path
        assert default in node.get("enum", [default])
        return
    whole = with_defaults(default, node)
    assert not list(unknown_fields(default, node))
    assert not list(rule_problems(default, node))  # the server checks it before nested defaults are there
    assert not list(rule_problems(whole, node))
    assert whole == with_defaults({}, node) or "preset" in default, "as if the user had written {}"


CORE_FUNCTIONS = {
    "duration",
    "getSeconds",
    "matches",
    "size",
    "startsWith",
}  # of CEL itself, without Kubernetes's additions

RULES = [
    (f"{kind}{path}#{number}", node, rule)
    for kind in KINDS
    for path, node in nodes(schema_of(kind))
    for number, rule in enumerate(node.get("x-kubernetes-validations", ()))
]


@pytest.mark.parametrize(("node", "rule"), [rule[1:] for rule in RULES], ids=[rule[0] for rule in RULES])
def test_rules_say_what_is_wrong_and_what_would_be_right(node: Schema, rule: dict[str, str]) -> None:
    functions = {name for name in cel.compile(rule["rule"]).functions() if name[0] not in "_@!"}
    assert functions <= CORE_FUNCTIONS
    wrong, colon, right = rule["message"].partition(": ")
    assert wrong
    assert colon
    assert right
    assert rule["reason"] in {"FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"}
    for step in parse_path(rule.get("fieldPath", "")) or ():
        assert step in node["properties"], format_path(parse_path(rule["fieldPath"]) or ())
        node = node["properties"][step]


def test_a_pool_inside_a_job_is_a_pool() -> None:
    entry = schema_of("FederatedJob")["properties"]["spec"]["properties"]["pools"]["items"]
    assert entry["properties"]["inline"] == schema_of("ClientPool")["properties"]["spec"]
    subprocess.run([sys.executable, ROOT / "scripts" / "inline_pools", "--check"], check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_head_is_the_designs(kind: str) -> None:
    spec = crd(kind)["spec"]
    version = spec["versions"][0]
    assert (spec["group"], spec["scope"], version["name"]) == ("muster.dev", "Namespaced", "v1alpha1")
    assert spec["names"]["categories"] == ["all"]
    assert version["subresources"] == {"status": {}}
    shorts = {"FederatedJob": ["fedjobs", "fedjob", "fj"], "ClientPool": ["cpool"]}
    assert spec["names"]["shortNames"] == shorts[kind]
    for column in version["additionalPrinterColumns"]:
        steps = column["jsonPath"].removeprefix(".").split(".")
        node: Schema = version["schema"]["openAPIV3Schema"]
        for step in steps if steps[0] != "metadata" else ():
            node = node["properties"][step]
        assert column["type"] in {node.get("type"), "date"}


# --- The typed values mirror the schema -------------------------------------------------------------------------------


def struct_leaves(of: Any, path: str = "") -> Iterator[str]:
    """Every field that holds a value, as `muster_spec.schemas.leaves` names them."""
    arguments = [one for one in get_args(of) if one is not type(None)]
    if get_origin(of) in {Union, type(int | str)} and len(arguments) == 1:
        yield from struct_leaves(arguments[0], path)
    elif get_origin(of) is tuple:
        yield from struct_leaves(arguments[0], f"{path}[]")
    elif get_origin(of) is dict and arguments[1] is not Any:
        yield from struct_leaves(arguments[1], f"{path}.*")
    elif isinstance(of, type) and issubclass(of, msgspec.Struct):
        for field in msgspec.structs.fields(of):
            yield from struct_leaves(field.type, f"{path}.{field.encode_name}" if path else field.encode_name)
    else:
        yield path


@pytest.mark.parametrize("kind", KINDS)
def test_types_have_the_fields_of_the_schema_and_no_others(kind: str) -> None:
    ours = set(struct_leaves(TYPES[kind]))
    theirs = {path for path, _ in leaves(schema_of(kind)["properties"]["spec"])}
    assert ours == theirs


def mismatches(of: Any, schema: Schema, path: str) -> Iterator[str]:
    """Fields that are optional on one side only, and choices that differ."""
    arguments = [one for one in get_args(of) if one is not type(None)]
    if get_origin(of) in {Union, type(int | str)} and len(arguments) == 1:
        yield from mismatches(arguments[0], schema, path)
    elif get_origin(of) is tuple:
        yield from mismatches(arguments[0], schema["items"], f"{path}[]")
    elif isinstance(of, type) and issubclass(of, msgspec.Struct):
        for field in msgspec.structs.fields(of):
            child = schema["properties"][field.encode_name]
            is_sure = field.encode_name in schema.get("required", ()) or "default" in child
            if is_sure == (type(None) in get_args(field.type)):
                yield f"{path}.{field.encode_name}"
            yield from mismatches(field.type, child, f"{path}.{field.encode_name}")
    elif "enum" in schema and list(arguments) != schema["enum"]:
        yield path


@pytest.mark.parametrize("kind", KINDS)
def test_types_are_optional_exactly_where_the_schema_is(kind: str) -> None:
    schema = schema_of(kind)["properties"]["spec"]
    found = set(mismatches(TYPES[kind], schema, "spec"))
    empty_when_absent = {path for path in found if re.search(COLLECTION_FIELDS, path)}
    # a preset is the default of `compression` as a whole, and gives way to `up` and `down`
    assert found - empty_when_absent == set()


COLLECTION_FIELDS = (
    r"(nodeSelector|labels|annotations|tolerations|environment|imagePullSecrets|perClient|mounts|modules)$"
)
