"""The one port of the system: a gRPC server with the limits and keepalives that hold on bad networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from muster_coordinator.access import Access
from muster_coordinator.errors import InputError
from muster_coordinator.federation import SERVICE, Federation
from muster_wire import keepalive
from muster_wire.frames import message_limit

_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second coordinator
    ("grpc.max_concurrent_streams", 256),  # of one connection
    # Windows that grow with a fast network hold megabytes for each client: here they have room for one frame.
    ("grpc.http2.bdp_probe", 0),
    *keepalive.SERVER_OPTIONS,
)


@dataclass(frozen=True, slots=True)
class ConnectionAge:
    """How long a connection under TLS may live, so that none goes on for days with what its handshake checked.

    After `age_s` (give or take a tenth) calls begin on a new connection; those that are open have `grace_s` to end.
    What is cut then goes on where it was: transfers resume, and workers listen again.
    """

    age_s: float = 1800.0
    grace_s: float = 600.0

    @property
    def options(self) -> tuple[tuple[str, int], ...]:
        """As grpc wants it."""
        return (
            ("grpc.max_connection_age_ms", round(1000 * self.age_s)),
            ("grpc.max_connection_age_grace_ms", round(1000 * self.grace_s)),
        )


def build_server(
    access: Access, age: ConnectionAge, frame_bytes: int, before: Sequence[grpc.aio.ServerInterceptor] = ()
) -> grpc.aio.Server:
    """A server without a port or a service yet. Those `before` see every call before the door does."""
    limit = message_limit(frame_bytes)
    sizes = (
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
        ("grpc.http2.lookahead_bytes", frame_bytes),
        ("grpc.http2.max_frame_size", frame_bytes),  # else 16 KiB, each with its price
    )
    ages = age.options if access.certificates else ()
    return grpc.aio.server(interceptors=(*before, *access.interceptors), options=(*_OPTIONS, *sizes, *ages))


def bind(server: grpc.aio.Server, address: str, access: Access) -> str:
    """Take the port, and say which it is. Raises InputError when it is in use or not this machine's."""
    try:
        if access.certificates is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, access.certificates.credentials())
    except RuntimeError as error:
        raise InputError(
            f"--listen {address}: can't be opened; another process may have this port, or the host isn't this machine"
        ) from error
    host, _, _ = address.rpartition(":")
    return f"{host}:{port}"


def add_federation(server: grpc.aio.Server, federation: Federation) -> None:
    """The service, with its handlers."""
    server.add_generic_rpc_handlers((federation.handlers(),))


async def add_health(server: grpc.aio.Server) -> health.HealthServicer:
    """The standard health service: SERVING as a whole and for our service, until it is told to say goodbye."""
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    for name in ("", SERVICE):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)
    return servicer
