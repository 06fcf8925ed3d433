"""An encoded model or update: one run of bytes, described to the byte in docs/wire.md.

::

    preamble (24 bytes)  "MSTR" | format 1 | kind, 1 snapshot or 2 update | sections, u16 | layout digest, 16 bytes
    section              section id, u8 | codec, u8 | 0, u16 | 0, u32 | count, u64 | length, u64     (24 bytes)
                         then `length` bytes, then zeros up to a multiple of 8

Sections come in one order: trainable, float buffers, integers, and in a snapshot frozen. Only the trainable section
goes by the chosen codec. Whoever reads has the layout already, so a payload says nothing new: every field is compared
with what it must be, before anything is read or allocated, and working memory is a few blocks whatever the size.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np

from muster_wire.checksum import BytesLike
from muster_wire.codecs import CODECS, CodecId
from muster_wire.errors import Cause, PayloadError
from muster_wire.layout import Kind, Layout
from muster_wire.values import Integers, Values

MAGIC: Final = b"MSTR"
FORMAT: Final = 1
RAW_INT64: Final = 0  # the codec byte of the integer section
MAX_NORM: Final = 2.0**40  # of an update: far beyond any that learns, and its weighted sum can't overflow float32
MAX_INTEGER: Final = 2**53

_PREAMBLE: Final = struct.Struct("<4sBBH16s")
_SECTION: Final = struct.Struct("<BBHIQQ")
_INTEGER: Final = np.dtype("<i8")
_RANGES: Final = {
    "int64": (-MAX_INTEGER, MAX_INTEGER),
    "int32": (-(2**31), 2**31 - 1),
    "int16": (-(2**15), 2**15 - 1),
    "int8": (-128, 127),
    "uint8": (0, 255),
    "bool": (0, 1),
}


class PayloadKind(IntEnum):
    """A whole model, or what changes one."""

    SNAPSHOT = 1
    UPDATE = 2


class SectionId(IntEnum):
    """The parts of a payload, in the order in which they come."""

    TRAINABLE = 1
    FLOAT_BUFFERS = 2
    INTEGERS = 3
    FROZEN = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """What a payload has to be: everything about it but the numbers."""

    layout: Layout
    kind: PayloadKind
    codec: CodecId

    @property
    def size(self) -> int:
        """Bytes of the whole payload."""
        return _PREAMBLE.size + sum(_SECTION.size + _padded(section.length) for section in self.sections())

    def sections(self) -> tuple[Section, ...]:
        layout = self.layout
        return (
            _floats(SectionId.TRAINABLE, self.codec, layout.trainable_size),
            _floats(SectionId.FLOAT_BUFFERS, CodecId.FLOAT32, layout.float_buffer_size),
            Section(SectionId.INTEGERS, RAW_INT64, layout.integer_size, 8 * layout.integer_size),
            *((_floats(SectionId.FROZEN, CodecId.FLOAT32, layout.frozen_size),) * (self.kind is PayloadKind.SNAPSHOT)),
        )

    def preamble(self) -> bytes:
        return _PREAMBLE.pack(MAGIC, FORMAT, self.kind, len(self.sections()), bytes.fromhex(self.layout.digest))


@dataclass(frozen=True, slots=True)
class Section:
    """The header of a section."""

    id: SectionId
    codec: int
    count: int
    length: int

    def header(self) -> bytes:
        return _SECTION.pack(self.id, self.codec, 0, 0, self.count, self.length)


@dataclass(frozen=True, slots=True)
class Checked:
    """What checking found out: Euclidean norms of what the payload decodes to."""

    norm: float  # of the trainable section
    buffer_norm: float  # of the float buffers


def encode_snapshot(values: Values, codec: CodecId) -> memoryview:
    """A whole model as bytes (read-only). PayloadError if a value can't be said in the codec."""
    return _encode(Shape(values.layout, PayloadKind.SNAPSHOT, codec), values)


def encode_update(values: Values, codec: CodecId) -> memoryview:
    """An update as bytes (read-only). PayloadError if a value can't be said in the codec."""
    return _encode(Shape(values.layout, PayloadKind.UPDATE, codec), values)


def check(shape: Shape, payload: BytesLike, max_norm: float = MAX_NORM) -> Checked:
    """Every check that a payload must pass before it is decoded; PayloadError says which one failed.

    Reads everything once, in blocks. An update's norms may not exceed `max_norm`; a snapshot's may.
    """
    contents = _parse(shape, payload)
    squares = {}
    for section in shape.sections():
        if section.codec != RAW_INT64:
            squares[section.id] = CODECS[CodecId(section.codec)].check(contents[section.id])
    check_integers(shape.layout, np.frombuffer(contents[SectionId.INTEGERS], _INTEGER))
    checked = Checked(math.sqrt(squares[SectionId.TRAINABLE]), math.sqrt(squares[SectionId.FLOAT_BUFFERS]))
    largest = max(checked.norm, checked.buffer_norm)
    if shape.kind is PayloadKind.UPDATE and largest > max_norm:
        raise PayloadError(Cause.NORM, f"the update's norm is {largest:.4g}, and at most {max_norm:.4g} is allowed")
    return checked


