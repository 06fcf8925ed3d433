"""``spec.task.config``, parsed once and strictly into frozen values, with errors that name the path in the manifest."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from muster.errors import ConfigError

_UNKNOWN = re.compile(r"unknown field `(?P<name>[^`]*)`")
_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`$")


class Options(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The base of a task's options: a field ``splitSeed`` in the manifest is the attribute ``split_seed`` here."""


class NoOptions(Options, frozen=True):
    """Of a task that takes none."""


OptionsT = TypeVar("OptionsT", bound=Options)


def parse_options(kind: type[OptionsT], config: Mapping[str, Any], where: str = "spec.task.config") -> OptionsT:
    """Read a configuration.

    Raises:
        ConfigError: a field is unknown, missing, or of the wrong type or value.
    """
    try:
        return msgspec.convert(dict(config), type=kind)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), kind, where)) from error


def _explain(message: str, kind: type[Options], where: str) -> str:
    place = _PLACE.search(message)
    path = where + (place["path"] if place else "")
    plain = message.removesuffix(place[0]) if place else message
    unknown = _UNKNOWN.search(plain)
    if unknown is None or place is not None:
        return f"{path}: {plain[:1].lower()}{plain[1:].replace('Object', 'object')}"
    return f"{path}.{unknown['name']}: {_suggestion(unknown['name'], kind.__struct_encode_fields__)}"


def _suggestion(name: str, known: tuple[str, ...]) -> str:
    if not known:
        return "unknown: this task takes no configuration"
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown; did you mean {close[0]}?" if close else f"unknown; this task knows {', '.join(known)}"
