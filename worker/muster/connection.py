"""The worker's end of the wire: six calls, all made by the worker, each turned into values or into one of our errors.

A call that fails in a way that waiting may cure raises `ConnectionBrokenError`; one for which it can't, `RefusedError`.
Transfers go on at the byte where they broke, in both directions. This is the only module that imports grpc.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from muster.errors import ConnectionBrokenError, RefusedError, SessionLostError
from muster.orders import Orders, parse_orders
from muster_wire.errors import VersionError, WireError
from muster_wire.frames import MAX_FRAME_BYTES, Header, Memory, Reassembly, Transfer, message_limit
from muster_wire.v1 import federation_pb2 as wire
from muster_wire.v1.federation_pb2_grpc import FederationStub
from muster_wire.version import Version, negotiate

_CALL_S = 20.0  # for calls that are small and answered at once
_LOOPBACK = ("127.", "localhost", "[::1]")
_FINAL = {
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNIMPLEMENTED,
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Postponed:
    """The coordinator is at its memory budget: offer again after this."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the coordinator says to an offer. `is_unknown`: it doesn't want this now, and may yet."""

    accepted: bool
    reason: str
    is_unknown: bool = False


class Connection:
    """A channel to one coordinator, and the session on it. Threads may share it."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._channel = open_channel(address)
        self._stub = FederationStub(self._channel)  # type: ignore[no-untyped-call]
        self._submit = self._channel.stream_stream(
            "/muster.wire.v1.Federation/Submit",
            request_serializer=_as_is,
            response_deserializer=wire.SubmitReply.FromString,
        )
        self._session = ""
        self._frame_bytes = MAX_FRAME_BYTES

    @property
    def frame_bytes(self) -> int:
        """The largest payload of one frame that the coordinator takes."""
        return self._frame_bytes

    def join(self, request: wire.JoinRequest) -> wire.JoinReply:
        """Open a session, or open it again.

        Raises:
            RefusedError: this worker is not wanted, and that won't change.
            ConnectionBrokenError: not now.
        """
        with self._errors(joining=True):
            reply: wire.JoinReply = self._stub.Join(request, metadata=self._metadata, timeout=_CALL_S)
        try:
            negotiate(Version(reply.version.major, reply.version.minor))
        except VersionError as error:
            raise RefusedError(f"the coordinator at {self._address}: {error}") from error
        self._session = reply.session
        self._frame_bytes = reply.frame_bytes or self._frame_bytes
        return reply

    def listen(self, opened: Callable[[Callable[[], object]], None]) -> Iterator[Orders]:
        """Orders as they change, until the stream breaks. `opened` gets what closes the stream from another thread."""
        with self._errors():
            call = self._stub.Listen(wire.ListenRequest(session=self._session), metadata=self._metadata)
            opened(call.cancel)
            for message in call:
                yield parse_orders(message)
        raise ConnectionBrokenError(f"the coordinator at {self._address} closed the stream of orders")

    def fetch(self, digest: str, partial: Reassembly | None, keep: Callable[[Reassembly, Memory], None]) -> None:
        """Receive a model, from where an earlier try broke; `keep` gets the transfer before its first byte.

        Raises:
            ConnectionBrokenError: it broke; what has arrived so far is kept.
        """
        offset = partial.received if partial else 0
        request = wire.FetchRequest(session=self._session, digest=digest, offset=offset)
        with self._errors():
            for frame in self._stub.Fetch(request, metadata=self._metadata):
                if frame.HasField("header"):
                    partial = self._begin(frame.header, digest, partial, keep)
                if partial is None:
                    raise ConnectionBrokenError("the coordinator sent a model without a header")
                partial.add(frame)
            if partial is None or not partial.is_complete:
                raise ConnectionBrokenError(f"the transfer of model {digest} ended early")

    def _begin(
        self,
        message: wire.TransferHeader,
        digest: str,
        partial: Reassembly | None,
        keep: Callable[[Reassembly, Memory], None],
    ) -> Reassembly:
        header = Header.from_message(message)
        if header.digest != digest:
            raise ConnectionBrokenError(f"the coordinator sent model {header.digest} instead of {digest}")
        if partial is not None and partial.header == header:
            return partial
        memory = Memory(header.size)
        fresh = Reassembly(header, memory)
        keep(fresh, memory)
        return fresh

    def offer(self, offer: wire.Offer, transfer: Transfer) -> Verdict | Postponed:
        """Hand in an update: an offer, then its frames from the offset that the coordinator names.

        Raises:
            ConnectionBrokenError: it broke; offering again goes on from what has arrived.
        """
        offer.session = self._session
        offer.header.CopyFrom(transfer.header.to_message())
        start: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        with self._errors():
            call = self._submit(_requests(offer, transfer, start), metadata=self._metadata)
            try:
                return self._conclude(call, start)
            finally:
                start.put(None)  # lets grpc's sending thread go, wherever it waits
                call.cancel()

    def _conclude(
        self, replies: Iterator[wire.SubmitReply], start: queue.SimpleQueue[int | None]
    ) -> Verdict | Postponed:
        for reply in replies:
            match reply.WhichOneof("kind"):
                case "proceed":
                    start.put(reply.proceed.offset)
                case "wait":
                    return Postponed(reply.wait.milliseconds / 1000)
                case "verdict":
                    return _verdict(reply.verdict)
        raise ConnectionBrokenError("the coordinator ended the upload without a verdict")

    def report(self, assignment: str, examples: int, metrics: Mapping[str, float], error: str = "") -> None:
        """Say what an evaluation found, or in one line why an assignment is given up."""
        request = wire.ReportRequest(
            session=self._session, assignment=assignment, examples=examples, metrics=metrics, error=error
        )
        with self._errors():
            self._stub.Report(request, metadata=self._metadata, timeout=_CALL_S)

    def beat(self, progress: list[wire.Progress]) -> int:
        """Prove life; the answer is the revision of the orders."""
        request = wire.BeatRequest(session=self._session, progress=progress)
        with self._errors():
            reply: wire.BeatReply = self._stub.Beat(request, metadata=self._metadata, timeout=_CALL_S)
        return reply.revision

    def close(self) -> None:
        """Let go of the channel; its streams end, which is how the coordinator hears goodbye."""
        self._channel.close()

    @contextmanager
    def _errors(self, *, joining: bool = False) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise explain(error, self._address, joining=joining) from error
        except ValueError as error:  # grpc's word for a channel that another thread has closed
            raise ConnectionBrokenError(f"the connection to {self._address} is closed") from error
        except WireError as error:
            raise ConnectionBrokenError(f"the coordinator at {self._address}: {error}") from error


def explain(error: Any, address: str, *, joining: bool) -> ConnectionBrokenError | RefusedError:
    """One of our errors for one of grpc's (a `grpc.RpcError` that is a call)."""
    code, details = error.code(), error.details() or "no details"
    if joining and code is grpc.StatusCode.UNAUTHENTICATED:
        return RefusedError(f"the coordinator at {address} refuses this worker's token: {details}; check MUSTER_TOKEN")
    if joining and code in _FINAL:
        return RefusedError(f"the coordinator at {address} refuses this worker: {details}")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return SessionLostError(f"the coordinator at {address} has closed this session: {details}")
    return ConnectionBrokenError(f"the coordinator at {address}: {code.name.lower().replace('_', ' ')}: {details}")


def open_channel(address: str) -> grpc.Channel:
    """A channel that notices a dead peer and comes back quickly. Credentials (TLS) belong here and nowhere else."""
    limit = message_limit(MAX_FRAME_BYTES)
    options: list[tuple[str, int]] = [
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
    ]
    if address.startswith(_LOOPBACK):
        options.append(("grpc.enable_http_proxy", 0))
    return grpc.insecure_channel(address, options=options)


def _verdict(message: wire.Verdict) -> Verdict:
    return Verdict(message.accepted, message.reason, message.cause == wire.Verdict.CAUSE_UNKNOWN_ASSIGNMENT)


def _as_is(message: bytes) -> bytes:
    return message


def _requests(offer: wire.Offer, transfer: Transfer, start: queue.SimpleQueue[int | None]) -> Iterator[bytes]:
    yield wire.SubmitRequest(offer=offer).SerializeToString()
    offset = start.get()
    if offset is not None:
        yield from transfer.requests(offset)
