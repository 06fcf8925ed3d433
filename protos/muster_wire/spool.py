"""A stream of bytes through a folder that two machines share: the way out of nodes that can't dial anybody.

A stream is a row of small files. The writer puts each aside and renames it, so that a reader sees it whole or not at
all; the reader removes what it has read; the writer waits while too many are unread. So nobody locks anything, the
folder stays small, and a file system has one promise to keep: what one machine has renamed, the other sees after a
while. An empty file ends the stream. Whoever gives up leaves a mark, since here nobody hears a connection break.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

SEGMENT_BYTES = 1024 * 1024
WINDOW = 8  # files that may lie unread
FIRST_WAIT_S, LONGEST_WAIT_S = 0.002, 0.4


class StreamBrokenError(Exception):
    """The other end has given up, or is no more, or the folder can't be used."""


class Patience:
    """Waits between two looks: short at first, longer while nothing happens, and no longer than the other end lives."""

    def __init__(self, folder: Path, theirs: str, is_alive: Callable[[], bool]) -> None:
        self._folder = folder
        self._mark = _mark(folder, theirs)
        self._is_alive = is_alive
        self._wait_s = FIRST_WAIT_S

    def rest(self) -> None:
        """Raises StreamBrokenError."""
        if self._wait_s >= LONGEST_WAIT_S:
            with contextlib.suppress(OSError):
                next(self._folder.iterdir(), None)  # so that a client of NFS asks its server again
            if not self._folder.exists() or self._mark.exists() or not self._is_alive():
                raise StreamBrokenError
        time.sleep(self._wait_s)
        self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)

    def hurry(self) -> None:
        """Something has happened."""
        self._wait_s = FIRST_WAIT_S


class Outgoing:
    """The writing end of a stream."""

    def __init__(self, folder: Path, name: str, patience: Patience) -> None:
        self._folder, self._name, self._patience = folder, name, patience
        self._count = 0

    def write(self, data: bytes) -> None:
        """At most a segment; no data ends the stream. Raises StreamBrokenError."""
        while _segment(self._folder, self._name, self._count - WINDOW).exists():
            self._patience.rest()
        self._patience.hurry()
        aside = self._folder / f".{self._name}"
        try:
            aside.write_bytes(data)
            aside.rename(_segment(self._folder, self._name, self._count))
        except OSError as error:
            raise StreamBrokenError from error
        self._count += 1


class Incoming:
    """The reading end."""

    def __init__(self, folder: Path, name: str, patience: Patience) -> None:
        self._folder, self._name, self._patience = folder, name, patience
        self._count = 0

    def read(self) -> bytes:
        """The next segment, once it is there; nothing at the end. Raises StreamBrokenError."""
        place = _segment(self._folder, self._name, self._count)
        data = self._try(place)
        while data is None:
            self._patience.rest()
            data = self._try(place)
        self._patience.hurry()
        self._count += 1
        return data

    @staticmethod
    def _try(place: Path) -> bytes | None:
        try:
            data = place.read_bytes()
            place.unlink()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StreamBrokenError from error
        return data


def give_up(folder: Path, ours: str) -> None:
    """Leave word that this end of a connection is no more."""
    with contextlib.suppress(OSError):
        _mark(folder, ours).touch()


def _segment(folder: Path, name: str, number: int) -> Path:
    return folder / f"{name}.{number}"


def _mark(folder: Path, end: str) -> Path:
    return folder / f"{end}.gone"
