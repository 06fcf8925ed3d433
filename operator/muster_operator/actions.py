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
class CreateAuthority:
    """Make the Secret with a certificate authority that nobody has seen: plans are shown and compared."""

    manifest: Object
    valid_s: float


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """For a coordinator that is called by these names."""

    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class JoinBundle:
    """For workers of this pool, who dial this address; and for its bridge, if it has one, which dials another."""

    realm: str
    pool: str
    address: str
    bridge: str = ""


@dataclass(frozen=True, slots=True)
class PoolBundle:
    """For the site of an External pool, which dials the lobby; `lobby_authority` (PEM) vouches for that."""

    realm: str
    pool: str
    lobby: str
    lobby_authority: str


Content: TypeAlias = ServerCertificate | JoinBundle | PoolBundle


@dataclass(frozen=True, slots=True)
class Version:
    """An object as it was seen: whoever changes it meanwhile is faster."""

    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True)
class Issue:
    """Have a Secret's content signed by the authority in another; make the Secret, or replace what is in it.

    The manifest says from when to when it holds; `content` says what it is.
    """

    manifest: Object
    content: Content
    authority: Key
    authority_uid: str
    issued: float
    valid_s: float
    replaces: Version | None = None


@dataclass(frozen=True, slots=True)
class Tell:
    """Post an Event about an object, of what no condition of its status says."""

    about: Object
    reason: str
    message: str
    is_warning: bool


Action: TypeAlias = Create | Apply | Patch | Delete | CreateAuthority | Issue | Tell


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order; the status that is true then; and when to look again, even if nothing happens."""

    actions: tuple[Action, ...] = ()
    status: Object | None = None
    wake_at: float | None = None
