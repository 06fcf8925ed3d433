"""The lobby's metrics, read when somebody scrapes: who is here, what is offered, what was refused. No labels of pools
or workers: their number is for others to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from muster_coordinator.refusals import Refused
from muster_telemetry.scraping import Looks, labelled, new_registry


@dataclass(frozen=True, slots=True)
class Sights:
    """What is read."""

    workers: Callable[[], Mapping[str, int]]  # by what they do
    pools: Callable[[], int]
    offers: Callable[[], int]
    refusals: Callable[[], Mapping[Refused, int]]


class LobbyMetrics:
    """`registry` has them all."""

    def __init__(self, sights: Sights) -> None:
        inner = new_registry("lobby")
        self.registry: CollectorRegistry = labelled(inner, {})
        self._enrolments = Counter("muster_lobby_enrolments", "Certificates made for sites' keys.", registry=inner)
        inner.register(Looks(partial(_read, sights)))

    def enrolled(self) -> None:
        """A certificate was made."""
        self._enrolments.inc()


def _read(sights: Sights) -> Iterator[Metric]:
    workers = GaugeMetricFamily("muster_lobby_workers", "Workers in the lobby.", labels=("activity",))
    for activity, count in sights.workers().items():
        workers.add_metric((activity,), count)
    yield workers
    yield GaugeMetricFamily("muster_lobby_pools", "External pools.", value=sights.pools())
    yield GaugeMetricFamily("muster_lobby_offers", "Jobs that want clients, once for each pool.", value=sights.offers())
    refused = CounterMetricFamily("muster_lobby_calls_refused", "Calls refused, by cause.", labels=("cause",))
    for cause, count in sights.refusals().items():
        if not cause.is_of_an_update:
            refused.add_metric((cause.value,), count)
    yield refused
