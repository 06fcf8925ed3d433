"""Where Prometheus finds a process's metrics: a small HTTP server of its own, on a port of its own.

Each process makes one registry, gives it to whatever measures something, and serves it here. Nothing is registered
anywhere else, so two coordinators in one test don't meet.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from types import TracebackType
from typing import Self

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    Metric,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.registry import Collector

from muster_telemetry.address import parse_address


def new_registry(component: str) -> CollectorRegistry:
    """A registry that knows the process: its memory, its processor time, and what is built into it."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    build = Info("muster_build", "What this process is made of.", registry=registry)
    build.info({"component": component, "version": version("muster"), "python": platform.python_version()})
    return registry


class _Labelled(Collector):
    """All that another registry has, with more labels, and without `_created`: a second series for each that counts."""

    def __init__(self, registry: CollectorRegistry, labels: Mapping[str, str]) -> None:
        self._registry = registry
        self._labels = labels

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            kept = (each for each in metric.samples if not each.name.endswith("_created"))
            metric.samples = [each._replace(labels={**self._labels, **each.labels}) for each in kept]
            yield metric


class Looks(Collector):
    """Metrics of what is so, read when somebody scrapes, and not when it is registered."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        yield from self._read()


def labelled(registry: CollectorRegistry, labels: Mapping[str, str]) -> CollectorRegistry:
    """The same metrics with labels that say whose they are."""
    outer = CollectorRegistry()
    outer.register(_Labelled(registry, labels))
    return outer


class MetricsServer:
    """Serves /metrics from when it is made until it is closed. Port 0 takes any one.

    Raises AddressError, and OSError where the port is taken or the host isn't this machine.
    """

    def __init__(self, address: str, registry: CollectorRegistry) -> None:
        host, port = parse_address(address)
        self._server, self._thread = start_http_server(port, host.strip("[]"), registry)
        self.address = f"{host}:{self._server.server_port}"

    def close(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
