"""One operator at a time: a Lease, held for as long as anything is changed in the cluster."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Callable

from muster_operator.api import Api
from muster_operator.errors import ApiError, Conflict, NotFound
from muster_operator.objects import MANAGED_BY, MANAGER, RESOURCES, Object, dig, unix_of

log = logging.getLogger("muster.operator")

NAME = MANAGER
DURATION_S = 30
RENEW_S = 5.0
GIVE_UP_S = 20.0


class Lease:
    """The right to act. `identity` is this process's own name."""

    def __init__(self, api: Api, namespace: str, identity: str, now: Callable[[], float]) -> None:
        self._api = api
        self._namespace = namespace
        self._identity = identity
        self._now = now

    async def acquire(self) -> None:
        """Wait until the lease is ours, while another process has it or the API server is away."""
        while not await self._try_patiently():  # noqa: ASYNC110 - only asking again tells
            await asyncio.sleep(RENEW_S / 2)
        log.info("this operator (%s) holds the lease %s/%s", self._identity, self._namespace, NAME)

    async def hold(self) -> None:
        """Renew it; returns when it is lost, or couldn't be renewed in time, however long a request hangs."""
        renewed = self._now()
        while (left_s := renewed + GIVE_UP_S - self._now()) > 0:
            await asyncio.sleep(min(RENEW_S, left_s))
            try:
                async with asyncio.timeout(max(0.0, renewed + GIVE_UP_S - self._now())):
                    if not await self._try():
                        log.error("another operator holds the lease")
                        return
                renewed = self._now()
            except (ApiError, TimeoutError) as error:
                log.warning("the lease can't be renewed: %s", str(error) or "no answer in time")
        log.error("the lease couldn't be renewed for %d s", GIVE_UP_S)

    async def release(self) -> None:
        """Let the next operator begin at once."""
        try:
            lease = await self._read()
            if lease and dig(lease, "spec", "holderIdentity") == self._identity:
                await self._api.replace(lease | {"spec": lease["spec"] | {"holderIdentity": None}})
        except ApiError as error:
            log.warning("the lease wasn't released, and runs out by itself: %s", error)

    async def _try_patiently(self) -> bool:
        try:
            return await self._try()
        except ApiError as error:
            log.warning("the lease can't be taken: %s", error)
            return False

    async def _try(self) -> bool:
        """Take or renew it, unless somebody else holds it. Of two who try at once, one fails by resourceVersion."""
        lease = await self._read()
        try:
            if lease is None:
                await self._api.create(self._build({}))
            elif self._is_free(lease):
                await self._api.replace(lease | {"spec": self._build(lease)["spec"]})
            else:
                return False
        except Conflict:
            return False
        return True

    async def _read(self) -> Object | None:
        try:
            return await self._api.get("Lease", self._namespace, NAME)
        except NotFound:
            return None

    def _is_free(self, lease: Object) -> bool:
        holder = dig(lease, "spec", "holderIdentity")
        renewed = unix_of(dig(lease, "spec", "renewTime")) or 0.0
        return holder in {None, "", self._identity} or self._now() > renewed + DURATION_S

    def _build(self, before: Object) -> Object:
        now = dt.datetime.fromtimestamp(self._now(), dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        is_ours = dig(before, "spec", "holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": DURATION_S,
            "acquireTime": (dig(before, "spec", "acquireTime") if is_ours else None) or now,
            "renewTime": now,
            "leaseTransitions": int(dig(before, "spec", "leaseTransitions") or 0) + (0 if is_ours else 1),
        }
        return {
            "apiVersion": RESOURCES["Lease"].api_version,
            "kind": "Lease",
            "metadata": {"name": NAME, "namespace": self._namespace, "labels": {MANAGED_BY: MANAGER}},
            "spec": spec,
        }
