"""The worker's end of the wire: seven calls, all made by the worker, each turned into values or into one of our errors.

A call that fails in a way that waiting may cure raises `ConnectionBrokenError`; one for which it can't, `RefusedError`.
Transfers go on at the byte where they broke, in both directions. Only this module and channel.py import grpc.
"""

from __future__ import annotations

import queue
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeAlias

import grpc

from muster.channel import CALL_S, Calls, Line, explain
from muster.credentials import Credentials
from muster.errors import ConnectionBrokenError, RefusedError, StaleCertificateError
from muster.orders import Orders, parse_orders
from muster_wire.errors import VersionError, WireError
from muster_wire.frames import MAX_FRAME_BYTES, Transfer
from muster_wire.holding import Holding
from muster_wire.v1 import federation_pb2 as wire
from muster_wire.version import MEASURING, Version, negotiate

if TYPE_CHECKING:
    from muster.survey import Profile

CONFIRM_S = 2.0  # a coordinator that is there answers at once, and nothing depends on it
FAILURES_BEFORE_RENEWAL = 3  # a handshake that fails doesn't say whether a newer certificate would have passed


_NO_MEASURING = {
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.INVALID_ARGUMENT,
}

Carry: TypeAlias = Callable[[], tuple[tuple[str, str], ...]]
"""What a call carries beside its token: which trace it belongs to."""


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
    """The line to one coordinator, and the session on it. Threads may share it."""

    def __init__(self, address: str, token: str, credentials: Credentials, carry: Carry = tuple) -> None:
        self._address = address
        self._token = (("authorization", f"Bearer {token}"),) if token else ()
        self._carry = carry
        self._line = Line(address, credentials)
        self._failures = 0  # to join, in a row
        self._session = ""
        self._version = Version(1, 0)
        self._frame_bytes = MAX_FRAME_BYTES
        self._hand_in_bytes = 0

    @property
    def frame_bytes(self) -> int:
        """The largest payload of one frame that the coordinator takes."""
        return self._frame_bytes

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (*self._token, *self._carry())

    def join(self, request: wire.JoinRequest) -> wire.JoinReply:
        """Open a session, or open it again.

        Raises:
            RefusedError: this worker is not wanted, and that won't change.
            ConnectionBrokenError: not now.
        """
        self._failures += 1
        is_renewed = self._line.refresh(is_forced=self._failures > FAILURES_BEFORE_RENEWAL)
        try:
            reply = self._join(request)
        except StaleCertificateError:
            if is_renewed or not self._line.refresh(is_forced=True):
                raise
            reply = self._join(request)
        self._failures = 0
        try:
            negotiate(Version(reply.version.major, reply.version.minor))
        except VersionError as error:
            raise RefusedError(f"the coordinator at {self._address}: {error}") from error
        self._version = Version(reply.version.major, reply.version.minor)
        self._session = reply.session
        self._frame_bytes = reply.frame_bytes or self._frame_bytes
        self._hand_in_bytes = reply.hand_in_bytes
        return reply

    def _join(self, request: wire.JoinRequest) -> wire.JoinReply:
        with self._calls(joining=True) as calls:
            reply: wire.JoinReply = calls.stub.Join(request, metadata=self._metadata, timeout=CALL_S)
        return reply

    def renew(self) -> None:
        """Renew this worker's certificate if that is due. Work under way goes on.

        Raises:
            RefusedError: it gets none.
            ConnectionBrokenError: not now.
        """
        self._line.refresh()

    def listen(self, opened: Callable[[Callable[[], object]], None]) -> Iterator[Orders]:
        """Orders as they change, until the stream breaks. `opened` gets what closes the stream from another thread."""
        is_retired = True  # its channel, so that the stream begins again on the next one
        while is_retired:
            with self._calls() as calls:
                yield from self._listen(calls, opened)
                is_retired = calls.is_retired
        raise ConnectionBrokenError(f"the coordinator at {self._address} closed the stream of orders")

    def _listen(self, calls: Calls, opened: Callable[[Callable[[], object]], None]) -> Iterator[Orders]:
        call = calls.stub.Listen(wire.ListenRequest(session=self._session), metadata=self._metadata)
        opened(call.cancel)
        calls.hang_up = call.cancel
        if calls.is_retired:
            call.cancel()
        try:
            for message in call:
                yield parse_orders(message, time.monotonic())
        except grpc.RpcError:
            if not calls.is_retired:
                raise

    def fetch(self, digest: str, holding: Holding) -> None:
        """Receive what leads from the version that is held to this one, from where an earlier try broke.

        Raises:
            ConnectionBrokenError: it broke; what has arrived so far is kept.
        """
        wish = holding.want(digest)
        if holding.is_there:
            return
        request = wire.FetchRequest(
            session=self._session, digest=digest, offset=wish.offset, held=wish.held, partial=wish.partial
        )
        with self._calls() as calls:
            for message in calls.fetch(request, metadata=self._metadata):
                holding.receive(message)

    def offer(self, offer: wire.Offer, transfer: Transfer) -> Verdict | Postponed:
        """Hand in an update: an offer, then its frames from the offset that the coordinator names.

        Raises:
            ConnectionBrokenError: it broke; offering again goes on from what has arrived.
        """
        offer.session = self._session
        offer.header.CopyFrom(transfer.header.to_message())
        if transfer.header.size <= min(self._hand_in_bytes, transfer.frame_bytes):
            return self._hand_in(offer, transfer)
        start: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        with self._calls() as calls:
            call = calls.submit(_requests(offer, transfer, start), metadata=self._metadata)
            try:
                return self._conclude(call, start)
            finally:
                start.put(None)  # lets grpc's sending thread go, wherever it waits
                call.cancel()

    def _hand_in(self, offer: wire.Offer, transfer: Transfer) -> Verdict | Postponed:
        """All of a small update in one message: asking whether to send it would take as long."""
        request = wire.HandInRequest(offer=offer, frame=wire.Frame.FromString(transfer.frame_at(0)))
        with self._calls() as calls:
            reply = _answer(calls.stub.HandIn(request, metadata=self._metadata))
        return _expect(reply)

    def _conclude(
        self, replies: Iterator[wire.SubmitReply], start: queue.SimpleQueue[int | None]
    ) -> Verdict | Postponed:
        for reply in replies:
            if reply.HasField("proceed"):
                start.put(reply.proceed.offset)
            elif answer := _answer(reply):
                return answer
        return _expect(None)

    def report(self, assignment: str, examples: int, metrics: Mapping[str, float], error: str = "") -> None:
        """Say what an evaluation found, or in one line why an assignment is given up."""
        request = wire.ReportRequest(
            session=self._session, assignment=assignment, examples=examples, metrics=metrics, error=error
        )
        with self._calls() as calls:
            calls.stub.Report(request, metadata=self._metadata, timeout=CALL_S)

    def beat(self, progress: list[wire.Progress], log: wire.LogTail | None = None, timeout_s: float = CALL_S) -> int:
        """Prove life, and bring what is new in the log; the answer is the revision of the orders."""
        request = wire.BeatRequest(session=self._session, progress=progress, log=log)
        with self._calls() as calls:
            reply: wire.BeatReply = calls.stub.Beat(request, metadata=self._metadata, timeout=timeout_s)
        return reply.revision

    def measure(self, payload: bytes = b"", wanted: int = 0, profile: Profile | None = None) -> int | None:
        """A call with so many bytes up and down; how many a survey should take in all, each way. None where the
        coordinator knows no such call, or doesn't want it (now).

        Raises:
            ConnectionBrokenError: it is out of reach.
        """
        if self._version < MEASURING:
            return None
        found = wire.Profile(**asdict(profile)) if profile else None
        request = wire.MeasureRequest(session=self._session, payload=payload, wanted=wanted, profile=found)
        with self._calls() as calls:
            try:
                reply: wire.MeasureReply = calls.stub.Measure(request, metadata=self._metadata, timeout=CALL_S)
            except grpc.RpcError as error:
                if error.code() in _NO_MEASURING:
                    return None
                raise
        return reply.most or sys.maxsize

    def confirm_end(self) -> None:
        """Say that the last orders have come, so that the coordinator need not wait for this worker."""
        with self._calls() as calls:
            calls.stub.Beat(
                wire.BeatRequest(session=self._session, finished=True), metadata=self._metadata, timeout=CONFIRM_S
            )

    def close(self) -> None:
        """Let go of the channel; its streams end, which is how the coordinator hears goodbye."""
        self._line.close()

    @contextmanager
    def _calls(self, *, joining: bool = False) -> Iterator[Calls]:
        try:
            with self._line.calls() as calls:
                yield calls
        except grpc.RpcError as error:
            raise explain(error, self._address, joining=joining) from error
        except ValueError as error:  # grpc's word for a channel that another thread has closed
            raise ConnectionBrokenError(f"the connection to {self._address} is closed") from error
        except WireError as error:
            raise ConnectionBrokenError(f"the coordinator at {self._address}: {error}") from error


def _answer(reply: wire.SubmitReply) -> Verdict | Postponed | None:
    """What the coordinator says to an update; None if it says nothing that this version knows."""
    match reply.WhichOneof("kind"):
        case "wait":
            return Postponed(reply.wait.milliseconds / 1000)
        case "verdict":
            return _verdict(reply.verdict)
        case _:
            return None


def _expect(answer: Verdict | Postponed | None) -> Verdict | Postponed:
    if answer is None:
        raise ConnectionBrokenError("the coordinator ended the upload without a verdict")
    return answer


def _verdict(message: wire.Verdict) -> Verdict:
    return Verdict(message.accepted, message.reason, message.cause == wire.Verdict.CAUSE_UNKNOWN_ASSIGNMENT)


def _requests(offer: wire.Offer, transfer: Transfer, start: queue.SimpleQueue[int | None]) -> Iterator[bytes]:
    yield wire.SubmitRequest(offer=offer).SerializeToString()
    offset = start.get()
    if offset is not None:
        yield from transfer.requests(offset)
