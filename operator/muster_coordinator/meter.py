"""Bytes of models and updates that crossed the wire, as they are counted for the report."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes each way, and how many the same models and updates would have been in float32."""

    up: int = 0
    down: int = 0
    plain_up: int = 0
    plain_down: int = 0


class ByteMeter:
    """Counts on the server's loop, read by the driver's thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._up = 0
        self._down = 0
        self._plain_up = 0
        self._plain_down = 0
        self._totals = [0, 0]

    def add_up(self, size: int) -> None:
        with self._lock:
            self._up += size
            self._totals[0] += size

    def add_down(self, size: int) -> None:
        with self._lock:
            self._down += size
            self._totals[1] += size

    def add_plain_up(self, size: int) -> None:
        """A whole update, as it would have been in float32."""
        with self._lock:
            self._plain_up += size

    def add_plain_down(self, size: int) -> None:
        """A whole model, as it would have been in float32."""
        with self._lock:
            self._plain_down += size

    def take(self) -> Traffic:
        with self._lock:
            taken = Traffic(self._up, self._down, self._plain_up, self._plain_down)
            self._up = self._down = self._plain_up = self._plain_down = 0
        return taken

    def totals(self) -> tuple[int, int]:
        """Bytes up and down since this coordinator began."""
        with self._lock:
            up, down = self._totals
        return up, down
