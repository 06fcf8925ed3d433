"""A site's audit log: what was offered, what was taken or refused and why, and what was sent. Never data.

One JSON object a line, only ever appended, and on the disk before what it tells of happens: an update leaves the site
after the line that says so. So a log that can't be written stops the sending. Several processes may append: a line is
one write to a file that is opened for appending.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from pathlib import Path
from typing import TypeAlias

import msgspec

from muster.errors import DataError
from muster_wire.durable import sync_folder

Told: TypeAlias = str | int | float | bool | list[str] | dict[str, float] | None


class AuditLog:
    """The log in one file. Lines can be read by whoever may read the folder; the file is made for its owner alone."""

    def __init__(self, path: Path) -> None:
        """Raises DataError where there can be no such file."""
        self._path = path
        self._complaint = f"the audit log {path}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._end_torn_line()
            sync_folder(path.parent)
        except OSError as error:
            raise DataError(f"{self._complaint}: {error.strerror}") from error

    def _end_torn_line(self) -> None:
        """A process that died in a write, or a power cut, may have left half a line: what follows begins a new one."""
        with self._path.open("rb") as file:
            with contextlib.suppress(OSError):  # an empty file has no last byte
                file.seek(-1, os.SEEK_END)
            if file.read(1) not in {b"", b"\n"}:
                os.write(self._descriptor, b"\n")

    def write(self, event: str, unix: float, **told: Told) -> None:
        """One line, durable once this returns. Raises DataError: whatever it tells of must not happen then."""
        entry = {"time": moment(unix), "event": event} | told
        line = msgspec.json.encode(entry) + b"\n"
        try:
            if os.write(self._descriptor, line) != len(line):
                raise DataError(f"{self._complaint}: the disk is full")
            os.fsync(self._descriptor)
        except OSError as error:
            raise DataError(f"{self._complaint}: {error.strerror}") from error

    def close(self) -> None:
        os.close(self._descriptor)


def moment(unix: float) -> str:
    """UTC, to the millisecond."""
    return dt.datetime.fromtimestamp(unix, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
