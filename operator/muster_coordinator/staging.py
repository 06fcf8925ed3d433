"""Uploads on their way in, in the encoded form they came in: between the server's streams and the sum.

An upload holds a small buffer in memory and then a file without a name, so a thousand slow clients cost disk and not
memory, and a coordinator that dies leaves nothing behind. Nothing is decoded before the whole of it has arrived and
passed every check: a bad last frame can't poison a sum.
"""

from __future__ import annotations

import mmap
import os
from types import TracebackType
from typing import IO, Final, Self

from muster_coordinator.errors import CoordinatorError
from muster_coordinator.spare import SpareFiles
from muster_wire import payload
from muster_wire.checksum import BytesLike
from muster_wire.frames import MAX_FRAME_BYTES, ArrivedFrame, Header, Reassembly
from muster_wire.payload import MAX_NORM, Checked, PayloadKind, Shape
from muster_wire.submodel import Part

MEMORY_BYTES: Final = 64 * 1024
POPULATED_BYTES: Final = 2**28


class StagingError(CoordinatorError):
    """The staging directory can't take more bytes. The upload is as it was before and may go on later."""


class Upload:
    """One update, or first model, that a client is sending. Not for two threads at once; `close` frees everything.

    Raises PayloadError at once if the header promises another size than its layout and codec make.
    """

    def __init__(
        self,
        header: Header,
        kind: PayloadKind,
        files: SpareFiles,
        frame_bytes: int = MAX_FRAME_BYTES,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.shape: Shape = header.shape(kind)
        self._bytes = _Spool(files, memory_bytes)
        self._transfer = Reassembly(header, self._bytes, frame_bytes)
        self._checked: Checked | None = None
        self.part: Part | None = None  # of the model, if the update is of one

    @property
    def checked(self) -> Checked:
        """What `check` found out."""
        if self._checked is None:
            raise ValueError("an upload is used once it is checked")
        return self._checked

    @property
    def header(self) -> Header:
        return self._transfer.header

    @property
    def received(self) -> int:
        """Bytes so far: where a client whose connection broke goes on."""
        return self._transfer.received

    @property
    def is_complete(self) -> bool:
        return self._transfer.is_complete

    def add(self, frame: ArrivedFrame) -> None:
        """Takes the next frame; FrameError if it isn't that, StagingError if there is no room for it."""
        self._transfer.add(frame)

    def check(self, max_norm: float = MAX_NORM) -> Checked:
        """Every check, now that all is here: FrameError for damage, PayloadError for what it holds."""
        self._transfer.finish()
        self._checked = payload.check(self.shape, self.view(), max_norm)
        return self._checked

    def view(self) -> memoryview:
        """The encoded bytes, read-only; a reader that is not done when the upload is closed may finish."""
        return self._bytes.view()

    def close(self) -> None:
        """Gives memory and disk back; safe to call again."""
        self._bytes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Spool:
    """Bytes in order: in memory while they are few, then in an unlinked file."""

    def __init__(self, files: SpareFiles, memory_bytes: int) -> None:
        self._files = files
        self._memory_bytes = memory_bytes
        self._memory = bytearray()
        self._file: IO[bytes] | None = None
        self._map: mmap.mmap | None = None
        self._size = 0

    def append(self, data: BytesLike) -> None:
        if self._file is None and self._size + len(data) <= self._memory_bytes:
            self._memory += data
        else:
            self._write(data)
        self._size += len(data)

    def view(self) -> memoryview:
        if self._file is None:
            return memoryview(bytes(self._memory))
        if self._map is None:
            self._map = mmap.mmap(self._file.fileno(), self._size, flags=_flags(self._size), prot=mmap.PROT_READ)
        return memoryview(self._map)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None and self._is_unread():
            self._files.give_back(file)
        elif file is not None:
            file.close()
        self._memory.clear()

    def _is_unread(self) -> bool:
        """Whether the file's pages are nobody's any more: the next upload overwrites them."""
        view, self._map = self._map, None
        try:
            if view is not None:
                view.close()
        except BufferError:
            return False
        return True

    def _write(self, data: BytesLike) -> None:
        try:
            if self._file is None:
                self._file = self._spill()
            _write_at(self._file.fileno(), data, self._size)
        except OSError as error:
            raise StagingError(
                f"{self._files.folder}: no room for an upload ({error.strerror}): free some disk there, or give the "
                "coordinator another directory"
            ) from error

    def _spill(self) -> IO[bytes]:
        file = self._files.take()
        try:
            _write_at(file.fileno(), self._memory, 0)
        except OSError:
            file.close()
            raise
        self._memory.clear()
        return file


def _flags(size: int) -> int:
    """One call to the kernel maps all pages, instead of one fault for every few; where they are sure to be there."""
    return mmap.MAP_SHARED | (getattr(mmap, "MAP_POPULATE", 0) if size <= POPULATED_BYTES else 0)


def _write_at(descriptor: int, data: BytesLike, offset: int) -> None:
    """At an offset of its own, so that what a full disk cut short is written over by the next try."""
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
