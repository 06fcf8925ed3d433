"""What is to be done for a ClientPool: for most, no more than their status; an External pool has credentials. Pure.

They belong to the pool, not to a job: an authority, a bundle that the site enrols with, and the lobby's right to read
the authority. A pool that is revoked has none of it: what it had is deleted, so that what was signed before can't come
back when the pool is let in again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from muster_operator.actions import Action, Apply, CreateAuthority, Delete, Plan, PoolBundle
from muster_operator.build.common import INPUTS
from muster_operator.build.pools import (
    authority_name,
    build_bundle,
    build_lobby_right,
    build_pool_authority,
    bundle_name,
)
from muster_operator.credentials import (
    AUTHORITY_S,
    Credential,
    Signer,
    issue_of,
    renewal_of,
)
from muster_operator.objects import (
    Key,
    Object,
    annotation_of,
    contains,
    dig,
    digest,
    is_controlled_by,
    is_going,
    key_of,
)
from muster_operator.pools import Lobby, PoolSeen, pool_status
from muster_spec.durations import duration_s

DEFAULT_BUNDLE = "30d"
STARTING_AGAIN_S = 5.0


def plan_pool(seen: PoolSeen, lobby: Lobby | None, now: float) -> Plan:
    """What to do for one pool."""
    if is_going(seen.pool):
        return Plan()
    if not seen.is_external:
        return Plan(status=pool_status(seen, now, lobby))
    actions = tuple(_actions(seen, lobby, now))
    return Plan(actions, pool_status(seen, now, lobby), _next_look(seen, lobby, now))


def _actions(seen: PoolSeen, lobby: Lobby | None, now: float) -> Iterator[Action]:
    if lobby is None:
        return  # what is there stays: the lobby may come back
    if seen.is_revoked:
        yield from _delete_all_but(seen, frozenset(), "the pool is revoked")
        return
    wanted = Wanted.of(seen, lobby)
    if wanted.authority not in seen.children:
        yield CreateAuthority(build_pool_authority(seen.pool), AUTHORITY_S)
    for right in wanted.rights:
        have = seen.children.get(key_of(right))
        if have is None or (not is_going(have) and not contains(have, right)):
            yield Apply(right)
    yield from _issue(seen, wanted, lobby, now)
    yield from _delete_all_but(seen, wanted.keys, "no longer a part of the pool")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the pool should have."""

    authority: Key
    bundle: Key
    rights: tuple[Object, ...]

    @classmethod
    def of(cls, seen: PoolSeen, lobby: Lobby) -> Wanted:
        authority = Key("Secret", authority_name(seen.name))
        rights = tuple(build_lobby_right(seen.pool, lobby.account))
        return cls(authority, Key("Secret", bundle_name(seen.pool)), rights)

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset((self.authority, self.bundle, *map(key_of, self.rights)))


def _issue(seen: PoolSeen, wanted: Wanted, lobby: Lobby, now: float) -> Iterator[Action]:
    """The bundle, once there are an authority to sign it and a lobby to name in it."""
    authority, have = seen.children.get(wanted.authority), seen.children.get(wanted.bundle)
    if authority is None or is_going(authority) or not lobby.authority or (have is not None and is_going(have)):
        return
    signer = Signer(wanted.authority, str(authority["metadata"]["uid"]))
    content = PoolBundle(seen.uid, seen.name, lobby.address, lobby.authority)
    inputs = digest([signer.uid, content.realm, content.pool, content.lobby, content.lobby_authority])
    if have is None or annotation_of(have, INPUTS) != inputs or now >= renewal_of(have):
        valid_s = duration_s(str(dig(seen.pool, "spec", "external", "bundleValidity") or DEFAULT_BUNDLE))
        yield issue_of(Credential(build_bundle(seen.pool), content, valid_s), signer, inputs, have, now)


def _delete_all_but(seen: PoolSeen, keys: frozenset[Key], because: str) -> Iterator[Action]:
    for key, have in sorted(seen.children.items()):
        if key not in keys and is_controlled_by(have, seen.uid) and not is_going(have):
            yield Delete(key, have["metadata"]["uid"], because)


def _next_look(seen: PoolSeen, lobby: Lobby | None, now: float) -> float | None:
    """When the bundle is due; soon where the lobby is only starting."""
    if lobby is None or seen.is_revoked:
        return None
    if not lobby.authority:
        return now + STARTING_AGAIN_S
    have = seen.children.get(Key("Secret", bundle_name(seen.pool)))
    return renewal_of(have) if have is not None else None
