"""No field is accepted and ignored: each is carried out (leaves.yaml), refused, or left to a cluster and announced."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from muster_spec import Category, check
from muster_spec.defaults import member_of
from muster_spec.documents import Document
from muster_spec.schemas import API_VERSION, Schema, leaves, schema_of
from muster_spec.support import Entry, fields_for_clusters, support

ROOT = Path(__file__).parents[2]
PROVEN: dict[str, str] = yaml.safe_load(Path(__file__).with_name("leaves.yaml").read_text())
ON_A_CLUSTER: dict[str, str] = yaml.safe_load(Path(__file__).with_name("cluster_leaves.yaml").read_text())
TOLD: dict[str, str] = yaml.safe_load(Path(__file__).with_name("status_leaves.yaml").read_text())
KINDS = {"job": "FederatedJob", "pool": "ClientPool"}
SPECS: dict[str, dict[str, Any]] = {
    "job": {
        "task": {"entrypoint": "a:B"},
        "pools": [{"name": "site", "inline": {"type": "Kubernetes", "clients": 20}}],
    },
    "pool": {"type": "Kubernetes", "clients": 1},
}


def all_leaves() -> Iterator[str]:
    for root, kind in KINDS.items():
        for path, _ in leaves(schema_of(kind)["properties"]["spec"], f"{root}.spec"):
            if ".inline." not in path:  # the same as a pool's: test_schema says so
                yield path


def covers(entry: Entry, path: str) -> bool:
    return path == entry.path or path.startswith((f"{entry.path}.", f"{entry.path}["))


def is_refused(path: str) -> bool:
    """Whether a field is refused whatever its value, by itself or as a parameter of a choice that is refused."""
    return (
        any(not entry.values and covers(entry, path) for entry in support().unsupported) or choice_of(path) is not None
    )


def choice_of(path: str) -> Entry | None:
    """The refused choice that a field is a parameter of: `strategy.fedAdam.tau` belongs to `strategy.type`."""
    for entry in support().unsupported:
        parent = entry.path.rpartition(".")[0]
        member = path.removeprefix(f"{parent}.").split(".")[0].split("[")[0]
        if path.startswith(f"{parent}.") and any(member == _member(value) for value in entry.values):
            return entry
    return None


def _member(choice: str) -> str | None:
    name = choice if choice == choice.upper() else choice[0].lower() + choice[1:]
    return member_of(choice, {name: {"properties": {}}, choice.lower(): {"properties": {}}}) and name


LEAVES = sorted(all_leaves())
REFUSED = [path for path in LEAVES if is_refused(path)]
ELSEWHERE = [
    path for path in LEAVES if any(covers(entry, path) for entry in support().elsewhere) and path not in REFUSED
]


@pytest.mark.parametrize("path", LEAVES)
def test_every_field_is_in_exactly_one_list(path: str) -> None:
    lists = {"proven": path in PROVEN, "refused": path in REFUSED, "elsewhere": path in ELSEWHERE}
    assert sum(lists.values()) == 1, lists


def test_the_lists_name_only_fields_that_are_there() -> None:
    assert set(PROVEN) <= set(LEAVES)
    for entry in (*support().unsupported, *support().elsewhere):
        assert any(covers(entry, path) for path in LEAVES), entry.path


@functools.cache
def functions(file: str) -> dict[str, str]:
    """The source of each, by its name."""
    source = (ROOT / file).read_text()
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return {node.name: ast.get_source_segment(source, node) or "" for node in nodes}


@pytest.mark.parametrize("path", ELSEWHERE)
def test_what_is_left_to_a_cluster_is_carried_out_there(path: str) -> None:
    assert sum(path == one or path.startswith((f"{one}.", f"{one}[")) for one in ON_A_CLUSTER) == 1


def test_the_clusters_list_names_only_what_is_left_to_it() -> None:
    for one in ON_A_CLUSTER:
        assert any(path == one or path.startswith((f"{one}.", f"{one}[")) for path in ELSEWHERE), one


@pytest.mark.parametrize("proof", sorted({*PROVEN.values(), *ON_A_CLUSTER.values(), *TOLD.values()}))
def test_proofs_are_tests(proof: str) -> None:
    file, _, name = proof.partition("::")
    assert name in functions(file)


def test_every_field_of_a_status_is_shown_to_be_written() -> None:
    statuses = {root: schema_of(kind)["properties"]["status"] for root, kind in KINDS.items()}
    assert [*TOLD] == [path for root, each in statuses.items() for path, _ in leaves(each, f"{root}.status")]


@pytest.mark.parametrize("path", TOLD)
def test_what_shows_that_a_field_is_written_names_it(path: str) -> None:
    file, _, test = TOLD[path].partition("::")
    name = path.removesuffix(".*").rpartition(".")[2]
    in_python = re.sub(r"([A-Z])", r"_\1", name).lower()
    assert re.search(rf"\b({name}|{in_python})\b", functions(file)[test])


def example(schema: Schema) -> Any:
    """Any value that the schema takes, with what is required in it."""
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" in schema:
        return {name: example(schema["properties"][name]) for name in schema.get("required", ())}
    if schema.get("type") == "array":
        return [example(schema["items"])]
    if "additionalProperties" in schema:
        return {"key": example(schema["additionalProperties"])}
    plain = {"integer": schema.get("minimum", 1), "number": schema.get("maximum", 1) / 2, "boolean": True}
    return plain.get(schema.get("type", ""), "1Gi" if "Gi" in schema.get("pattern", "") else "a")


def with_field(path: str) -> dict[str, Any]:
    """The smallest document that sets one field, with the choices made that the field is a parameter of."""
    root, *steps = path.replace("[]", ".[]").split(".")
    document = {"apiVersion": API_VERSION, "kind": KINDS[root], "metadata": {"name": "one"}, "spec": _copy(SPECS[root])}
    _set(document, schema_of(KINDS[root]), steps)
    return document


def _copy(value: Any) -> Any:
    return yaml.safe_load(yaml.safe_dump(value))


def _set(place: Any, schema: Schema, steps: list[str]) -> None:
    step, rest = steps[0], steps[1:]
    if step == "[]":
        if not place:
            place.append(example(schema["items"]))
        return _set(place[0], schema["items"], rest) if rest else None
    child = schema["properties"].get(step) if "properties" in schema else schema.get("additionalProperties")
    for chooser in ("type", "mode"):
        choices = schema.get("properties", {}).get(chooser, {}).get("enum", ())
        place.update({chooser: one for one in choices if member_of(one, schema["properties"]) == step})  # noqa: B035
    if not rest:
        place[step] = example(child)
        return None
    place.setdefault(step, example(child) if child.get("required") else [] if child.get("type") == "array" else {})
    return _set(place[step], child, rest)


def refusals(document: dict[str, Any]) -> list[str]:
    problems = check([Document(document)]).problems
    return [problem.path for problem in problems if problem.category is Category.UNSUPPORTED]


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_not_supported_is_refused(path: str) -> None:
    assert refusals(with_field(path))


@pytest.mark.parametrize(
    ("path", "value"), [(entry.path, value) for entry in support().unsupported for value in entry.values]
)
def test_values_that_are_not_supported_are_refused(path: str, value: str) -> None:
    document = with_field(path)
    place: Any = document
    for step in path.replace("[]", ".[]").split(".")[1:-1]:
        place = place[0] if step == "[]" else place[step]
    place[path.rpartition(".")[2]] = value
    assert path.replace("[]", "[0]").partition(".")[2] in refusals(document)


@pytest.mark.parametrize("path", [path for path in LEAVES if path in PROVEN])
def test_what_is_carried_out_is_not_refused(path: str) -> None:
    assert not refusals(with_field(path))


@pytest.mark.parametrize("path", ELSEWHERE)
def test_what_is_left_to_a_cluster_is_announced(path: str) -> None:
    document = with_field(path)
    place: Any = document
    *steps, last = path.replace("[]", ".[]").replace(".*", ".key").split(".")[1:]
    for step in steps:
        place = place[0] if step == "[]" else place[step]
    if last != "[]":
        place[last] = "changed"  # a default that is written down says nothing
    announced = [field for field, _ in fields_for_clusters(document, document["kind"])]
    named = path.replace("[]", "[0]").partition(".")[2]
    assert any(named.startswith(field) for field in announced), announced
