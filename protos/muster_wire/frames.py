"""Transfers: a payload cut into frames that are prepared once and sent to everybody, and put together again.

A frame is the serialized `Frame` message itself: a short prefix, made once, in front of a slice of the payload. So a
thousand clients that fetch one model share one encoded copy, and a sender whose stub passes bytes through unchanged
(`IDENTITY`) costs one copy of a frame at a time. A transfer can start at any offset, which is how a broken one goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from muster_wire.checksum import BytesLike, Checksum128, checksum64, checksum64_of
from muster_wire.codecs import CodecId, Pipeline, codec_id, pipeline_of
from muster_wire.errors import Cause, FrameError, PayloadError
from muster_wire.layout import MAX_JSON_BYTES, Layout
from muster_wire.messages import pipeline_from, pipeline_message
from muster_wire.payload import PayloadKind, Shape
from muster_wire.pieces import Pieces
from muster_wire.v1 import federation_pb2 as pb

FRAME_BYTES: Final = 2**20
MIN_FRAME_BYTES: Final = 2**10
MAX_FRAME_BYTES: Final = 2**24

_DATA_TAG: Final = b"\x22"  # Frame.data, field 4, and SubmitRequest.frame, field 2: both length-delimited
_FRAME_TAG: Final = b"\x12"


def message_limit(frame_bytes: int) -> int:
    """The largest message that either side has to receive: a frame, a layout, and their trimmings."""
    return frame_bytes + MAX_JSON_BYTES + 4096


@dataclass(frozen=True, slots=True)
class Header:
    """What a receiver knows before the first byte: `TransferHeader`, checked."""

    codec: CodecId | Pipeline
    size: int
    checksum: str  # XXH3-128 of the encoded bytes
    layout: Layout
    digest: str  # of the version that comes of it; of what is submitted, the checksum again
    base: str = ""  # the version that this is the change from; empty for what stands alone

    @classmethod
    def from_message(cls, message: pb.TransferHeader, known: Layout | None = None) -> Header:
        """Checks a peer's header; LayoutError, PayloadError or FrameError. A `known` layout is not read again."""
        for name, digest in (("checksum", message.checksum), ("digest", message.digest), ("base", message.base)):
            if not _is_digest(digest) and (digest or name != "base"):
                raise FrameError(f"the transfer's {name} is not 32 hexadecimal digits: {digest[:40]!r}")
        is_known = known is not None and known.to_json() == message.layout
        layout = known if known is not None and is_known else Layout.from_json(message.layout)
        return cls(_codec(message), message.size, message.checksum, layout, message.digest, message.base)

    @property
    def is_change(self) -> bool:
        """Whether it leads from one version to the next; else it is a whole model, or a client's update."""
        return bool(self.base)

    def shape(self, kind: PayloadKind) -> Shape:
        """What the payload has to be; PayloadError if the header promises a size that it can't have.

        Call it before making room for `size` bytes: a layout is bounded, a number in a header is not.
        """
        shape = Shape(self.layout, kind, self.codec)
        try:
            shape.check_size(self.size)
        except PayloadError as error:
            raise PayloadError(error.cause, f"the header promises {self.size} bytes: {error.reason}") from error
        return shape

    def to_message(self) -> pb.TransferHeader:
        pipeline = pipeline_of(self.codec)
        return pb.TransferHeader(
            codec=pb.CodecId.Name(pipeline.numbers.value),
            size=self.size,
            checksum=self.checksum,
            layout=self.layout.to_json(),
            digest=self.digest,
            pipeline=None if pipeline == Pipeline(pipeline.numbers) else pipeline_message(pipeline),
            base=self.base,
        )


