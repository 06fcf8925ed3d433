"""The bridge's metrics. What happens is counted from its calls to SLURM and from the events that it tells anyway; what
is so is read when somebody scrapes, from another thread: whole values only.

No label names a client, a worker or one of SLURM's jobs: of those there may be any number.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily

from muster_slurm.errors import Denied, Full, Limited, Oversized, Refused, SettingsError, SlurmError, Unreachable
from muster_slurm.plan import Listing
from muster_slurm.request import Request
from muster_slurm.states import Phase
from muster_slurm.transport import Transport
from muster_telemetry.scraping import Looks, MetricsServer, labelled, new_registry

SUBMIT, LIST, CANCEL, LIMITS = CALLS = ("submit", "list", "cancel", "limits")
DONE = "done"
RESULTS: Mapping[type[SlurmError], str] = {
    Refused: "refused",
    Limited: "limited",
    Oversized: "oversized",
    Full: "full",
    Denied: "denied",
    Unreachable: "unreachable",
}
ENDINGS = ("interrupted", "failed", "givenUp")  # as the plan's news has them
SUBMITTED = "submitted"
_SECONDS = (0.05, 0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120)


@dataclass(frozen=True, slots=True)
class Sights:
    """What is read."""

    workers: int  # wanted
    tasks: Callable[[], Mapping[str, int]]  # by phase
    is_carrying: Callable[[], bool | None]  # the relay; None where the pool's nodes dial by themselves


class BridgeMetrics:
    """One bridge's. `registry` has them all, with these labels."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        inner = new_registry("bridge")
        self.registry = labelled(inner, labels)
        self._inner = inner
        self._calls = Counter(
            "muster_slurm_calls", "What was asked of SLURM, by how it answered.", ("call", "result"), registry=inner
        )
        self._latency = Histogram(
            "muster_slurm_call_seconds",
            "How long SLURM took to answer, or was waited for.",
            ("call",),
            registry=inner,
            buckets=_SECONDS,
        )
        self._listed = Gauge(
            "muster_slurm_listing_timestamp_seconds",
            "When SLURM last listed its jobs, or this bridge started.",
            registry=inner,
        )
        self._submissions = Counter("muster_slurm_submissions", "Array jobs that SLURM has taken.", registry=inner)
        self._ended = Counter(
            "muster_slurm_workers_ended",
            "Workers that ended too early: interrupted and failed ones are submitted again, given up ones aren't.",
            ("how",),
            registry=inner,
        )

        self._listed.set_to_current_time()
        for call, result in itertools.product(CALLS, (DONE, *RESULTS.values())):
            self._calls.labels(call, result)  # so that the first failure shows as a rise
        for how in ENDINGS:
            self._ended.labels(how)

    def told(self, event: Mapping[str, Any]) -> None:
        """The bridge tells people something."""
        if event["what"] == SUBMITTED:
            self._submissions.inc()
        elif event["what"] in ENDINGS:
            self._ended.labels(event["what"]).inc(len(event["slots"]))

    @contextmanager
    def calling(self, call: str) -> Iterator[None]:
        """SLURM is asked meanwhile."""
        began = time.monotonic()
        try:
            yield
        except SlurmError as error:
            self._answered(call, RESULTS[type(error)], began)
            raise
        self._answered(call, DONE, began)
        if call == LIST:
            self._listed.set_to_current_time()

    def _answered(self, call: str, result: str, began: float) -> None:
        self._calls.labels(call, result).inc()
        self._latency.labels(call).observe(time.monotonic() - began)

    def look_at(self, sights: Sights) -> None:
        """From now on, say what is so here."""
        self._inner.register(Looks(partial(_read, sights)))

    def serve(self, address: str) -> MetricsServer:
        """Serve them until that is closed. Raises SettingsError where they can't be served there."""
        try:
            return MetricsServer(address, self.registry)
        except (OSError, ValueError) as error:
            raise SettingsError(f"--metrics {address}: can't be opened: {error}") from error


def _read(sights: Sights) -> Iterator[Metric]:
    yield GaugeMetricFamily("muster_slurm_workers_wanted", "Workers that the pool is to have.", sights.workers)
    tasks = GaugeMetricFamily("muster_slurm_tasks", "The pool's tasks, as SLURM last listed them.", labels=["state"])
    counts = sights.tasks()
    for phase in (each for each in Phase if each is not Phase.ENDED):  # SLURM soon forgets those that have ended
        tasks.add_metric([phase.value], counts.get(phase.value, 0))
    yield tasks
    is_carrying = sights.is_carrying()
    if is_carrying is not None:
        yield GaugeMetricFamily("muster_slurm_relay_carrying", "1 while the pool's relay carries.", is_carrying)


class Metered:
    """A transport whose calls are counted and timed."""

    def __init__(self, transport: Transport, metrics: BridgeMetrics) -> None:
        self._transport = transport
        self._calling = metrics.calling

    def submit(self, request: Request) -> int:
        with self._calling(SUBMIT):
            return self._transport.submit(request)

    def list_jobs(self, prefix: str) -> Listing:
        with self._calling(LIST):
            return self._transport.list_jobs(prefix)

    def cancel(self, job: int) -> None:
        with self._calling(CANCEL):
            self._transport.cancel(job)

    def max_array(self) -> int:
        with self._calling(LIMITS):
            return self._transport.max_array()
