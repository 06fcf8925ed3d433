"""Stands before every handler of the Federation service, and counts: calls open, calls ended by code, transfer times.

It is the outermost interceptor, so that calls which the door refuses are counted too.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import grpc
import grpc.aio

from muster_coordinator.interception import Behaviour, Context, Handler, wrapped
from muster_coordinator.metrics.changes import Change
from muster_coordinator.metrics.gauges import Gauge

SERVICE: Final = "/muster.wire.v1.Federation/"
METHODS: Final = frozenset({"Join", "Listen", "Fetch", "Submit", "HandIn", "Report", "Beat", "Enrol"})
TRANSFERS: Final = {"Fetch": "down", "Submit": "up", "HandIn": "up"}
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class CallWatch(grpc.aio.ServerInterceptor):
    """Counts on the server's loop."""

    def __init__(self, apply: Callable[[list[Change]], None], now: Callable[[], float]) -> None:
        self._apply = apply
        self._now = now
        self._open: Counter[str] = Counter()

    def gauges(self) -> Iterator[Gauge]:
        """How many calls are open, of every method."""
        for method in sorted(METHODS):
            yield Gauge("muster_calls_in_flight", self._open[method], (("method", method),))

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method.removeprefix(SERVICE)
        if handler is None or method not in METHODS:
            return handler
        return wrapped(handler, lambda behaviour: self._watched(method, behaviour))

    def _watched(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def watched(request: Any, context: Context) -> Any:
            began = self._now()
            self._open[method] += 1
            code = "UNKNOWN"
            try:
                answer = await behaviour(request, context)
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except grpc.aio.AbortError:
                code = code_of(context)
                raise
            else:
                code = code_of(context)
                return answer
            finally:
                self._open[method] -= 1
                self._ended(method, code, self._now() - began)

        return watched

    def _ended(self, method: str, code: str, seconds: float) -> None:
        changes = [Change("muster_calls", 1, (("method", method), ("code", code)))]
        if method in TRANSFERS and code == "OK":
            changes.append(Change("muster_transfer_seconds", seconds, (("direction", TRANSFERS[method]),)))
        self._apply(changes)


def code_of(context: Context) -> str:
    """How a call has ended, as gRPC calls it."""
    code: Any = context.code()
    return _CODES.get(code, "UNKNOWN") if isinstance(code, int) else (code.name if code else "OK")
