"""Bytes of models and updates that crossed the wire, as they are counted for the report."""

from __future__ import annotations

import threading


class ByteMeter:
    """Counts on the server's loop, read by the driver's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._up = 0
        self._down = 0
        self._totals = [0, 0]

    def add_up(self, size: int) -> None:
        with self._lock:
            self._up += size
            self._totals[0] += size

    def add_down(self, size: int) -> None:
        with self._lock:
            self._down += size
            self._totals[1] += size

    def take(self) -> tuple[int, int]:
        with self._lock:
            taken = self._up, self._down
            self._up = self._down = 0
        return taken

    def totals(self) -> tuple[int, int]:
        """Bytes up and down since this coordinator began."""
        with self._lock:
            up, down = self._totals
        return up, down
