"""Frames as they arrive: read in place, because protobuf would copy each megabyte of a model two or three times.

Muster's senders write a frame's fields in order, once each, and those bytes are taken apart here with a view of the
data. Other bytes that mean the same (another order, a field that a newer version added) are protobuf's to read.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from muster_wire.errors import FrameError
from muster_wire.v1 import federation_pb2 as pb

_HEADER, _OFFSET, _CHECKSUM, _DATA = 0x0A, 0x10, 0x19, 0x22  # tags of `Frame`, in order
_FRAME: Final = b"\x12"  # tag of `SubmitRequest.frame`
_UINT64: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class ReceivedFrame:
    """A `Frame`; its data lies in the message that it came in."""

    header: pb.TransferHeader | None
    offset: int
    checksum: int
    data: memoryview


class _UnusualError(Exception):
    """Not as our senders write it; it may be right all the same."""


def parse_frame(message: bytes) -> ReceivedFrame:
    """A serialized `Frame`. FrameError if it isn't one."""
    return _frame(memoryview(message))


def parse_request(message: bytes) -> pb.Offer | ReceivedFrame:
    """What a serialized `SubmitRequest` holds. FrameError if it holds neither."""
    view = memoryview(message)
    if message[:1] == _FRAME:
        try:
            length, at = _varint(view, 1)
            if at + length == len(view):
                return _frame(view[at:])
        except _UnusualError:
            pass
    return _request(message)


def parse_whole(message: bytes, most_bytes: int) -> tuple[pb.Offer, ReceivedFrame]:
    """What a serialized `HandInRequest` holds. FrameError if it isn't one, or if its frame has more bytes than this."""
    try:
        request = pb.HandInRequest.FromString(message)
    except DecodeError as error:
        raise FrameError("not an update: not a protobuf message") from error
    if not request.HasField("offer") or not request.HasField("frame"):
        raise FrameError("an update that is handed in whole is an offer and a frame")
    if len(request.frame.data) > most_bytes:
        raise FrameError(
            f"{len(request.frame.data)} bytes at once, and at most {most_bytes} are taken whole: submit them"
        )
    return request.offer, _of_message(request.frame)


def _request(message: bytes) -> pb.Offer | ReceivedFrame:
    try:
        request = pb.SubmitRequest.FromString(message)
    except DecodeError as error:
        raise FrameError("neither an offer nor a frame: not a protobuf message") from error
    match request.WhichOneof("kind"):
        case "offer":
            return request.offer
        case "frame":
            return _of_message(request.frame)
        case _:
            raise FrameError("neither an offer nor a frame")


def _frame(view: memoryview) -> ReceivedFrame:
    try:
        return _in_place(view)
    except _UnusualError:
        pass
    try:
        return _of_message(pb.Frame.FromString(bytes(view)))
    except DecodeError as error:
        raise FrameError("not a frame: not a protobuf message") from error


def _of_message(frame: pb.Frame) -> ReceivedFrame:
    header = frame.header if frame.HasField("header") else None
    return ReceivedFrame(header, frame.offset, frame.checksum, memoryview(frame.data))


def _in_place(view: memoryview) -> ReceivedFrame:
    """Proto3 leaves out what is zero or empty, so each field may be missing."""
    at, header, offset, checksum, data = 0, None, 0, 0, view[:0]
    if _has(view, at, _HEADER):
        data, at = _bytes(view, at + 1)
        header, data = _header(data), view[:0]
    if _has(view, at, _OFFSET):
        offset, at = _varint(view, at + 1)
    if _has(view, at, _CHECKSUM) and len(view) >= at + 9:
        (checksum,) = _UINT64.unpack_from(view, at + 1)
        at += 9
    if _has(view, at, _DATA):
        data, at = _bytes(view, at + 1)
    if at != len(view):
        raise _UnusualError
    return ReceivedFrame(header, offset, checksum, data)


def _header(data: memoryview) -> pb.TransferHeader:
    try:
        return pb.TransferHeader.FromString(bytes(data))
    except DecodeError as error:
        raise _UnusualError from error


def _has(view: memoryview, at: int, tag: int) -> bool:
    return at < len(view) and view[at] == tag


def _bytes(view: memoryview, at: int) -> tuple[memoryview, int]:
    length, at = _varint(view, at)
    if at + length > len(view):
        raise _UnusualError
    return view[at : at + length], at + length


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number of at most 64 bits, and where it ends."""
    number = 0
    for place, byte in enumerate(view[at : at + 10]):
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80 and number < 2**64:
            return number, at + place + 1
    raise _UnusualError
