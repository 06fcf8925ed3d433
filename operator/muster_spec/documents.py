"""Reads YAML files into documents: the first step of every manifest, before anything knows what a job is.

Reads YAML the way kubectl does (``1e-3`` is a number, ``1:30`` and dates are text, a key twice is an error), and
remembers the line of each field, so that every later problem can say where.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from muster_spec.paths import FieldPath
from muster_spec.problems import Category, Problem

_MAX_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its value as plain Python, and the line where each field stands."""

    value: Any
    file: str = ""
    index: int = 1
    lines: dict[FieldPath, int] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        kind = self.value.get("kind") if isinstance(self.value, dict) else None
        return kind if isinstance(kind, str) else ""

    @property
    def metadata(self) -> dict[str, Any]:
        metadata = self.value.get("metadata") if isinstance(self.value, dict) else None
        return metadata if isinstance(metadata, dict) else {}

    @property
    def name(self) -> str:
        name = self.metadata.get("name")
        return name if isinstance(name, str) else ""

    @property
    def namespace(self) -> str:
        namespace = self.metadata.get("namespace")
        return namespace if isinstance(namespace, str) and namespace else "default"

    def line_of(self, path: FieldPath) -> int:
        """The line of a field, or of the nearest one around it that is written down."""
        for length in range(len(path), -1, -1):
            if (line := self.lines.get(path[:length])) is not None:
                return line
        return 0


class _NotManifestError(yaml.MarkedYAMLError):
    """YAML that is well formed but can't be a manifest: a key twice, a number that JSON has no word for."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the number and text rules of kubectl."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """JSON's keys are texts, so numbers and truth values become what JSON would write."""
        return {_key(key, node): value for key, value in super().construct_mapping(node, deep).items()}


_PLAIN = {
    "tag:yaml.org,2002:bool": (
        r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
        "yYnNtTfFoO",
    ),
    "tag:yaml.org,2002:float": (
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    "tag:yaml.org,2002:int": (
        r"[-+]?0b[0-1_]+|[-+]?0o?[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+",
        "-+0123456789",
    ),
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", ("~", "n", "N", "")),
    "tag:yaml.org,2002:merge": (r"<<", "<"),
}
_Loader.yaml_implicit_resolvers = {}
for _tag, (_pattern, _first) in _PLAIN.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), list(_first))


def _key(key: Hashable, node: yaml.MappingNode) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    if isinstance(key, (str, int, float)):
        return str(key)
    raise _NotManifestError(problem="a key has to be a text", problem_mark=node.start_mark)


def _number(_: _Loader, node: yaml.ScalarNode) -> int | float:
    text = node.value.replace("_", "").lower()
    try:
        value = int(text.replace("0o", "0"), 8) if re.fullmatch(r"[-+]?0o?[0-7]+", text) else _plain_number(text)
    except ValueError as error:
        raise _NotManifestError(problem=f"{node.value} is not a number", problem_mark=node.start_mark) from error
    if isinstance(value, float) and not math.isfinite(value):
        raise _NotManifestError(problem=f"{node.value} is not a finite number", problem_mark=node.start_mark)
    return value


def _plain_number(text: str) -> int | float:
    try:
        return int(text, 0)
    except ValueError:
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:int", _number)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def read_documents(files: list[Path]) -> tuple[list[Document], list[Problem]]:
    """All documents of all files, and what couldn't be read."""
    documents: list[Document] = []
    problems: list[Problem] = []
    for file in files:
        try:
            text = _read_text(file)
        except (OSError, UnicodeDecodeError, ValueError) as error:
            problems.append(_unreadable(file, error))
            continue
        found, wrong = parse_documents(text, str(file))
        documents += found
        problems += wrong
    return documents, problems


def parse_documents(text: str, file: str = "") -> tuple[list[Document], list[Problem]]:
    """The documents of a YAML text. Empty ones are skipped but counted, as kubectl does."""
    documents: list[Document] = []
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return [], [Problem(Category.SYNTAX, f"not valid YAML: {error.reason}", file=file, document=1, line=line)]
    try:
        index = 0
        while loader.check_node():
            index += 1
            node = _checked(loader.get_node())
            value = loader.construct_document(node)
            if value is not None:
                documents.append(Document(value, file, index, dict(_lines(node, ()))))
    except (yaml.YAMLError, RecursionError) as error:
        return documents, [_syntax_problem(error, file, len(documents) + 1)]
    finally:
        loader.dispose()
    return documents, []


def _read_text(file: Path) -> str:
    with file.open("rb") as stream:
        content = stream.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise ValueError(f"it is larger than {_MAX_BYTES // 2**20} MiB, which no manifest is")
    return content.decode("utf-8-sig")


def _unreadable(file: Path, error: Exception) -> Problem:
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return Problem(
            Category.UNREADABLE, f"can't be read: {reason}", "check the path and its permissions", file=str(file)
        )
    reason = "it isn't UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)
    return Problem(Category.UNREADABLE, f"can't be read: {reason}", "give a YAML file", file=str(file))


def _syntax_problem(error: Exception, file: str, index: int) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    fallback = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
    what = getattr(error, "problem", None) or fallback
    return Problem(
        Category.SYNTAX,
        f"not valid YAML: {what}",
        file=file,
        document=index,
        line=mark.line + 1 if mark else 0,
        column=mark.column + 1 if mark else 0,
    )


def _checked(node: yaml.Node | None) -> yaml.Node:
    if node is None:
        raise _NotManifestError(problem="an empty document")
    _refuse_unusable(node)
    return node


def _refuse_unusable(node: yaml.Node, depth: int = 0, ancestors: frozenset[int] = frozenset()) -> None:
    """Raises for a key written twice, for nesting that no manifest has, and for an anchor that contains itself."""
    if depth > _MAX_DEPTH or id(node) in ancestors:
        raise _NotManifestError(problem="nested too deeply", problem_mark=node.start_mark)
    inside = ancestors | {id(node)}
    if isinstance(node, yaml.MappingNode):
        _refuse_duplicates(node)
        for _, value in node.value:
            _refuse_unusable(value, depth + 1, inside)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_unusable(item, depth + 1, inside)


def _refuse_duplicates(node: yaml.MappingNode) -> None:
    seen: set[str] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _NotManifestError(problem="a key has to be a text", problem_mark=key.start_mark)
        if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
            problem = f"the key {key.value!r} is there twice: remove one of them"
            raise _NotManifestError(problem=problem, problem_mark=key.start_mark)
        seen.add(key.value)


def _lines(node: yaml.Node, path: FieldPath) -> Iterator[tuple[FieldPath, int]]:
    """The line of each field: of its key in a mapping, of the item in a list."""
    if not path:
        yield path, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, str(key.value)), key.start_mark.line + 1
            yield from _lines(value, (*path, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, index), item.start_mark.line + 1
            yield from _lines(item, (*path, index))
