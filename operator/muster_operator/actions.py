"""What a plan wants done to the cluster, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from muster_operator.objects import Key, Object


@dataclass(frozen=True, slots=True)
class Create:
    """Make it, or leave alone what is there: for what is never changed in place."""

    manifest: Object


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply: make it, or put right the fields that are ours."""

    manifest: Object


@dataclass(frozen=True, slots=True)
class Patch:
    """Change some fields of exactly this object."""

    key: Key
    uid: str
    body: Object


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove exactly this object, and what it owns with it."""

    key: Key
    uid: str
    because: str


@dataclass(frozen=True, slots=True)
class CreateToken:
    """Make the Secret with a token, and a certificate for these hosts, that nobody has seen.

    The plan doesn't know them: plans are shown and compared.
    """

    manifest: Object
    hosts: tuple[str, ...]


Action: TypeAlias = Create | Apply | Patch | Delete | CreateToken


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order; the status that is true then; and when to look again, even if nothing happens."""

    actions: tuple[Action, ...] = ()
    status: Object | None = None
    wake_at: float | None = None
