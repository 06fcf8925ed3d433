"""A worker's place in the lobby: a thread that keeps the stream of offers open, for as long as the process lives.

There is no lease here: a site waits, for weeks if need be. What breaks is tried again; only a lobby that says no for
good (revoked, another version) ends the worker.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version

import grpc

from muster.channel import CALL_S, Calls, Line, explain
from muster.choosing import Offer, parse_offers
from muster.courier import backoff_s
from muster.credentials import Credentials
from muster.errors import ConnectionBrokenError, RefusedError, StaleCertificateError
from muster_wire.errors import VersionError
from muster_wire.v1 import federation_pb2 as wire
from muster_wire.v1 import lobby_pb2 as pb
from muster_wire.version import CURRENT, Version, negotiate

log = logging.getLogger(__name__)

RENEWAL_CHECK_S = 10.0
FAILURES_BEFORE_RENEWAL = 3  # a handshake that fails doesn't say whether a newer certificate would have passed
WHO = "lobby"


@dataclass(frozen=True, slots=True)
class Heard:
    """What the lobby has said last. `offers` is None before it has said anything."""

    offers: tuple[Offer, ...] | None = None
    is_connected: bool = False
    refused: str = ""  # why this worker may not be here, for good


class Reception:
    """Threads may share it. `on_news` is called from its thread whenever `heard` is another."""

    def __init__(self, address: str, credentials: Credentials, worker: str, on_news: Callable[[], None]) -> None:
        self.heard = Heard()
        self._address = address
        self._line = Line(address, credentials)
        self._worker = worker
        self._on_news = on_news
        self._standing = pb.Standing()
        self._stopped = threading.Event()
        self._failures = 0
        self._threads = [
            threading.Thread(target=body, name=f"muster-{name}", daemon=True)
            for name, body in (("lobby", self._attend), ("renewal", self._renew))
        ]

    def start(self) -> None:
        """Enrol, and come in."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Leave: the stream's end is the goodbye."""
        self._stopped.set()
        self._line.close()
        for thread in self._threads:
            thread.join(timeout=1.0)

    def stand(self, standing: pb.Standing) -> None:
        """This is what the worker does and refuses from now on. Told at once, and with every new stream."""
        if standing == self._standing:
            return
        self._standing = standing
        if not self.heard.is_connected:
            return
        try:
            with self._calls() as calls:
                calls.lobby.Tell(pb.TellRequest(worker=self._worker, standing=standing), timeout=CALL_S)
        except (ConnectionBrokenError, RefusedError) as error:
            log.info("%s; told when the stream is open again", error)
            self._hang_up()

    # --- its threads --------------------------------------------------------------------------------------------------

    def _attend(self) -> None:
        while not self._stopped.is_set():
            try:
                self._come_in()
            except RefusedError as error:
                self._tell(Heard(self.heard.offers, refused=str(error)))
                return
            except ConnectionBrokenError as error:
                self._pause(error)

    def _come_in(self) -> None:
        is_forced = self._failures > 0 and self._failures % FAILURES_BEFORE_RENEWAL == 0
        self._line.refresh(is_forced=is_forced)
        try:
            self._listen()
        except StaleCertificateError as error:
            if not self._line.refresh(is_forced=True):
                raise ConnectionBrokenError(str(error)) from error

    def _listen(self) -> None:
        with self._calls() as calls:
            call = calls.lobby.Enter(
                pb.EnterRequest(
                    version=wire.Version(major=CURRENT.major, minor=CURRENT.minor),
                    software=f"muster {version('muster')}",
                    worker=self._worker,
                    standing=self._standing,
                )
            )
            calls.hang_up = call.cancel
            if calls.is_retired or self._stopped.is_set():
                call.cancel()
            try:
                for message in call:
                    self._hear(message)
            except grpc.RpcError:
                if not calls.is_retired:
                    raise

    def _hear(self, message: pb.JobOffers) -> None:
        try:
            negotiate(Version(message.version.major, message.version.minor))
        except VersionError as error:
            raise RefusedError(f"the {WHO} at {self._address}: {error}") from error
        self._failures = 0
        self._tell(Heard(parse_offers(message), is_connected=True))

    def _pause(self, error: ConnectionBrokenError) -> None:
        if self._stopped.is_set():
            return
        if self._failures == 0:
            log.warning("%s; trying again", error)
        if self.heard.is_connected:
            self._tell(Heard(self.heard.offers))
        self._failures += 1
        self._stopped.wait(backoff_s(self._failures, random.random()))

    def _tell(self, heard: Heard) -> None:
        self.heard = heard
        self._on_news()

    def _renew(self) -> None:
        """Renew in time, whatever the other thread waits for. The stream moves to the new channel by itself."""
        while not self._stopped.wait(RENEWAL_CHECK_S):
            try:
                if self._line.refresh():
                    self._on_news()
            except (ConnectionBrokenError, RefusedError) as error:
                log.warning("this worker's certificate is not renewed yet: %s", error)

    def _hang_up(self) -> None:
        with self._line.calls() as calls:
            if calls.hang_up is not None:
                calls.hang_up()

    @contextmanager
    def _calls(self) -> Iterator[Calls]:
        try:
            with self._line.calls() as calls:
                yield calls
        except grpc.RpcError as error:
            raise explain(error, self._address, joining=True, who=WHO) from error
        except ValueError as error:  # grpc's word for a channel that another thread has closed
            raise ConnectionBrokenError(f"the connection to {self._address} is closed") from error
