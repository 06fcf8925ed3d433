"""Who of the ranks is there, beside the fabric: MPI and torch.distributed don't say who is gone, they wait.

Every rank keeps a connection to rank 0 for as long as it lives. A process that dies closes it, however it dies, and a
node that vanishes falls silent: the rank is named, the fabric's waits end (`watch`), and with them the worker. The same
lines carry what can't wait for the next collective call. From rank 0: ``stop N``, a training is to stop. From the
others: ``ended CODE``, a signal told this rank to. Empty lines are beats.
"""

from __future__ import annotations

import logging
import os
import selectors
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from muster.desk import Desk, Ending
from muster.errors import RankLostError
from muster.site.meeting import LONGEST_LINE, Peer

log = logging.getLogger(__name__)

EXIT_LOST: Final = 1
SILENT_S: Final = 60.0
STOP_WITHIN_S: Final = 20.0  # once the worker ends: SLURM's KillWait is 30
LAST_RESORT_S: Final = 15.0  # after a loss, for the working thread to notice
_BEAT_S: Final = 2.0
_TICK_S: Final = 0.1


class RollCall:
    """One rank's. A thread of its own listens and says what is to be said; everything else is the working thread's."""

    def __init__(self, desk: Desk, peers: Sequence[Peer], clock: Callable[[], float] = time.monotonic) -> None:
        self._desk = desk
        self._peers = peers
        self._is_first = all(peer.rank for peer in peers)  # rank 0, which the others follow
        self._clock = clock
        self._heard_at = {peer.rank: clock() for peer in peers}
        self._stop_up_to = 0  # trainings with numbers up to this one are to stop
        self._minded: Callable[[], bool] | None = None
        self._lost = ""
        self._lost_at = 0.0
        self._ending_since = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="muster-roll", daemon=True)
        self._thread.start()

    # --- the working thread's -----------------------------------------------------------------------------------------

    def watch(self) -> None:
        """What a fabric's waits look at. RankLostError when there is no more to wait for."""
        if self._lost:
            raise RankLostError(self._lost)
        if self._minded is not None:
            self._minded()
        if self._is_first and self._desk.ending is not None:
            self._ending_since = self._ending_since or self._clock()
            self._lose_patience()

    def _lose_patience(self) -> None:
        if self._clock() > self._ending_since + STOP_WITHIN_S:
            raise RankLostError(
                f"not every rank has stopped within {STOP_WITHIN_S:.0f} s; the others don't wait longer"
            )

    @property
    def lost(self) -> str:
        """Which rank is gone, and how that shows; empty: none that is known of."""
        return self._lost

    @contextmanager
    def minding(self, number: int, should_stop: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
        """As rank 0, while a training lasts: once it should stop, the others are told, whoever of them asks first."""

        def ask() -> bool:
            is_unwanted = bool(self._lost) or should_stop()
            if is_unwanted:
                self._stop_up_to = number
            return is_unwanted

        self._minded = ask
        try:
            yield ask
        finally:
            self._minded = None

    def is_stopped(self, number: int) -> bool:
        """As any other rank: whether a training is to stop."""
        return bool(self._lost) or number <= self._stop_up_to or self._desk.ending is not None

    def dismiss(self) -> None:
        """Nobody is missed from now on."""
        self._is_over.set()
        self._thread.join()

    def hang_up(self) -> None:
        """Once all have been dismissed: before that, an end of the line is a loss."""
        for peer in self._peers:
            peer.line.close()

    # --- the other thread's -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for peer in self._peers:
                peer.line.settimeout(_BEAT_S)
                selector.register(peer.line, selectors.EVENT_READ, peer)
            speaker = self._speak()
            while not self._is_over.is_set() and not self._lost:
                for key, _ in selector.select(_TICK_S):
                    self._read(key.data)
                self._miss_the_silent()
                next(speaker)
        self._end_if_unheard()

    def _read(self, peer: Peer) -> None:
        said = b""
        try:
            said = peer.line.recv(LONGEST_LINE)
        except TimeoutError:
            return
        except OSError as error:
            self._lose(peer, f"its connection broke: {error}")
            return
        if not said:
            self._lose(peer, "its process has ended")
            return
        self._heard_at[peer.rank] = self._clock()
        *lines, peer.unread = (peer.unread + said).split(b"\n")
        for line in lines:
            self._hear(peer, line.decode(errors="replace").split())

    def _hear(self, peer: Peer, words: list[str]) -> None:
        match words:
            case ["stop", number] if number.isdecimal():
                self._stop_up_to = max(self._stop_up_to, int(number))
            case ["ended", code] if code.isdecimal():
                self._desk.end(Ending(int(code), f"{peer.name} was told to stop"))

    def _miss_the_silent(self) -> None:
        for peer in self._peers:
            silent_s = self._clock() - self._heard_at[peer.rank]
            if silent_s > SILENT_S:
                self._lose(peer, f"it has said nothing for {silent_s:.0f} s")

    def _speak(self) -> Iterator[None]:
        """What there is to say, each time that it is asked."""
        said_at, told, has_ended = self._clock(), 0, False
        while True:
            ending = self._desk.ending
            if self._stop_up_to > told:
                told = self._stop_up_to
                self._say(f"stop {told}")
            if ending is not None and not has_ended:
                has_ended = True
                self._say(f"ended {ending.code}")
            if self._clock() > said_at + _BEAT_S:
                said_at = self._clock()
                self._say("")
            yield

    def _say(self, line: str) -> None:
        for peer in self._peers:
            try:
                peer.line.sendall(f"{line}\n".encode())
            except OSError as error:
                self._lose(peer, f"nothing more can be said to it: {error}")

    def _lose(self, peer: Peer, how: str) -> None:
        if self._is_over.is_set() or self._lost:
            return
        self._lost = f"{peer.name} is gone: {how}. The step can't be ended without it"
        log.error("%s", self._lost)
        self._desk.end(Ending(EXIT_LOST, self._lost))

    def _end_if_unheard(self) -> None:
        """The working thread may be in a call that never returns, of the task's or of MPI's."""
        if self._lost and not self._is_over.wait(LAST_RESORT_S):
            log.error("the working thread doesn't come back from where it waits for that rank: this process ends")
            with suppress(OSError):
                sys.stderr.flush()
            os._exit(EXIT_LOST)
