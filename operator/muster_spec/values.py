"""The base of the typed values that a manifest becomes, and the small ones that jobs and pools share."""

from __future__ import annotations

import msgspec


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The base of every value in a manifest: immutable, camelCase outside, nothing unknown inside."""


class Resources(Value, frozen=True):
    """Amounts by resource name, as Kubernetes writes them."""

    requests: dict[str, int | str] | None = None
    limits: dict[str, int | str] | None = None


class NamedPath(Value, frozen=True):
    path: str


class NamedObject(Value, frozen=True):
    name: str


class SecretKey(Value, frozen=True):
    name: str
    key: str
