"""Keeps the lobby's own certificate: an authority that vouches for the lobby to sites, and what it is greeted with.

Two Secrets in the operator's namespace, seen by asking for them, since no watch reaches there in every installation.
Made where they are missing, renewed in time; the lobby's pod mounts what is served and not the authority's key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from muster_operator.actions import Action, CreateAuthority, ServerCertificate
from muster_operator.api import Api
from muster_operator.apply import apply_actions
from muster_operator.build.common import INPUTS
from muster_operator.credentials import (
    AUTHORITY_S,
    CERTIFICATE,
    Credential,
    Signer,
    issue_of,
    renewal_of,
)
from muster_operator.errors import ApiError, NotFound
from muster_operator.objects import COMPONENT, MANAGED_BY, MANAGER, Key, Object, annotation_of, digest
from muster_operator.pools import Lobby
from muster_operator.settings import LobbyInstall

log = logging.getLogger("muster.operator")

EVERY_S, AGAIN_S = 300.0, 2.0


@dataclass(frozen=True, slots=True)
class Kept:
    """The two Secrets as they are, None where there is none."""

    authority: Object | None
    server: Object | None


def plan_lobby(kept: Kept, install: LobbyInstall, namespace: str, now: float) -> list[Action]:
    """What is missing or due. Pure."""
    manifest = _manifest(install.authority_name, namespace) | {"immutable": True}
    if kept.authority is None:
        return [CreateAuthority(manifest, AUTHORITY_S)]
    signer = Signer(Key("Secret", install.authority_name), str(kept.authority["metadata"]["uid"]))
    content = ServerCertificate(install.hosts(namespace))
    inputs = digest([signer.uid, content.hosts])
    have = kept.server
    if have is not None and annotation_of(have, INPUTS) == inputs and now < renewal_of(have):
        return []
    server = _manifest(install.secret, namespace) | {"type": "kubernetes.io/tls"}
    return [issue_of(Credential(server, content), signer, inputs, have, now)]


def _manifest(name: str, namespace: str) -> Object:
    labels = {"app.kubernetes.io/name": "muster", MANAGED_BY: MANAGER, COMPONENT: "lobby"}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata}


class LobbyKeeper:
    """Of one installation. `lobby` is what pools' bundles are made with; its authority is empty until it is known."""

    def __init__(
        self, api: Api, install: LobbyInstall, namespace: str, now: Callable[[], float], on_change: Callable[[], None]
    ) -> None:
        self.lobby = Lobby(install.address, "", install.account)
        self._api = api
        self._install = install
        self._namespace = namespace
        self._now = now
        self._on_change = on_change

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                is_done = await self.keep()
            except ApiError as error:
                log.warning("the lobby's certificate can't be kept now: %s", error)
                is_done = False
            await asyncio.sleep(EVERY_S if is_done else AGAIN_S)

    async def keep(self) -> bool:
        """One look; whether nothing is left to do. Raises ApiError."""
        install = self._install
        kept = Kept(await self._get(install.authority_name), await self._get(install.secret))
        authority = annotation_of(kept.authority, CERTIFICATE) if kept.authority else ""
        if authority != self.lobby.authority:
            self.lobby = Lobby(install.address, authority, install.account)
            self._on_change()
        actions = plan_lobby(kept, install, self._namespace, self._now())
        outcome = await apply_actions(self._api, self._namespace, actions)
        for refused in outcome.refused:
            log.error("the lobby has no certificate: %s", refused)
        return not actions

    async def _get(self, name: str) -> Object | None:
        try:
            return await self._api.get("Secret", self._namespace, name)
        except NotFound:
            return None
