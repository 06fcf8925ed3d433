"""A coordinator's metrics, put together: who counts, who is asked, and where Prometheus finds them.

Nothing here is asked before somebody scrapes; what is counted along costs a few additions a call. Every metric carries
the job's namespace and name, so that many coordinators fit into one Prometheus.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc.aio

from muster_coordinator.errors import InputError
from muster_coordinator.metrics.calls import CallWatch
from muster_coordinator.metrics.changes import Change, Tally, changes_of
from muster_coordinator.metrics.families import Families, Look
from muster_coordinator.metrics.gauges import Gauge, gauges_of
from muster_coordinator.metrics.phases import Course, Mark, follow
from muster_coordinator.metrics.traces import TraceWatch
from muster_coordinator.ports import Clock
from muster_coordinator.refusals import Refused
from muster_spec.types import ResolvedJob
from muster_telemetry.scraping import MetricsServer, labelled, new_registry
from muster_telemetry.tracing import round_trace

if TYPE_CHECKING:
    from muster_coordinator.state import JobState
    from muster_telemetry.otel import Tracing

_MARKS = frozenset(Mark)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is asked when somebody scrapes. `state` is None until the driver has begun."""

    state: Callable[[], JobState | None]
    sessions: Callable[[], int]
    uploads: Callable[[], tuple[int, int]]
    events: Callable[[], int]
    bytes_moved: Callable[[], tuple[int, int]]
    refused: Callable[[], Mapping[Refused, int]]
    storage: Path


class Metering:
    """One coordinator's. `registry` has them all."""

    def __init__(self, job: ResolvedJob, clock: Clock, tracing: Tracing | None = None) -> None:
        self._clock = clock
        self._registry = new_registry("coordinator")
        self.registry = labelled(self._registry, {"namespace": job.namespace, "fedjob": job.name})
        self._families = Families(self._registry, [pool.name for pool in job.pools])
        self._tally = Tally()
        self._course = Course()
        self._started = clock.unix()
        self._offset_s = self._started - clock.now()  # one for all, so that spans lie within one another
        self._tracing, self._uid = tracing, job.uid
        self._server: MetricsServer | None = None
        self.calls = CallWatch(self._families.apply, clock.now)

    # --- what the driver does: on its thread --------------------------------------------------------------------------

    def passed(self, mark: Mark, number: int) -> None:
        """The driver is at this place of a round."""
        now = self._clock.now()
        self._course, over = follow(self._course, mark, number, now)
        for one in over:
            phase = one.phase.value
            self._families.apply([Change("muster_round_phase_seconds", one.seconds, (("phase", phase),))])
            if self._tracing is not None:
                times = (one.began + self._offset_s, one.ended + self._offset_s)
                self._tracing.record(phase, round_trace(self._uid, one.round), times, {"muster.round": one.round})

    def told(self, kind: str, details: Mapping[str, object]) -> None:
        """The engine tells people something."""
        self._tally, changes = changes_of(self._tally, kind, details)
        self._families.apply(changes)
        number = details.get("round")
        if kind in _MARKS and isinstance(number, int):
            self.passed(Mark(kind), number)

    def took(self, part: str, seconds: float) -> None:
        """Something was made durable."""
        self._families.apply([Change("muster_checkpoint_seconds", seconds, (("part", part),))])

    # --- what there is: when somebody scrapes -------------------------------------------------------------------------

    def look_at(self, around: Surroundings) -> None:
        """From now on, say what is so here."""
        self._registry.register(Look(lambda: self._gauges(around)))

    def _gauges(self, around: Surroundings) -> Iterator[Gauge]:
        state = around.state()
        if state is not None:
            yield from gauges_of(state, self._started)
        yield Gauge("muster_sessions", around.sessions())
        staged, postponed = around.uploads()
        yield Gauge("muster_uploads_staged", staged)
        yield Gauge("muster_uploads_postponed", postponed)
        yield Gauge("muster_engine_events_waiting", around.events())
        up, down = around.bytes_moved()
        yield Gauge("muster_transfer_bytes", up, (("direction", "up"),))
        yield Gauge("muster_transfer_bytes", down, (("direction", "down"),))
        for cause, count in around.refused().items():
            family = "muster_updates_rejected" if cause.is_of_an_update else "muster_calls_refused"
            yield Gauge(family, count, (("cause", cause.value),))
        room = os.statvfs(around.storage)
        yield Gauge("muster_storage_free_bytes", room.f_bavail * room.f_frsize)
        yield Gauge("muster_storage_size_bytes", room.f_blocks * room.f_frsize)
        yield from self.calls.gauges()

    # --- beginning and end --------------------------------------------------------------------------------------------

    @property
    def interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """What stands before the server's handlers."""
        return [self.calls, *([TraceWatch(self._tracing)] if self._tracing else [])]

    def serve(self, address: str) -> str:
        """Serve them; where. Raises InputError when the port is in use."""
        try:
            self._server = MetricsServer(address, self.registry)
        except OSError as error:
            raise InputError(f"--metrics {address}: can't be opened: {error.strerror}") from error
        return self._server.address

    def close(self) -> None:
        """Serve no more, and send the spans that are left."""
        if self._server:
            self._server.close()
        if self._tracing:
            self._tracing.close()
