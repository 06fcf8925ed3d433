"""The schema: the two CRDs of crds/, the only place where fields, defaults and bounds are written down."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from muster_spec.problems import SchemaNotFoundError

Schema = dict[str, Any]

GROUP = "muster.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KINDS = ("FederatedJob", "ClientPool")

_FILES = {"FederatedJob": "federatedjobs.yaml", "ClientPool": "clientpools.yaml"}


def crd_folder() -> Path:
    """crds/ of the checkout, or the copy that the wheel carries inside this package.

    Raises:
        SchemaNotFoundError: it is in neither place.
    """
    package = Path(__file__).parent
    places = (package / "crds", package.parents[1] / "crds")
    for place in places:
        if all((place / file).is_file() for file in _FILES.values()):
            return place
    raise SchemaNotFoundError(places)


@functools.cache
def crd(kind: str) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    text = (crd_folder() / _FILES[kind]).read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe
    return document


@functools.cache
def schema_of(kind: str) -> Schema:
    """The OpenAPI schema of a kind's only version."""
    schema: Schema = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def leaves(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every field that holds a value, by its path: ``spec.pools[].name``, ``spec.labels.*``."""
    if "properties" in schema:
        for name, child in schema["properties"].items():
            yield from leaves(child, f"{path}.{name}" if path else name)
    elif isinstance(schema.get("items"), dict):
        yield from leaves(schema["items"], f"{path}[]")
    elif isinstance(schema.get("additionalProperties"), dict):
        yield from leaves(schema["additionalProperties"], f"{path}.*")
    else:
        yield path, schema