def decode(shape: Shape, payload: BytesLike) -> Values:
    """The numbers of a payload. Sizes are checked here; call `check` first for the numbers of a stranger."""
    contents = _parse(shape, payload)
    values = Values.zeros(shape.layout, frozen=shape.kind is PayloadKind.SNAPSHOT)
    CODECS[shape.codec].decode_into(contents[SectionId.TRAINABLE], values.trainable)
    CODECS[CodecId.FLOAT32].decode_into(contents[SectionId.FLOAT_BUFFERS], values.float_buffers)
    values.integers[...] = np.frombuffer(contents[SectionId.INTEGERS], _INTEGER)
    if shape.kind is PayloadKind.SNAPSHOT:
        CODECS[CodecId.FLOAT32].decode_into(contents[SectionId.FROZEN], values.frozen)
    return values


def accumulate(shape: Shape, payload: BytesLike, total: Values, weight: float) -> None:
    """Adds a checked update to a running sum: floats times the weight, integers by the elementwise maximum."""
    if shape.kind is not PayloadKind.UPDATE or total.layout != shape.layout:
        raise PayloadError(Cause.WRONG_LAYOUT, "only an update of the sum's own layout can be added to it")
    contents = _parse(shape, payload)
    CODECS[shape.codec].accumulate(contents[SectionId.TRAINABLE], total.trainable, weight)
    CODECS[CodecId.FLOAT32].accumulate(contents[SectionId.FLOAT_BUFFERS], total.float_buffers, weight)
    np.maximum(total.integers, np.frombuffer(contents[SectionId.INTEGERS], _INTEGER), out=total.integers)


def check_integers(layout: Layout, integers: Integers) -> None:
    """Each tensor's integers lie in the range of its own dtype; PayloadError names the one whose don't."""
    for span in layout.spans:
        if span.spec.kind is not Kind.INTEGER_BUFFER or span.start == span.stop:
            continue
        low, high = _RANGES[span.spec.dtype]
        values = integers[span.start : span.stop]
        if values.min() < low or values.max() > high:
            raise PayloadError(
                Cause.MALFORMED,
                f"{span.spec.name}: an integer lies outside {low} to {high}, where {span.spec.dtype} ends",
            )


def _floats(section: SectionId, codec: CodecId, count: int) -> Section:
    return Section(section, codec, count, CODECS[codec].encoded_size(count))


def _padded(length: int) -> int:
    return -(-length // 8) * 8


def _encode(shape: Shape, values: Values) -> memoryview:
    payload = np.empty(shape.size, np.uint8).data
    payload[: _PREAMBLE.size] = shape.preamble()
    at = _PREAMBLE.size
    for section, buffer in zip(shape.sections(), values.buffers, strict=False):  # an update ends before the frozen ones
        payload[at : at + _SECTION.size] = section.header()
        start, stop = at + _SECTION.size, at + _SECTION.size + section.length
        if section.codec == RAW_INT64:
            np.frombuffer(payload[start:stop], _INTEGER)[...] = buffer
        else:
            CODECS[CodecId(section.codec)].encode_into(buffer, payload[start:stop])
        at = start + _padded(section.length)
        payload[stop:at] = bytes(at - stop)
    return payload.toreadonly()


def _parse(shape: Shape, payload: BytesLike) -> dict[SectionId, memoryview]:
    """The contents of each section, once every byte that isn't a number is what it must be."""
    data = memoryview(payload).toreadonly().cast("B")
    if len(data) != shape.size:
        what = shape.kind.name.lower()
        raise PayloadError(
            Cause.WRONG_LAYOUT, f"a {what} in {shape.codec.name.lower()} has {shape.size} bytes here, not {len(data)}"
        )
    _check_preamble(shape, data[: _PREAMBLE.size])
    contents = {}
    at = _PREAMBLE.size
    for section in shape.sections():
        _check_section(section, data[at : at + _SECTION.size])
        start, stop = at + _SECTION.size, at + _SECTION.size + section.length
        contents[section.id] = data[start:stop]
        at = start + _padded(section.length)
        if any(data[stop:at]):
            raise PayloadError(Cause.MALFORMED, f"section {section.id.name}: the padding after it is not zero")
    return contents


def _check_preamble(shape: Shape, data: memoryview) -> None:
    magic, version, kind, sections, digest = _PREAMBLE.unpack(data)
    if (magic, version) != (MAGIC, FORMAT):
        raise PayloadError(Cause.MALFORMED, f"not a payload of format {FORMAT}: it starts with {bytes(data[:5])!r}")
    if kind != shape.kind or sections != len(shape.sections()):
        raise PayloadError(
            Cause.MALFORMED,
            f"a {shape.kind.name.lower()} is kind {shape.kind.value} with {len(shape.sections())} sections, "
            f"and this is kind {kind} with {sections}",
        )
    if digest.hex() != shape.layout.digest:
        raise PayloadError(
            Cause.WRONG_LAYOUT,
            f"encoded for another model: its layout's digest is {digest.hex()}, not {shape.layout.digest}",
        )


def _check_section(expected: Section, data: memoryview) -> None:
    if data != expected.header():
        found = _SECTION.unpack(data)
        wanted = _SECTION.unpack(expected.header())
        raise PayloadError(
            Cause.MALFORMED,
            f"section {expected.id.name}: (id, codec, 0, 0, count, length) is {found} and must be {wanted}",
        )
