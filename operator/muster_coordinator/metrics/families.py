"""The coordinator's metrics by name: their kind, what they say, and their labels. The only module that declares any.

Names follow Prometheus's rules: base units, `_total` for what only grows (added by the client library).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from muster_coordinator.metrics.changes import Change
from muster_coordinator.metrics.gauges import Gauge

SHORT_S: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300)
LONG_S: Final = (0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)

COUNTERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "muster_rounds_committed": ("Rounds that are over for good; the first model is none.", ()),
    "muster_round_attempts_failed": ("Attempts at a round that came to nothing, or ran into their deadline.", ()),
    "muster_clients_joined": ("Clients that a worker came for.", ("pool",)),
    "muster_clients_lost": ("Clients whose worker went silent or left.", ("pool",)),
    "muster_clients_asked": ("Places in cohorts: clients asked to train.", ("pool",)),
    "muster_clients_failed": ("Clients that had nothing to offer: refused, lost, or their task raised.", ("pool",)),
    "muster_stragglers": ("Clients asked that had neither sent nor failed when their round closed.", ("pool",)),
    "muster_updates_received": ("Updates that arrived whole and passed every check.", ("pool",)),
    "muster_updates_used": ("Updates that are part of a committed model.", ()),
    "muster_update_bytes": ("Bytes of received updates, as they were encoded.", ("pool",)),
    "muster_warnings": ("Odd things that were told, and are in the log.", ()),
    "muster_calls": ("Calls of workers that have ended.", ("method", "code")),
}
HISTOGRAMS: Final[Mapping[str, tuple[str, tuple[str, ...], tuple[float, ...]]]] = {
    "muster_round_seconds": ("From the orders of a round to its commit.", (), LONG_S),
    "muster_round_phase_seconds": ("How long a phase of a round took.", ("phase",), LONG_S),
    "muster_client_train_seconds": ("How long clients say that they trained.", ("pool",), LONG_S),
    "muster_checkpoint_seconds": ("How long it took to make a record or a model durable.", ("part",), SHORT_S),
    "muster_transfer_seconds": ("How long a model or an update was on its way.", ("direction",), LONG_S),
}
GAUGES: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "muster_round": ("The round that is worked on.", ()),
    "muster_round_committed": ("The newest round that is over.", ()),
    "muster_rounds_target": ("Rounds that the job is to have.", ()),
    "muster_round_deadline_seconds": ("How long a round may collect.", ()),
    "muster_clients_needed": ("Clients without which there is no round.", ()),
    "muster_progress_timestamp_seconds": ("When a round was last committed, or this coordinator started.", ()),
    "muster_round_phase": ("1 for the phase that the job is in.", ("phase",)),
    "muster_clients": ("Clients with a worker, in the queue of a batch system, and with neither.", ("pool", "state")),
    "muster_cohort_clients": ("The cohort of the round that is worked on, by how far each is.", ("pool", "state")),
    "muster_model_score": (
        "What was last measured: training (as clients say), central (on the test set), federated (on held-out data).",
        ("on", "metric"),
    ),
    "muster_calls_in_flight": ("Calls of workers that are open now.", ("method",)),
    "muster_sessions": ("Workers that are connected, or lately were.", ()),
    "muster_uploads_staged": ("Updates that have begun to arrive and are not summed yet.", ()),
    "muster_engine_events_waiting": ("Events that the engine has not seen yet.", ()),
    "muster_storage_free_bytes": ("Room that is left where history and models are kept.", ()),
    "muster_storage_size_bytes": ("Size of the file system that history and models are kept on.", ()),
}
READ_COUNTERS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "muster_updates_rejected": ("Updates, or offers of one, that were refused, by cause.", ("cause",)),
    "muster_calls_refused": ("Calls that were refused before they came to anything, by cause.", ("cause",)),
    "muster_uploads_postponed": ("Times that an update was put off, as there was no room for it.", ()),
    "muster_transfer_bytes": ("Bytes of models (down) and updates (up) that crossed the wire.", ("direction",)),
}


class Families:
    """What is counted along. What is counted by pool begins with zero for each, so that the first shows as a rise."""

    def __init__(self, registry: CollectorRegistry, pools: Iterable[str]) -> None:
        self._counters = {
            name: Counter(name, about, labels, registry=registry) for name, (about, labels) in COUNTERS.items()
        }
        self._histograms = {
            name: Histogram(name, about, labels, registry=registry, buckets=buckets)
            for name, (about, labels, buckets) in HISTOGRAMS.items()
        }

        by_pool = [name for name, (_, labels) in COUNTERS.items() if labels == ("pool",)]
        for name, pool in itertools.product(by_pool, pools):
            self._counters[name].labels(pool)

    def apply(self, changes: Iterable[Change]) -> None:
        """Carry changes out. Safe from any thread."""
        for change in changes:
            if change.family in self._histograms:
                self._observe(self._histograms[change.family], change)
            else:
                self._add(self._counters[change.family], change)

    def _observe(self, histogram: Histogram, change: Change) -> None:
        (histogram.labels(**dict(change.labels)) if change.labels else histogram).observe(change.amount)

    def _add(self, counter: Counter, change: Change) -> None:
        (counter.labels(**dict(change.labels)) if change.labels else counter).inc(change.amount)


class Look(Collector):
    """What is read when somebody asks: gauges, and counts that are kept elsewhere."""

    def __init__(self, read: Callable[[], Iterable[Gauge]]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        """Names, without reading anything: there may be nothing to read yet."""
        return [*(_gauge(name) for name in GAUGES), *(_counter(name) for name in READ_COUNTERS)]

    def collect(self) -> Iterator[Metric]:
        found: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}
        for gauge in self._read():
            name = gauge.family
            family = found.setdefault(name, _counter(name) if name in READ_COUNTERS else _gauge(name))
            family.add_metric([value for _, value in gauge.labels], gauge.value)
        yield from found.values()


def _gauge(name: str) -> GaugeMetricFamily:
    about, labels = GAUGES[name]
    return GaugeMetricFamily(name, about, labels=labels)


def _counter(name: str) -> CounterMetricFamily:
    about, labels = READ_COUNTERS[name]
    return CounterMetricFamily(name, about, labels=labels)
