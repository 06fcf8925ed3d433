"""Where Prometheus finds a process's metrics: a small HTTP server of its own, on a port of its own.

Each process makes one registry, gives it to whatever measures something, and serves it here. Nothing is registered
anywhere else, so two coordinators in one test don't meet.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

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


@contextmanager
def serving(address: str, registry: CollectorRegistry) -> Iterator[str]:
    """Serve /metrics until this is left; yields where. Port 0 takes any one.

    Raises AddressError, and OSError where the port is taken or the host isn't this machine.
    """
    host, port = parse_address(address)
    server, thread = start_http_server(port, host, registry)
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
