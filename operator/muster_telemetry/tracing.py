"""Traces, for OpenTelemetry, where an endpoint for them is set; where not, nothing is imported and nothing is made.

One trace a round. Its ids follow from the job's uid and the round's number, so coordinator and workers name the same
trace without a word about it, and a coordinator that starts again goes on in it. What a worker asks for within it is
said with each call, in the header that W3C's Trace Context names: so the coordinator's end of a transfer is found under
the worker's.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from muster_telemetry.otel import Tracing

log = logging.getLogger(__name__)

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


@dataclass(frozen=True, slots=True)
class RoundTrace:
    """The ids of one round's trace and of its outermost span."""

    trace_id: int
    span_id: int


def round_trace(job_uid: str, number: int) -> RoundTrace:
    """The same for whoever asks."""
    digest = hashlib.blake2b(f"{job_uid}/{number}".encode(), digest_size=24).digest()
    return RoundTrace(int.from_bytes(digest[:16], "big") or 1, int.from_bytes(digest[16:], "big") or 1)


def open_tracing(
    component: str, attributes: Mapping[str, str], environment: Mapping[str, str] = os.environ
) -> Tracing | None:
    """Where an endpoint is set; what else OpenTelemetry's own variables say is obeyed, too."""
    if not any(environment.get(name) for name in ENDPOINTS) or environment.get("OTEL_SDK_DISABLED") == "true":
        return None
    try:
        from muster_telemetry.otel import start
    except ImportError as error:
        log.warning("no traces, though %s is set: install muster[tracing] (%s)", ENDPOINTS[0], error)
        return None
    return start(component, attributes)
