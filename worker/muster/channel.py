"""Channels to one coordinator, each opened with the credentials of its day.

TLS reads a certificate when a channel connects, so a renewed one needs a new channel. Calls that are under way end on
the channel that they began on, except the stream of orders, which begins again on the new one; an old channel is closed
when its last call has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from grpc.experimental import ChannelOptions

from muster.credentials import Credentials, Enrolled, Material
from muster.errors import ConnectionBrokenError, RefusedError, SessionLostError, StaleCertificateError
from muster_wire import keepalive
from muster_wire.frames import FRAME_BYTES, MAX_FRAME_BYTES, message_limit
from muster_wire.v1 import federation_pb2 as wire
from muster_wire.v1.federation_pb2_grpc import FederationStub
from muster_wire.v1.lobby_pb2_grpc import LobbyStub

CALL_S = 20.0  # for calls that are small and answered at once
_LOOKAHEAD_BYTES = 2**22  # of a model that may be under way at once
_LOOPBACK = ("127.", "localhost", "[::1]")
_FINAL = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
}
_HINTS = (
    ("WRONG_VERSION_NUMBER", "it doesn't speak TLS: leave out --ca and --join, or is this another server?"),
    ("certificate has expired", "the coordinator's certificate has to be renewed, or this machine's clock is wrong"),
    ("not yet valid", "this machine's clock is behind, or the coordinator's was ahead when its certificate was made"),
    ("CERTIFICATE_VERIFY_FAILED", "another authority made its certificate: is this the right --ca or join bundle?"),
    ("ostname", "its certificate is for another host: see --server-name"),
    ("eer name", "its certificate is for another host: see --server-name"),
    ("Socket closed", "it hung up: it may want TLS (--ca, --join) or another certificate; its log says which"),
)


class Calls:
    """One channel, and what can be called on it."""

    def __init__(self, address: str, material: Material) -> None:
        self._channel = open_channel(address, material)
        self.stub = FederationStub(self._channel)  # type: ignore[no-untyped-call]
        self.lobby = LobbyStub(self._channel)  # type: ignore[no-untyped-call]
        self.submit = self._channel.stream_stream(
            "/muster.wire.v1.Federation/Submit",
            request_serializer=_as_is,
            response_deserializer=wire.SubmitReply.FromString,
        )
        self.fetch = self._channel.unary_stream(
            "/muster.wire.v1.Federation/Fetch",
            request_serializer=wire.FetchRequest.SerializeToString,
            response_deserializer=_as_is,
        )
        self.is_retired = False
        self.users = 0
        self.hang_up: Callable[[], object] | None = None  # of the stream of orders

    def close(self) -> None:
        self._channel.close()


class Line:
    """The way to one coordinator, whatever its channel is today. Threads may share it."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self._address = address
        self._credentials = credentials
        self._lock = threading.Lock()
        self._renewing = threading.Lock()
        self._calls: Calls | None = None
        self._is_closed = False

    def refresh(self, *, is_forced: bool = False) -> bool:
        """Renew the credentials if that is due or asked for, and open a channel with them. True if they are others now.

        Raises:
            RefusedError: this worker gets no certificate, and that won't change.
            ConnectionBrokenError: not now.
        """
        with self._renewing:
            is_new = (is_forced or self._credentials.is_due()) and self._credentials.renew()
            if is_new or self._calls is None:
                self._replace(Calls(self._address, self._credentials.material()))
            return is_new

    def _replace(self, calls: Calls) -> None:
        with self._lock:
            old, self._calls = self._calls, calls
        if self._is_closed:
            calls.close()
        if old is not None:
            self._retire(old)

    def _retire(self, calls: Calls) -> None:
        with self._lock:
            calls.is_retired = True
            is_idle = calls.users == 0
        if calls.hang_up is not None:
            calls.hang_up()
        if is_idle:
            calls.close()

    @contextmanager
    def calls(self) -> Iterator[Calls]:
        """Today's channel, which stays open until this is left."""
        with self._lock:
            calls = self._calls
            if calls is None:
                raise ConnectionBrokenError(f"not connected to {self._address}")
            calls.users += 1
        try:
            yield calls
        finally:
            with self._lock:
                calls.users -= 1
                is_over = calls.is_retired and calls.users == 0
            if is_over:
                calls.close()

    def close(self) -> None:
        """Close it, and everything that is under way."""
        self._is_closed = True
        with self._lock:
            calls = self._calls
        if calls is not None:
            calls.close()


def enrol(address: str, material: Material, request: bytes, who: str = "coordinator") -> Enrolled:
    """Have a key certified, over a channel of its own. Raises RefusedError and ConnectionBrokenError."""
    calls = Calls(address, material)
    try:
        reply = calls.stub.Enrol(wire.EnrolRequest(request=request), timeout=CALL_S)
    except grpc.RpcError as error:
        raise explain(error, address, joining=True, who=who) from error
    finally:
        calls.close()
    return Enrolled(reply.chain, reply.authorities)


def open_channel(address: str, material: Material) -> grpc.Channel:
    """A channel that notices a dead peer and comes back quickly."""
    limit = message_limit(MAX_FRAME_BYTES)
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
        ("grpc.http2.lookahead_bytes", _LOOKAHEAD_BYTES),
        ("grpc.http2.max_frame_size", FRAME_BYTES),
        *keepalive.CLIENT_OPTIONS,
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 5_000),  # which is how long connecting may take: some are far away
        ("grpc.max_reconnect_backoff_ms", 5_000),
        # Whoever reads a stream of ours waits for nothing else: it needs no other thread to wake it for each message.
        (ChannelOptions.SingleThreadedUnaryStream, 1),
    ]
    if address.startswith(_LOOPBACK):
        options.append(("grpc.enable_http_proxy", 0))
    if material.ca is None:
        return grpc.insecure_channel(address, options=options)
    if material.server_name:
        options.append(("grpc.ssl_target_name_override", material.server_name))
    key, chain = (material.pair.key, material.pair.chain) if material.pair else (None, None)
    credentials = grpc.ssl_channel_credentials(material.ca, key, chain)
    return grpc.secure_channel(address, credentials, options=options)


def explain(
    error: Any, address: str, *, joining: bool, who: str = "coordinator"
) -> ConnectionBrokenError | RefusedError:
    """One of our errors for one of grpc's (a `grpc.RpcError` that is a call)."""
    code, details, place = error.code(), error.details() or "no details", f"the {who} at {address}"
    if joining and code is grpc.StatusCode.UNAUTHENTICATED:
        if "token" in details:
            return RefusedError(f"{place} refuses this worker's token: {details}; check MUSTER_TOKEN")
        return StaleCertificateError(f"{place} refuses this worker: {details}")
    if joining and code in _FINAL:
        return RefusedError(f"{place} refuses this worker: {details}")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return SessionLostError(f"{place} has closed this session: {details}")
    hint = next((f" ({hint})" for words, hint in _HINTS if words in details), "")
    return ConnectionBrokenError(f"{place}: {code.name.lower().replace('_', ' ')}: {details}{hint}")


def _as_is(message: bytes) -> bytes:
    return message
