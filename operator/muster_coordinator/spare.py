"""Files without a name that are used again: an upload's pages are written at the speed of memory from the second on.

A new file costs the file system more than what is written into it: blocks are found, pages made, and all of it undone
when the file is closed. So a few are kept, and the next upload overwrites what the one before it left. They are
reached through their descriptors only, and gone with this process however it ends.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import IO, Final

MOST_FILES: Final = 16
MOST_BYTES: Final = 2**28  # of disk, in files that nobody uses at the moment


class SpareFiles:
    """Those of one folder. Safe to use from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._spare: list[tuple[int, IO[bytes]]] = []
        self._lock = threading.Lock()

    def take(self) -> IO[bytes]:
        """A file to write from its beginning; past that lies whatever was there. OSError if there is none."""
        with self._lock:
            if self._spare:
                return self._spare.pop()[1]
        return tempfile.TemporaryFile(dir=self.folder, buffering=0)

    def give_back(self, file: IO[bytes]) -> None:
        """Nobody reads it any more: for the next one, or closed where there are enough."""
        size = os.fstat(file.fileno()).st_size
        with self._lock:
            has_room = len(self._spare) < MOST_FILES and sum(each for each, _ in self._spare) + size <= MOST_BYTES
            if has_room:
                self._spare.append((size, file))
        if not has_room:
            file.close()

    def close(self) -> None:
        """Give the disk back."""
        with self._lock:
            spare, self._spare = self._spare, []
        for _, file in spare:
            file.close()
