"""What a client holds of the model, and how it comes to the next version: transfer by transfer, each one proven.

::

    held version ─► change ─► change ─► the wanted version        or        snapshot ─► change ─► the wanted version

Each transfer says what it leads to, and each is held against that before the next. A call that breaks leaves what was
reached and what has arrived of the transfer after it; the next call goes on from there. A version that was handed out
is never written to again: the first change after it works on a copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from muster_wire.chain import MAX_TRANSFERS
from muster_wire.errors import FrameError, WireError
from muster_wire.frames import ArrivedFrame, Header, Memory, Reassembly
from muster_wire.payload import PayloadKind, Shape, advance, decode_in_place
from muster_wire.received import parse_frame
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values


@dataclass(frozen=True, slots=True)
class Wish:
    """What to ask the coordinator for: the fields of a `FetchRequest`."""

    digest: str
    held: str
    partial: str
    offset: int


class Holding:
    """One version, and the way to the next. Errors are WireErrors; what was held stays held unless it was spoilt."""

    def __init__(self, values: Values | None = None) -> None:
        self._values = values
        self._digest = values.digest() if values is not None else ""
        self._layout = values.layout if values is not None else None  # of the last model: the next likely has the same
        self._is_handed_out = True
        self._wanted = ""
        self._transfer: Reassembly | None = None
        self._memory = Memory(0)
        self._transfers = 0
        self.has_changed = False  # by a change; a snapshot is no sign that changes will follow

    def want(self, digest: str) -> Wish:
        """Begin to fetch a version, or go on."""
        self._wanted = digest
        self._transfers = 0
        arriving = self._transfer
        return Wish(
            digest=digest,
            held=self._digest,
            partial=arriving.header.digest if arriving else "",
            offset=arriving.received if arriving else 0,
        )

    @property
    def is_there(self) -> bool:
        """Whether the wanted version is what is held."""
        return bool(self._wanted) and self._digest == self._wanted

    def take(self) -> Values:
        """The version that is held. It is shared from now on, and stays as it is."""
        if self._values is None:
            raise ValueError("nothing is held yet")
        self._is_handed_out = True
        return self._values.sealed()

    def receive(self, message: bytes) -> None:
        """A serialized `Frame` as `Fetch` answers with it, and the header of its transfer where it brings one."""
        frame = parse_frame(message)
        self._begin_with(frame.header)
        self.add(frame)

    def receive_all(self, frames: Iterable[pb.Frame]) -> None:
        """Frames that have come all at once."""
        for frame in frames:
            self._begin_with(frame.header if frame.HasField("header") else None)
            self.add(frame)

    def _begin_with(self, message: pb.TransferHeader | None) -> None:
        if message is not None:
            header = Header.from_message(message, self._layout)
            self._layout = header.layout
            self.begin(header)

    def begin(self, header: Header) -> None:
        """The next transfer: the one that was broken off, or another."""
        self._transfers += 1
        if self.is_there or self._transfers > MAX_TRANSFERS:
            raise FrameError(f"transfer {self._transfers} leads past the version that is wanted, {self._wanted}")
        if header.is_change and header.base != self._digest:
            raise FrameError(f"a change of version {header.base} came, and {self._digest or 'none'} is held")
        if self._is_broken_off(header):
            return
        _shape(header)  # before room is made for it
        self._memory = Memory(header.size)
        self._transfer = Reassembly(header, self._memory)

    def _is_broken_off(self, header: Header) -> bool:
        return self._transfer is not None and self._transfer.header == header

    def add(self, frame: ArrivedFrame) -> None:
        """The next frame. With its last one a transfer takes effect."""
        if self._transfer is None:
            raise FrameError("a frame came before the header of its transfer")
        self._transfer.add(frame)
        if self._transfer.is_complete:
            transfer, self._transfer = self._transfer, None
            transfer.finish()
            self._apply(transfer.header, self._memory.view())
            self._memory = Memory(0)

    def _apply(self, header: Header, payload: memoryview) -> None:
        try:
            values = self._changed(header, payload) if header.is_change else decode_in_place(_shape(header), payload)
            if (found := values.digest()) != header.digest:
                raise FrameError(f"the bytes sent as version {header.digest} are those of {found}")
        except WireError:
            if header.is_change:
                self._values, self._digest = None, ""  # it may be half changed
            raise
        self._is_handed_out = not header.is_change  # numbers that lie in the payload are read-only
        self._values, self._digest, self.has_changed = values, header.digest, self.has_changed or header.is_change

    def _changed(self, header: Header, payload: memoryview) -> Values:
        if self._values is None:
            raise FrameError("a change came, and no version is held")
        values = _copy(self._values) if self._is_handed_out else self._values
        advance(_shape(header), payload, values)
        return values


def _shape(header: Header) -> Shape:
    return header.shape(PayloadKind.UPDATE if header.is_change else PayloadKind.SNAPSHOT)


def _copy(values: Values) -> Values:
    return Values(values.layout, *(np.array(buffer) for buffer in values.buffers))
