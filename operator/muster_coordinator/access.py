"""Who may talk to this coordinator, put together: checks that stand before every service, and the port's credentials.

The token of the job, where there is one, is held against every call; certificates, where there are any, are guard.py's.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
import grpc.aio

from muster_coordinator.admission import JobAdmission
from muster_coordinator.denylist import DenyList
from muster_coordinator.enrolment import Enrolment
from muster_coordinator.external import AuthorityFile, ExternalPools
from muster_coordinator.guard import Anybody, Guard
from muster_coordinator.ports import Clock
from muster_coordinator.refusals import Refusals, Refused
from muster_coordinator.security import Security
from muster_coordinator.tls import JobRoots, ServerCertificates, read_authority

HEADER = "authorization"

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class TokenCheck(grpc.aio.ServerInterceptor):
    """Refuses every call without `authorization: Bearer <token>`."""

    def __init__(self, token: str, refusals: Refusals) -> None:
        self._expected = f"Bearer {token}".encode()
        self._refusals = refusals
        self._refusal: Handler = grpc.unary_unary_rpc_method_handler(_refuse)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        metadata = dict(handler_call_details.invocation_metadata or ())
        given = metadata.get(HEADER, "")
        if hmac.compare_digest(given if isinstance(given, bytes) else given.encode(), self._expected):
            return await continuation(handler_call_details)
        self._refusals.count(Refused.WRONG_TOKEN)
        return self._refusal


async def _refuse(_request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(
        grpc.StatusCode.UNAUTHENTICATED, "wrong or missing token: this worker was not started for this job"
    )


@dataclass(frozen=True, slots=True)
class Access:
    """The door of one coordinator."""

    token: TokenCheck | None
    guard: Guard | None
    enrolment: Enrolment
    certificates: ServerCertificates | None  # None: a plain port
    refusals: Refusals
    external: ExternalPools

    @property
    def interceptors(self) -> tuple[grpc.aio.ServerInterceptor, ...]:
        """Cheapest first."""
        return tuple(check for check in (self.token, self.guard) if check is not None)


def open_access(security: Security, realm: str, clock: Clock, external: ExternalPools | None = None) -> Access:
    """Read what the settings name. Raises InputError for files that can't be used."""
    refusals, external = Refusals(), external or ExternalPools()
    guard, roots = None, None
    if security.tls and security.tls.client_ca:
        own = AuthorityFile(("--client-ca", security.tls.client_ca))
        admission = JobAdmission(realm, DenyList(security.deny_list), clock, own.current, external)
        guard, roots = Guard(admission, refusals), JobRoots(security.tls.client_ca, external)
    files = security.enrolment
    authority = read_authority(files) if files else None
    return Access(
        token=TokenCheck(security.token, refusals) if security.token else None,
        guard=guard,
        enrolment=Enrolment(realm, guard or Anybody(), clock, refusals, authority, files.valid_s if files else 0.0),
        certificates=ServerCertificates(security.tls, clock, roots) if security.tls else None,
        refusals=refusals,
        external=external,
    )
