"""Where the operator makes keys and signs: at the edge, for one request each, and nothing is kept afterwards.

The authority's key is read from its Secret when something has to be signed, and forgotten. An operator that is killed
between two requests leaves whole Secrets or none, and the next one finds what is missing.
"""

from __future__ import annotations

import base64
import binascii

from muster_operator.actions import CreateAuthority, Issue, JoinBundle, PoolBundle, ServerCertificate
from muster_operator.api import Api
from muster_operator.build.common import annotated
from muster_operator.build.trust import (
    AUTHORITY_CERTIFICATE,
    AUTHORITY_KEY,
    BRIDGES_BUNDLE,
    BUNDLE,
    SERVER_CERTIFICATE,
    SERVER_KEY,
)
from muster_operator.credentials import CERTIFICATE, ISSUED
from muster_operator.errors import ApiError, Conflict
from muster_operator.objects import Key, Object, dig, key_of, timestamp
from muster_wire.errors import TrustError
from muster_wire.trust.authority import Authority, authority_from_pem, make_authority
from muster_wire.trust.bundle import Bundle, make_bundle, make_pool_bundle
from muster_wire.trust.identity import Role, name_identity


async def create_authority(api: Api, action: CreateAuthority, now: float) -> None:
    """Make an authority, and keep it in its Secret."""
    await api.create(with_authority(action, now))


async def issue(api: Api, namespace: str, action: Issue) -> None:
    """Sign what a Secret is to hold, and make it, or put it into the place of exactly the one that was seen.

    Raises ApiError, as for a refused request, where the authority's Secret can't be used.
    """
    secret = await api.get(action.authority.kind, namespace, action.authority.name)
    if secret["metadata"]["uid"] != action.authority_uid:
        raise Conflict(409, "AnotherAuthority", f"{action.authority} is another by now")
    data = encoded(content_of(action, read_authority(action.authority, secret)))
    if action.replaces is None:
        await api.create(action.manifest | {"data": data})
        return
    annotations = action.manifest["metadata"]["annotations"]
    metadata = {"resourceVersion": action.replaces.resource_version, "annotations": annotations}
    key = key_of(action.manifest)
    await api.patch(key, namespace, action.replaces.uid, {"metadata": metadata, "data": data})


def with_authority(action: CreateAuthority, now: float) -> Object:
    """The Secret with a new authority, and its certificate, which is no secret, where plans see it."""
    authority = make_authority(action.manifest["metadata"]["name"], now, action.valid_s)
    content = {AUTHORITY_CERTIFICATE: authority.pem, AUTHORITY_KEY: authority.key_pem}
    notes = {CERTIFICATE: authority.pem.decode(), ISSUED: timestamp(now)}
    return annotated(action.manifest, notes) | {"data": encoded(content)}


def content_of(action: Issue, authority: Authority) -> dict[str, bytes]:
    """What the Secret holds, with keys that were not there before."""
    if isinstance(action.content, ServerCertificate):
        pair = authority.issue_server(action.content.hosts, action.issued, action.valid_s)
        return {SERVER_CERTIFICATE: pair.chain, SERVER_KEY: pair.key}
    return {name: bundle.to_json().encode() for name, bundle in _bundles(action, action.content, authority).items()}


def _bundles(action: Issue, content: JoinBundle | PoolBundle, authority: Authority) -> dict[str, Bundle]:
    """By the name of the file. A pool that has a bridge gets one for that, too."""
    joiner, until = name_identity(Role.JOINER, content.realm, content.pool), (action.issued, action.valid_s)
    if isinstance(content, PoolBundle):
        return {BUNDLE: make_pool_bundle(authority, content.lobby, content.lobby_authority, joiner, *until)}
    bundles = {BUNDLE: make_bundle(authority, content.address, joiner, *until)}
    if content.bridge:
        bridge = name_identity(Role.BRIDGE, content.realm, content.pool)
        bundles[BRIDGES_BUNDLE] = make_bundle(authority, content.bridge, bridge, *until)
    return bundles


def read_authority(key: Key, secret: Object) -> Authority:
    """The authority that a Secret holds."""
    try:
        roots, private = (
            base64.b64decode(dig(secret, "data", name) or "") for name in (AUTHORITY_CERTIFICATE, AUTHORITY_KEY)
        )
        return authority_from_pem(roots, private)
    except (binascii.Error, TrustError) as error:
        message = f"{key} holds no authority that can be used ({error}); delete it, and the job starts with a new one"
        raise ApiError(422, "Invalid", message) from error


def encoded(content: dict[str, bytes]) -> dict[str, str]:
    """As a Secret holds it."""
    return {name: base64.b64encode(value).decode() for name, value in content.items()}
