"""Who may talk to this coordinator: the token of the job, held against every call before it reaches the service."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio

HEADER = "authorization"

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class TokenCheck(grpc.aio.ServerInterceptor):
    """Refuses every call without `authorization: Bearer <token>`."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()
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
        return self._refusal


async def _refuse(_request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> None:
    await context.abort(
        grpc.StatusCode.UNAUTHENTICATED, "wrong or missing token: this worker was not started for this job"
    )


def server_credentials() -> grpc.ServerCredentials | None:
    """None: a plain port. Whoever listens beyond this machine puts TLS in front of it."""
    return None
