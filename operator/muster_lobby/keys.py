"""The pools' authorities with their keys, each read for one request and forgotten: what is broken into holds none.

The lobby may read exactly these Secrets: the operator makes a Role for each External pool.
"""

from __future__ import annotations

from typing import Protocol

from muster_lobby.offers import Pool
from muster_operator.api import Api
from muster_operator.build.pools import authority_name
from muster_operator.issuing import read_authority
from muster_operator.objects import Key
from muster_wire.trust.authority import Authority


class Keys(Protocol):
    """Where authorities come from."""

    async def authority(self, pool: Pool) -> Authority:
        """With its key. Raises ApiError where it can't be had now."""


class SecretKeys:
    """From the pools' Secrets."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def authority(self, pool: Pool) -> Authority:
        name = authority_name(pool.name)
        secret = await self._api.get("Secret", pool.namespace, name)
        return read_authority(Key("Secret", name), secret)
