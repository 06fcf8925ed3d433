"""The one port of the system: a gRPC server with the limits and keepalives that hold on bad networks."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import grpc.aio

from muster_coordinator.access import TokenCheck, server_credentials
from muster_coordinator.errors import InputError
from muster_coordinator.federation import Federation
from muster_coordinator.limits import FRAME_BYTES
from muster_wire.frames import message_limit

_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second coordinator
    ("grpc.max_receive_message_length", message_limit(FRAME_BYTES)),
    ("grpc.max_send_message_length", message_limit(FRAME_BYTES)),
    ("grpc.max_concurrent_streams", 256),  # of one connection
    # Windows that grow with a fast network hold megabytes for each client; a read of one frame opens what it needs.
    ("grpc.http2.bdp_probe", 0),
    # NAT gateways forget a silent connection after some minutes, some after one; workers ping as well.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)


def build_server(token: str) -> grpc.aio.Server:
    """A server without a port or a service yet."""
    return grpc.aio.server(interceptors=(TokenCheck(token),), options=_OPTIONS)


def bind(server: grpc.aio.Server, address: str) -> str:
    """Take the port, and say which it is. Raises InputError when it is in use or not this machine's."""
    credentials = server_credentials()
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise InputError(
            f"--listen {address}: can't be opened; another process may have this port, or the host isn't this machine"
        ) from error
    host, _, _ = address.rpartition(":")
    return f"{host}:{port}"


def add_federation(server: grpc.aio.Server, federation: Federation) -> None:
    """The one service, with its handlers."""
    server.add_generic_rpc_handlers((federation.handlers(),))
