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
from functools import lru_cache
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio

from muster_coordinator.admission import Admission, Refusal, denied
from muster_coordinator.interception import Behaviour, Context, Handler, wrapped
from muster_coordinator.refusals import Refusals, Refused
from muster_wire.errors import TrustError
from muster_wire.trust.certificate import Certificate, read_certificate

log = logging.getLogger("muster.coordinator")

SWEEP_S = 1.0

_read = lru_cache(maxsize=4096)(read_certificate)


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

    def __init__(self, admission: Admission, refusals: Refusals) -> None:
        self._admission = admission
        self._refusals = refusals
        self._open: dict[asyncio.Timeout, tuple[Certificate, str]] = {}

    def certificate(self, context: Context) -> Certificate:
        """The caller's, which TLS has verified. Raises TrustError for one that isn't a worker's."""
        given = context.auth_context().get("x509_pem_cert")
        if not given:
            raise TrustError("no certificate came with this call")
        return _read(next(iter(given)))

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
            return await self._refuse(self._admission.refusal(certificate, method) or _MOVE_ON, context)

        return guarded

    async def _admit(self, context: Context, method: str) -> Certificate:
        try:
            certificate = self.certificate(context)
        except TrustError as error:
            return await self._refuse(denied(error.reason), context)
        refusal = self._admission.refusal(certificate, method)
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
            if self._admission.refusal(certificate, method):
                scope.reschedule(asyncio.get_running_loop().time())


_MOVE_ON = Refusal(grpc.StatusCode.UNAUTHENTICATED, "this certificate no longer holds: enrol again", Refused.EXPIRED)
