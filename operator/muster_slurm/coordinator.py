"""The bridge's line to its coordinator: one call, made again and again, with the whole of what is known each time.

Only this module of the bridge imports grpc. A coordinator that doesn't answer is no reason to stop: jobs are followed
all the same, and what it would have said of its clients counts as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc

from muster_slurm.errors import Away, SettingsError
from muster_slurm.standing import Standing
from muster_wire import keepalive
from muster_wire.errors import TrustError
from muster_wire.trust.bundle import Bundle, read_bundle
from muster_wire.trust.files import Watched, read_file
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.v1.federation_pb2_grpc import FederationStub
from muster_wire.version import CURRENT

CALL_S = 5.0
_LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:")


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a worker's log, and whose worker it is."""

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class News:
    """What the coordinator answered. `present`: whom it hears from; None where it is too early to tell who is away.
    `fruitless`: whose newest worker has handed in nothing, though there is work.
    """

    present: frozenset[int] | None
    lines: tuple[Said, ...]
    fruitless: frozenset[int] = frozenset()


class Coordinator:
    """The one of a pool's job. `bundle` is a file that somebody may renew: it holds the bridge's own certificate."""

    def __init__(self, bundle: Path, pool: str) -> None:
        """Raises SettingsError for a file that can't be used."""
        self._file = bundle
        self._pool = pool
        self._watched = Watched([bundle])
        self._bundle = self._read()
        self._channel: grpc.Channel | None = None
        self._log, self._log_read = "", 0

    def attend(self, standings: Iterable[Standing], now: float) -> News:
        """Say what SLURM has for the pool's clients. Raises Away where no answer came."""
        request = pb.AttendRequest(
            version=pb.Version(major=CURRENT.major, minor=CURRENT.minor),
            pool=self._pool,
            allocations=[_allocation(each, now) for each in standings],
            log=self._log,
            log_read=self._log_read,
        )
        reply = self._call(request)
        self._log, self._log_read = reply.log, reply.log_read
        present = frozenset(reply.present) if reply.complete else None
        lines = tuple(Said(line.source, line.text) for line in reply.lines)
        return News(present, lines, frozenset(reply.fruitless))

    def _call(self, request: pb.AttendRequest) -> pb.AttendReply:
        stub = FederationStub(self._opened())  # type: ignore[no-untyped-call]
        try:
            reply: pb.AttendReply = stub.Attend(request, timeout=CALL_S)
        except grpc.RpcError as error:
            self.close()  # the next call begins anew, with the certificate as it is then
            code, words = error.code(), error.details() or "no details"
            place = self._bundle.coordinator
            raise Away(f"the coordinator at {place}: {code.name.lower().replace('_', ' ')}: {words}") from error
        return reply

    def _opened(self) -> grpc.Channel:
        if self._watched.changed():
            self.close()
            try:
                self._bundle = self._read()
            except SettingsError as error:
                raise Away(str(error)) from error
        if self._channel is None:
            self._channel = _open(self._bundle)
        return self._channel

    @property
    def address(self) -> str:
        """Where it is dialled from here, HOST:PORT."""
        return self._bundle.coordinator

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _read(self) -> Bundle:
        try:
            return read_bundle(read_file(("--attend", self._file)).decode("utf-8", "replace"))
        except TrustError as error:
            raise SettingsError(f"--attend {self._file}: {error.reason}") from error


def _open(bundle: Bundle) -> grpc.Channel:
    options: list[tuple[str, int | str]] = [*keepalive.CLIENT_OPTIONS]
    if bundle.server_name:
        options.append(("grpc.ssl_target_name_override", bundle.server_name))
    if bundle.coordinator.startswith(_LOOPBACK):
        options.append(("grpc.enable_http_proxy", 0))
    pair = bundle.pair
    credentials = grpc.ssl_channel_credentials(bundle.ca.encode(), pair.key, pair.chain)
    return grpc.secure_channel(bundle.coordinator, credentials, options=options)


def _allocation(standing: Standing, now: float) -> pb.Allocation:
    span = standing.span
    state = pb.Allocation.STATE_RUNNING if span.is_running else pb.Allocation.STATE_QUEUED
    return pb.Allocation(
        indices=standing.clients,
        state=state,
        starts_in_ms=0 if span.is_running else _left_ms(span.starts, now),
        ends_in_ms=_left_ms(span.ends, now) if span.is_running else 0,
        lasts_ms=round(1000 * span.lasts_s),
    )


def _left_ms(when: float, now: float) -> int:
    """Until then, at least a millisecond: 0 says that nobody knows."""
    return max(round(1000 * (when - now)), 1) if when else 0
