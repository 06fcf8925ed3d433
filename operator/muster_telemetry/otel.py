"""Spans by OpenTelemetry's SDK. Imported only where traces are wanted: see tracing.py, which says what they mean."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from muster_telemetry.tracing import RoundTrace

_NS = 1_000_000_000


def start(component: str, attributes: Mapping[str, str]) -> Tracing:
    """Spans to the endpoint that the environment names, as what the environment adds."""
    ids = FixedIds()
    resource = Resource.create({"service.name": f"muster-{component}", **attributes})
    provider = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider, ids)


class Tracing:
    """One process's spans. Threads may share it; close it, which sends what is left."""

    def __init__(self, provider: TracerProvider, ids: FixedIds) -> None:
        self._provider = provider
        self._ids = ids
        self._tracer = provider.get_tracer("muster")

    @contextmanager
    def span(self, name: str, parent: Context | None, attributes: Mapping[str, AttributeValue]) -> Iterator[None]:
        """What is done meanwhile, under this parent, else under what is being done already."""
        with self._tracer.start_as_current_span(name, context=parent, attributes=attributes):
            yield

    def within(self, trace: RoundTrace) -> Context | None:
        """The parent for what is done first in a round; None within something that is being done already."""
        if api.get_current_span().get_span_context().is_valid:
            return None
        return _context_of(trace)

    def record(
        self, name: str, trace: RoundTrace, times: tuple[float, float], attributes: Mapping[str, AttributeValue]
    ) -> None:
        """Something of a round that is over; the round itself if that is its name. Times are Unix seconds."""
        began, ended = (round(time * _NS) for time in times)
        if name == "round":
            with self._ids.fixed(trace):
                span = self._tracer.start_span(name, Context(), start_time=began, attributes=attributes)
        else:
            span = self._tracer.start_span(name, _context_of(trace), start_time=began, attributes=attributes)
        span.end(ended)

    def carry(self) -> tuple[tuple[str, str], ...]:
        """Metadata for a call that belongs to what is being done now."""
        headers: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(headers)
        return tuple(headers.items())

    def carried(self, metadata: Sequence[tuple[str, str | bytes]]) -> Context:
        """The parent that a call's metadata names, if they do; whatever else is there is no parent."""
        headers = {name: value for name, value in metadata if isinstance(value, str)}
        return TraceContextTextMapPropagator().extract(headers, Context())

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        self._provider.force_flush(3000)
        self._provider.shutdown()


class FixedIds(IdGenerator):
    """Random ids, as OpenTelemetry makes them, but for those that are fixed for a moment."""

    def __init__(self) -> None:
        self._random = RandomIdGenerator()
        self._fixed = threading.local()

    @contextmanager
    def fixed(self, trace: RoundTrace) -> Iterator[None]:
        """A span that is begun meanwhile, by this thread, has these."""
        self._fixed.trace = trace
        try:
            yield
        finally:
            self._fixed.trace = None

    def generate_trace_id(self) -> int:
        fixed: RoundTrace | None = getattr(self._fixed, "trace", None)
        return fixed.trace_id if fixed else self._random.generate_trace_id()

    def generate_span_id(self) -> int:
        fixed: RoundTrace | None = getattr(self._fixed, "trace", None)
        return fixed.span_id if fixed else self._random.generate_span_id()


def _context_of(trace: RoundTrace) -> Context:
    flags = api.TraceFlags(api.TraceFlags.SAMPLED)
    parent = api.SpanContext(trace.trace_id, trace.span_id, is_remote=True, trace_flags=flags)
    return api.set_span_in_context(api.NonRecordingSpan(parent), Context())
