"""`muster validate --explain`: the resolved job as YAML, with every value that nobody wrote marked as a default."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from muster_spec import Manifest
from muster_spec.defaults import with_union_members
from muster_spec.documents import Document
from muster_spec.paths import FieldPath
from muster_spec.resolving import choose
from muster_spec.schemas import schema_of


def explain(manifest: Manifest, job: str | None = None) -> str:
    """The chosen job and its pools, as documents that could be applied, with ``# default`` behind each default.

    Raises:
        JobChoiceError: it can't be told which job is meant.
    """
    chosen = choose(manifest, job)
    names = {entry.name for entry in chosen.spec.pools if entry.inline is None}
    pools = [one for one in manifest.pools if one.name in names and one.namespace == chosen.namespace]
    documents = [*(pool.document for pool in pools), chosen.document]
    return "---\n".join(map(_document_text, documents))


def _document_text(document: Document) -> str:
    whole = with_union_members(copy.deepcopy(document.value), schema_of(document.kind))
    return _marked(whole, document)


def _marked(value: dict[str, Any], document: Document) -> str:
    """The YAML text; a line whose field stands in no file gets a comment."""
    lines = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=10_000).splitlines()
    node = yaml.compose("\n".join(lines))
    written = set(document.lines)
    defaults = {line for path, line in _places(node, ()) if path not in written}
    return "".join(f"{line}  # default\n" if number in defaults else f"{line}\n" for number, line in enumerate(lines))


def _places(node: yaml.Node | None, path: FieldPath) -> list[tuple[FieldPath, int]]:
    """The lines of all single values, by path. A value over several lines can't carry a comment and is left out."""
    if isinstance(node, yaml.MappingNode):
        return [place for key, item in node.value for place in _places(item, (*path, str(key.value)))]
    if isinstance(node, yaml.SequenceNode):
        return [place for index, item in enumerate(node.value) for place in _places(item, (*path, index))]
    if isinstance(node, yaml.ScalarNode) and node.start_mark.line == node.end_mark.line:
        return [(path, node.start_mark.line)]
    return []
