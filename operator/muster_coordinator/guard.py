"""Every call's certificate, checked at every call: whose it is, whether it still holds, and whether it is denied.

TLS looks at a certificate once, at the handshake, and a connection may live much longer than the certificate. So an
interceptor in front of all services asks again at each call, and once a second for the calls that are still open: a
worker that is put on the deny list loses its stream of orders and its half-done transfers too, and its next call is
refused. Nothing that is registered with the server can be reached around it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio

from muster_coordinator.denylist import DenyList
from muster_coordinator.interception import Behaviour, Context, Handler, wrapped
from muster_coordinator.ports import Clock
from muster_coordinator.refusals import Refusals, Refused
from muster_wire.errors import TrustError
from muster_wire.trust.certificate import Certificate, read_certificate
from muster_wire.trust.identity import Role

log = logging.getLogger("muster.coordinator")

_HEALTH = "/grpc.health.v1.Health/"
_ATTEND = "/muster.wire.v1.Federation/Attend"
OPEN_TO = {  # beginnings of methods; workers may make every call but that of bridges
    Role.JOINER: ("/muster.wire.v1.Federation/Enrol", _HEALTH),
    Role.BRIDGE: (_ATTEND, _HEALTH),
}
_MAY = {Role.JOINER: "may only enrol", Role.BRIDGE: "may only attend"}
SWEEP_S = 1.0

_read = lru_cache(maxsize=4096)(read_certificate)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call may not be made, or go on: for the caller, and for the counters."""

    code: grpc.StatusCode
    reason: str
    cause: Refused


class Peers(Protocol):
    """Tells who makes a call."""

    def certificate(self, context: Context) -> Certificate | None:
        """None where the channel knows no certificates: the token speaks for everybody."""


class Anybody:
    """On a port without mutual TLS."""

    def certificate(self, _context: Context) -> Certificate | None:
        return None


class Guard(grpc.aio.ServerInterceptor):
    """Lets calls in, and ends those that should no longer be open."""

    def __init__(self, realm: str, deny_list: DenyList, clock: Clock, refusals: Refusals) -> None:
        self._realm = realm
        self._deny_list = deny_list
        self._clock = clock
        self._refusals = refusals
        self._open: dict[asyncio.Timeout, tuple[Certificate, str]] = {}

    def certificate(self, context: Context) -> Certificate:
        """The caller's, which TLS has verified. Raises TrustError for one that isn't a worker's."""
        given = context.auth_context().get("x509_pem_cert")
        if not given:
            raise TrustError("no certificate came with this call")
        return _read(next(iter(given)))

    def refusal(self, certificate: Certificate, method: str) -> Refusal | None:
        """Why this certificate may not make, or go on with, a call of this method."""
        identity = certificate.identity
        if self._deny_list.refuses(certificate):
            return _denied(f"the certificate of {identity.uri} has been revoked", Refused.REVOKED)
        if identity.realm != self._realm:
            return _denied(f"{identity.uri} is not for this job, which is {self._realm}")
        if identity.role in OPEN_TO and not method.startswith(OPEN_TO[identity.role]):
            return _denied(f"{identity.uri} {_MAY[identity.role]}")
        if identity.role is Role.WORKER and method == _ATTEND:
            return _denied(f"{identity.uri} is a worker's; only a bridge attends")
        expired = certificate.refused_because(self._clock.unix())
        return Refusal(grpc.StatusCode.UNAUTHENTICATED, expired, Refused.EXPIRED) if expired else None

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        method = str(handler_call_details.method)
        return handler and wrapped(handler, lambda behaviour: self._guarded(method, behaviour))

    def _guarded(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def guarded(request: Any, context: Context) -> Any:
            certificate = await self._admit(context, method)
            try:
                async with asyncio.timeout(None) as scope:
                    self._open[scope] = certificate, method
                    try:
                        return await behaviour(request, context)
                    finally:
                        del self._open[scope]
            except TimeoutError:
                if not scope.expired():
                    raise
            return await self._refuse(self.refusal(certificate, method) or _MOVE_ON, context)

        return guarded

    async def _admit(self, context: Context, method: str) -> Certificate:
        try:
            certificate = self.certificate(context)
        except TrustError as error:
            return await self._refuse(_denied(error.reason), context)
        refusal = self.refusal(certificate, method)
        if refusal:
            await self._refuse(refusal, context)
        return certificate

    async def _refuse(self, refusal: Refusal, context: Context) -> NoReturn:
        log.warning("a call from %s is refused: %s", context.peer(), refusal.reason)
        self._refusals.count(refusal.cause)
        await context.abort(refusal.code, refusal.reason)

    # --- calls that are open ------------------------------------------------------------------------------------------

    async def watch(self) -> None:
        """End, for as long as the server runs, the calls whose certificates no longer hold."""
        while True:
            await asyncio.sleep(SWEEP_S)
            self.sweep()

    def sweep(self) -> None:
        """End the open calls whose certificates no longer hold."""
        for scope, (certificate, method) in list(self._open.items()):
            if self.refusal(certificate, method):
                scope.reschedule(asyncio.get_running_loop().time())


def _denied(reason: str, cause: Refused = Refused.WRONG_IDENTITY) -> Refusal:
    return Refusal(grpc.StatusCode.PERMISSION_DENIED, reason, cause)


_MOVE_ON = Refusal(grpc.StatusCode.UNAUTHENTICATED, "this certificate no longer holds: enrol again", Refused.EXPIRED)
