"""The communication threads: one listens for orders and joins again when that breaks, the other beats.

Neither works. They post orders to the desk, and end the worker when its coordinator refuses it or has been gone for the
lease that it granted: nothing that Muster started outlives its job for long.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable

from muster.channel import CALL_S
from muster.connection import Connection
from muster.desk import Desk, Ending
from muster.errors import ConnectionBrokenError, RefusedError
from muster.logtail import LogTail
from muster.orders import Orders
from muster_wire.v1 import federation_pb2 as wire

log = logging.getLogger(__name__)

EXIT_LOST, EXIT_REFUSED = 1, 2
FIRST_LEASE_S = 300.0  # until a coordinator has granted one
LAST_WORDS_S = 2.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 5.0


def backoff_s(failures: int, lot: float) -> float:
    """How long to wait after so many failures in a row: doubling to a limit, by lot (0 to 1) from half of it to all."""
    longest = min(_FIRST_DELAY_S * 2.0 ** min(failures, 16), _LONGEST_DELAY_S)
    return longest * (0.5 + 0.5 * lot)


class Courier:
    """Keeps one worker in touch with its coordinator. `join` opens a session, each time with what the worker holds;
    `heed` is shown orders as they come, and says whether they want it to join again.
    """

    def __init__(
        self,
        connection: Connection,
        desk: Desk,
        join: Callable[[], wire.JoinReply],
        tail: LogTail,
        heed: Callable[[Orders], bool] = lambda _: False,
    ) -> None:
        self._connection = connection
        self._tail = tail
        self._parting = threading.Lock()
        self._has_parted = False
        self._desk = desk
        self._join = join
        self._heed = heed
        self._is_to_rejoin = False
        self._session = 0
        self._lease_s = FIRST_LEASE_S
        self._beat_s = 2.0
        self._heard_at = time.monotonic()
        self._revision = 0
        self._failures = 0
        self._hang_up: Callable[[], object] = _nothing
        self._threads = [
            threading.Thread(target=self._guard, args=(body,), name=f"muster-{name}", daemon=True)
            for name, body in (("listen", self._listen), ("beat", self._beat))
        ]

    def start(self) -> None:
        """Begin to listen and beat; the desk hears the rest."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Close the connection, which is our goodbye, and wait a moment for the threads to notice."""
        self._say_last_words()
        self._connection.close()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=1.0)

    def connect(self) -> bool:
        """Join, trying until it works; False if the worker ends first."""
        while self._desk.ending is None:
            self._is_to_rejoin = False
            try:
                reply = self._join()
            except RefusedError as error:
                self._desk.end(Ending(EXIT_REFUSED, str(error)))
            except ConnectionBrokenError as error:
                self._pause(error)
            else:
                self._heard()
                self._desk.expect()
                self._session += 1
                self._revision = 0
                self._lease_s = reply.lease_seconds or FIRST_LEASE_S
                self._beat_s = reply.beat_interval_ms / 1000 or 2.0
                self._tail.want(reply.log_bytes)
                return True
        return False

    def rejoin(self) -> None:
        """Join again at once, from whichever thread: the coordinator hears which clients were let go, or gives some."""
        self._is_to_rejoin = True
        self._hang_up()

    def _guard(self, body: Callable[[], None]) -> None:
        """A thread that dies takes the worker with it: one that is deaf or seems dead is of no use."""
        try:
            body()
        except Exception as error:
            log.exception("the connection's thread failed")
            self._desk.end(Ending(EXIT_LOST, f"{type(error).__name__}: {error}"))

    def _listen(self) -> None:
        while self._desk.ending is None:
            try:
                for orders in self._connection.listen(self._remember):
                    self._heard()
                    if self._take(orders):
                        return  # nothing more will come
            except ConnectionBrokenError as error:
                if not self._is_to_rejoin:
                    self._pause(error)
                self.connect()

    def _take(self, orders: Orders) -> bool:
        """Whether these are the last orders."""
        self._revision = orders.revision
        if orders.finished:
            self._confirm_end()  # before the worker acts on them: it closes the connection
        if self._heed(orders):
            self._is_to_rejoin = True
        self._desk.post(orders, self._session)
        if self._is_to_rejoin and not orders.finished:
            self._hang_up()
        return orders.finished

    def _confirm_end(self) -> None:
        """Let the coordinator go. One that doesn't hear it goes all the same, a few seconds later."""
        with contextlib.suppress(ConnectionBrokenError):
            self._connection.confirm_end()

    def _beat(self) -> None:
        told, session = 0, 0
        while not self._desk.wait_ending(self._beat_s):
            self._renew()
            known, begun_in = self._revision, self._session
            try:
                revision = self._tell(CALL_S)
            except ConnectionBrokenError:
                self._hang_up()  # the listener joins again; it also keeps the lease
                continue
            self._heard()
            if told > known == self._revision and session == begun_in == self._session:
                # Orders that the last beat told of went missing on the way: a new stream begins with all of them.
                self._hang_up()
            told, session = revision, begun_in
        self._say_last_words()
        self._connection.close()  # sets the working thread free if it is in a call

    def _tell(self, timeout_s: float) -> int:
        tail = self._tail.take()
        revision = self._connection.beat(self._progress(), tail, timeout_s)
        if tail is not None:
            self._tail.told(tail)
        return revision

    def _say_last_words(self) -> None:
        """Why we leave, for those who read our log through the coordinator. Where the job is over nobody does.

        Once, by whichever thread comes first; the other waits, since it would close the connection.
        """
        ending = self._desk.ending
        with self._parting:
            if self._has_parted or not self._tail.is_wanted or (ending is not None and not ending.code):
                return
            self._has_parted = True
            if ending is not None:
                self._tail.say(f"leaving: {ending.reason}")
            with contextlib.suppress(ConnectionBrokenError):
                self._tell(LAST_WORDS_S)

    def _renew(self) -> None:
        try:
            self._connection.renew()
        except (RefusedError, ConnectionBrokenError) as error:
            log.warning("this worker's certificate is not renewed yet: %s", error)

    def _remember(self, hang_up: Callable[[], object]) -> None:
        self._hang_up = hang_up

    def _progress(self) -> list[wire.Progress]:
        now = self._desk.activity
        return [wire.Progress(assignment=now.assignment, activity=now.name, fraction=now.fraction)] if now else []

    def _heard(self) -> None:
        self._heard_at = time.monotonic()
        self._failures = 0

    def _pause(self, error: ConnectionBrokenError) -> None:
        """Wait before the next try, or end if the coordinator has been gone for too long."""
        gone_s = time.monotonic() - self._heard_at
        if gone_s > self._lease_s:
            self._desk.end(Ending(EXIT_LOST, f"no word from the coordinator for {gone_s:.0f} s: {error}"))
            return
        if self._failures == 0 and self._desk.ending is None:
            log.warning("%s; trying again", error)
        self._failures += 1
        self._desk.wait_ending(backoff_s(self._failures, random.random()))


def _nothing() -> None:
    pass
