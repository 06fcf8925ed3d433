"""Stands before the handlers of transfers, and makes each a span under the one that its worker's metadata names.

What a worker says there is no more than a name to be found under. It is parsed by its grammar, and whoever makes one up
only misplaces spans of its own calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from muster_coordinator.interception import Behaviour, Context, Handler, wrapped
from muster_coordinator.metrics.calls import SERVICE, TRANSFERS

if TYPE_CHECKING:
    from muster_telemetry.otel import Tracing


class TraceWatch(grpc.aio.ServerInterceptor):
    """Stands behind the door: calls that are refused are no transfers."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method.removeprefix(SERVICE)
        if handler is None or method not in TRANSFERS:
            return handler
        metadata = tuple(handler_call_details.invocation_metadata or ())
        return wrapped(handler, lambda behaviour: self._traced(method, metadata, behaviour))

    def _traced(self, method: str, metadata: Any, behaviour: Behaviour) -> Behaviour:
        async def traced(request: Any, context: Context) -> Any:
            parent = self._tracing.carried(metadata)
            with self._tracing.span(f"serve {method.lower()}", parent, {"rpc.method": method}):
                return await behaviour(request, context)

        return traced
