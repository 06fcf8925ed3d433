"""The operator's metrics. What it does is counted along; what there is (queue, jobs, watches) is read at each scrape.

Jobs are labelled with namespace and name, and read off the watched objects: a job that is gone leaves nothing behind.
"""

from __future__ import annotations

import itertools
from collections import Counter as Count
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from prometheus_client import Counter, Histogram, Metric
from prometheus_client.core import GaugeMetricFamily

from muster_operator.queue import JobKey, Standing
from muster_telemetry.scraping import Looks, labelled, new_registry

_RECONCILE_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30)
_REQUEST_S = (0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30)
KINDS = ("FederatedJob", "ClientPool")
RESULTS = ("done", "refused", "fault")
PHASES = ("Pending", "Starting", "Running", "Suspended", "Complete", "Failed")


@dataclass(frozen=True, slots=True)
class Sights:
    """What is read when somebody scrapes."""

    is_leading: Callable[[], bool]
    queues: Callable[[], Mapping[str, Standing]]  # by kind
    phases: Callable[[], Mapping[JobKey, str]]
    silences: Callable[[], Mapping[str, float]]


class OperatorMetrics:
    """One operator's. `registry` has them all."""

    def __init__(self) -> None:
        inner = new_registry("operator")
        self.registry = labelled(inner, {})
        self._inner = inner
        self._reconciles = Histogram(
            "muster_operator_reconcile_seconds",
            "Passes over one object, by how they ended.",
            ("kind", "result"),
            registry=inner,
            buckets=_RECONCILE_S,
        )
        self._requests = Counter(
            "muster_operator_api_requests",
            "Requests to the API server, by its answer; code 0: there was none. kopf's watches are not among them.",
            ("verb", "resource", "code"),
            registry=inner,
        )
        self._latency = Histogram(
            "muster_operator_api_request_seconds",
            "How long the API server took to answer.",
            ("verb",),
            registry=inner,
            buckets=_REQUEST_S,
        )
        self._retries = Counter(
            "muster_operator_api_retries", "Requests sent again as the server was busy or away.", registry=inner
        )

        for kind, result in itertools.product(KINDS, RESULTS):  # so that the first failure shows as a rise
            self._reconciles.labels(kind, result)

    def reconciled(self, kind: str, result: str, seconds: float) -> None:
        """A pass has ended."""
        self._reconciles.labels(kind, result).observe(seconds)

    def answered(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """The API server has answered, or hasn't: code 0."""
        self._requests.labels(verb, resource, str(code)).inc()
        self._latency.labels(verb).observe(seconds)

    def retried(self) -> None:
        """A request is sent again."""
        self._retries.inc()

    def look_at(self, sights: Sights) -> None:
        """From now on, say what is so here."""
        self._inner.register(Looks(partial(_read, sights)))


def _read(sights: Sights) -> Iterator[Metric]:
    yield _gauge("muster_operator_leading", "1 while this operator holds the lease.", sights.is_leading())
    yield from _queues(sights.queues())
    watches = GaugeMetricFamily(
        "muster_operator_watch_silence_seconds",
        "Since a watch was last opened; each is opened anew every half minute.",
        labels=["kind"],
    )
    for kind, seconds in sights.silences().items():
        watches.add_metric([kind], seconds)
    yield watches
    yield from _jobs(sights.phases())


def _queues(standings: Mapping[str, Standing]) -> Iterator[Metric]:
    depth = GaugeMetricFamily("muster_operator_queue_objects", "What is to be looked at.", labels=["kind", "state"])
    oldest = GaugeMetricFamily(
        "muster_operator_queue_oldest_seconds", "For how long the one that waits longest has been due.", labels=["kind"]
    )
    for kind, standing in standings.items():
        for state, count in (("due", standing.due), ("later", standing.later), ("busy", standing.busy)):
            depth.add_metric([kind, state], count)
        oldest.add_metric([kind], standing.oldest_s)
    yield depth
    yield oldest


def _jobs(phases: Mapping[JobKey, str]) -> Iterator[Metric]:
    counts = Count(phases.values())
    jobs = GaugeMetricFamily("muster_operator_jobs", "FederatedJobs by phase.", labels=["phase"])
    for phase in (*PHASES, *sorted(counts.keys() - set(PHASES))):
        jobs.add_metric([phase], counts[phase])
    yield jobs
    each = GaugeMetricFamily("muster_job_phase", "1 for the phase of a job.", labels=["namespace", "fedjob", "phase"])
    for (namespace, name), phase in sorted(phases.items()):
        each.add_metric([namespace, name, phase], 1)
    yield each


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(name, about, value=value)
