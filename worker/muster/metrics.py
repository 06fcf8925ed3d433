"""A worker's metrics: what it did, how long that took, and how it ended. Imported only where they are to be served."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from muster.orders import Assignment
from muster.witness import Tacit
from muster_telemetry.scraping import labelled, new_registry

_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)


class WorkerMetrics(Tacit):
    """A witness that counts. `registry` has all that it knows, with these labels."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        inner = new_registry("worker")
        self.registry = labelled(inner, labels)
        self._work = Histogram(
            "muster_worker_work_seconds",
            "What this worker did (fetch is a part of the others) and whether it got to its end.",
            ("work", "result"),
            registry=inner,
            buckets=_SECONDS,
        )
        self._now = Gauge("muster_worker_working", "1 for what this worker is doing.", ("work",), registry=inner)
        self._settled = Counter(
            "muster_worker_updates_settled", "Updates by whether their round used them.", ("used",), registry=inner
        )

    @contextmanager
    def doing(self, what: str, assignment: Assignment) -> Iterator[None]:  # noqa: ARG002 - clients are no label
        began, result = time.monotonic(), "broken"
        self._now.labels(what).set(1)
        try:
            yield
            result = "done"
        finally:
            self._now.labels(what).set(0)
            self._work.labels(what, result).observe(time.monotonic() - began)

    def settled(self, *, used: bool) -> None:
        self._settled.labels("true" if used else "false").inc()
