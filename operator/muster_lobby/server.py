"""The lobby's port: a gRPC server for many connections that are silent nearly all the time."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import grpc.aio

from muster_coordinator.errors import InputError
from muster_coordinator.guard import Guard
from muster_coordinator.server import ConnectionAge
from muster_coordinator.tls import ServerCertificates
from muster_wire import keepalive

MAX_REQUEST_BYTES = 256 * 1024
_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", 16),  # of one connection: a worker needs two
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.http2.bdp_probe", 0),
    *keepalive.SERVER_OPTIONS,
    *ConnectionAge().options,
)


def build_server(guard: Guard, handlers: tuple[grpc.GenericRpcHandler, ...]) -> grpc.aio.Server:
    """A server without a port yet. The guard stands before every call."""
    server = grpc.aio.server(interceptors=(guard,), options=_OPTIONS)
    server.add_generic_rpc_handlers(handlers)
    return server


def bind(server: grpc.aio.Server, address: str, certificates: ServerCertificates) -> str:
    """Take the port, and say which it is. Raises InputError when it is in use or not this machine's."""
    try:
        port = server.add_secure_port(address, certificates.credentials())
    except RuntimeError as error:
        raise InputError(f"--listen {address}: can't be opened; is another process there?") from error
    return f"{address.rpartition(':')[0]}:{port}"