@dataclass(frozen=True, slots=True)
class Transfer:
    """A payload that is ready to be sent any number of times, from any offset, by any number of threads."""

    header: Header
    payload: Pieces
    frame_bytes: int
    checksums: tuple[int, ...]  # of each whole frame

    def frames(self, offset: int = 0, frame_at: Callable[[int], bytes] | None = None) -> Iterator[bytes]:
        """Serialized `Frame` messages, what `Fetch` answers with; the first one also carries the header.

        An empty rest still gives one frame, so that the header arrives. FrameError if the offset is not in the payload.
        `frame_at` stands in for this transfer's own: whoever sends to many may have a frame in memory already.
        """
        make = frame_at or self.frame_at
        for position in self._positions(offset):
            frame = make(position)
            yield self._lead() + frame if position == offset else frame

    def frame_at(self, offset: int) -> bytes:
        """The serialized frame that begins here, without the header."""
        return b"".join(self._piece(offset))

    def requests(self, offset: int = 0) -> Iterator[bytes]:
        """Serialized `SubmitRequest` messages with one frame each; the offer before them carries the header."""
        for position in self._positions(offset):
            parts = self._piece(position)
            yield b"".join((_FRAME_TAG, _varint(sum(map(len, parts))), *parts))

    def _positions(self, offset: int) -> Iterator[int]:
        """Where frames begin: here, and at each multiple of their size that is left."""
        if not 0 <= offset <= self.header.size:
            raise FrameError(f"offset {offset} is not in a transfer of {self.header.size} bytes")
        yield offset
        yield from range((offset // self.frame_bytes + 1) * self.frame_bytes, self.header.size, self.frame_bytes)

    def _lead(self) -> bytes:
        lead: bytes = pb.Frame(header=self.header.to_message()).SerializeToString()
        return lead

    def _piece(self, offset: int) -> list[bytes | memoryview]:
        index, into = divmod(offset, self.frame_bytes)
        data = list(self.payload.cut(offset, (index + 1) * self.frame_bytes))
        checksum = self.checksums[index] if data and not into else checksum64_of(data)
        return [_prefix(offset, checksum, sum(map(len, data))), *data]


def prepare(
    payload: memoryview | Pieces,
    layout: Layout,
    codec: CodecId | Pipeline,
    digest: str,
    frame_bytes: int = FRAME_BYTES,
    base: str = "",
) -> Transfer:
    """Checksums a payload whole and frame by frame; it must not change any more.

    `digest` names the version that comes of it. What is submitted makes none: empty stands for the payload's checksum.
    """
    data = payload if isinstance(payload, Pieces) else Pieces((payload,))
    whole, checksums = Checksum128(), []
    for at in range(0, len(data), frame_bytes):
        frame = list(data.cut(at, at + frame_bytes))
        checksums.append(checksum64_of(frame))
        for part in frame:
            whole.update(part)
    checksum = whole.hexdigest()
    header = Header(_plain(codec), len(data), checksum, layout, digest or checksum, base)
    return Transfer(header, data, frame_bytes, tuple(checksums))


class ArrivedFrame(Protocol):
    """A `Frame`, of protobuf's making or of `received`'s."""

    @property
    def offset(self) -> int: ...

    @property
    def checksum(self) -> int: ...

    @property
    def data(self) -> bytes | memoryview: ...


class Sink(Protocol):
    """Where received bytes go, in order."""

    def append(self, data: BytesLike) -> None: ...


class Memory:
    """A sink in memory, of the size that the header promised (and its receiver has agreed to)."""

    def __init__(self, size: int) -> None:
        self._buffer = np.empty(size, np.uint8)
        self._size = 0

    def append(self, data: BytesLike) -> None:
        self._buffer[self._size : self._size + len(data)] = np.frombuffer(data, np.uint8)
        self._size += len(data)

    def view(self) -> memoryview:
        """What has arrived, read-only."""
        return self._buffer.data[: self._size].toreadonly()


class Reassembly:
    """One transfer on its way in. It outlives a broken connection: the next one goes on from `received`."""

    def __init__(self, header: Header, sink: Sink, frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.header = header
        self._sink = sink
        self._frame_bytes = frame_bytes
        self._received = 0
        self._checksum = Checksum128()

    @property
    def received(self) -> int:
        """Bytes so far: the offset to go on from."""
        return self._received

    @property
    def is_complete(self) -> bool:
        return self._received == self.header.size

    def add(self, frame: ArrivedFrame) -> None:
        """Takes the next frame; FrameError if it isn't that. Nothing of a bad frame is kept."""
        data = frame.data
        if frame.offset != self._received:
            raise FrameError(f"a frame starts at {frame.offset} and the transfer is at {self._received}")
        if len(data) > min(self._frame_bytes, self.header.size - self._received):
            raise FrameError(
                f"a frame of {len(data)} bytes at {frame.offset} is longer than {self._frame_bytes}, or runs past the "
                f"end at {self.header.size}",
                Cause.TOO_LARGE,
            )
        if checksum64(data) != frame.checksum:
            raise FrameError(f"the frame at {frame.offset} is damaged: its checksum is wrong; send it again")
        self._sink.append(data)
        self._checksum.update(data)
        self._received += len(data)

    def finish(self) -> None:
        """FrameError unless everything has arrived and is what the header promised."""
        if not self.is_complete:
            raise FrameError(f"the transfer ended at {self._received} of {self.header.size} bytes")
        if self._checksum.hexdigest() != self.header.checksum:
            raise FrameError("the transfer is damaged: its checksum is not the one its header promised; send it again")


def _codec(message: pb.TransferHeader) -> CodecId | Pipeline:
    """The codec where it says it all, and a pipeline only where there is more."""
    codec = codec_id(message.codec)
    if not message.HasField("pipeline"):
        return _plain(codec)
    pipeline = pipeline_from(message.pipeline)
    if pipeline.numbers is not codec or pipeline == Pipeline(codec):
        raise PayloadError(Cause.MALFORMED, f"the header's codec is {codec.name}, and its pipeline {pipeline.name}")
    return pipeline


def _plain(codec: CodecId | Pipeline) -> CodecId | Pipeline:
    """The one way to say a pipeline in a header: headers are compared."""
    pipeline = pipeline_of(codec)
    return pipeline.numbers if pipeline == Pipeline(pipeline.numbers) else pipeline


def _prefix(offset: int, checksum: int, length: int) -> bytes:
    """Everything of a serialized `Frame` before its data."""
    fields: bytes = pb.Frame(offset=offset, checksum=checksum).SerializeToString()
    return b"".join((fields, _DATA_TAG, _varint(length)))


def delimited(tag: bytes, message: bytes) -> bytes:
    """A serialized message as a field of another one."""
    return b"".join((tag, _varint(len(message)), message))


def _varint(number: int) -> bytes:
    """A length as protobuf writes it: seven bits a byte, the lowest first."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _is_digest(text: str) -> bool:
    return len(text) == 32 and all(character in "0123456789abcdef" for character in text)
