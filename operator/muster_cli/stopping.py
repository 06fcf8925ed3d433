"""Ctrl-C and its relatives: the first asks the run to stop properly, the second ends it at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Remembers the signal that asked us to stop, and wakes whoever selects on it.

    `at_once` must end every process without waiting; the second signal's handler calls it, just before the end.
    """

    def __init__(self, at_once: Callable[[], None]) -> None:
        self.received: int | None = None
        self._at_once = at_once
        self._read, self._write = os.pipe()
        for end in (self._read, self._write):
            os.set_blocking(end, False)

    def fileno(self) -> int:
        return self._read

    def drain(self) -> None:
        """Forget the bytes that woke us."""
        try:
            os.read(self._read, 4096)
        except BlockingIOError:
            return

    def forget(self) -> None:
        """The request was answered: the next signal is a first one again."""
        self.received = None

    @property
    def exit_code(self) -> int:
        """As shells have it: 130 for Ctrl-C, 143 for a polite kill."""
        return 130 if self.received == signal.SIGINT else 143

    def __enter__(self) -> Self:
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            return
        self._at_once()
        os._exit(self.exit_code)
