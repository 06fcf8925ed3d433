"""An encoded model or update: one run of bytes, described to the byte in docs/wire.md.

::

    preamble (24 bytes)  "MSTR" | format 1 | kind, 1 snapshot or 2 update | sections, u16 | layout digest, 16 bytes
    section              section id, u8 | codec, u8 | flags, u16 | block, u32 | count, u64 | length, u64  (24 bytes)
                         then `length` bytes, then zeros up to a multiple of 8

Sections come in one order: trainable, float buffers, integers, and in a snapshot frozen. Only the trainable section
goes by the chosen pipeline, which its header names: codec, flags for the stages around it, block. Whoever reads has the
layout and the pipeline already, so a payload says nothing new but how long that section became: every other field is
compared with what it must be, and the length with what it may be, before anything is read or allocated. Working memory
is a few blocks whatever the size.
"""

from __future__ import annotations

import math
import struct
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from muster_wire.checksum import BytesLike, checksum64
from muster_wire.codecs import CodecId, FixedCodec, Pipeline, Random, Sizes, pipeline_of
from muster_wire.errors import Cause, PayloadError
from muster_wire.layout import Kind, Layout
from muster_wire.pieces import Pieces
from muster_wire.values import Integers, Values

MAGIC: Final = b"MSTR"
FORMAT: Final = 1
RAW_INT64: Final = 0  # the codec byte of the integer section
MAX_NORM: Final = 2.0**40  # of an update: far beyond any that learns, and its weighted sum can't overflow float32
MAX_INTEGER: Final = 2**53

_PREAMBLE: Final = struct.Struct("<4sBBH16s")
_SECTION: Final = struct.Struct("<BBHIQQ")
_INTEGER: Final = np.dtype("<i8")
_EXACT: Final = Pipeline(CodecId.FLOAT32)
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
    codec: CodecId | Pipeline
    sections: tuple[Section, ...] = field(init=False, repr=False, compare=False)
    sizes: Sizes = field(
        init=False, repr=False, compare=False
    )  # of the whole: one number unless it depends on the values

    def __post_init__(self) -> None:
        object.__setattr__(self, "sections", self._sections())
        object.__setattr__(self, "sizes", _sizes_of(self.sections))

    @property
    def pipeline(self) -> Pipeline:
        return pipeline_of(self.codec)

    def check_size(self, size: int) -> None:
        """PayloadError for a size that this payload can't have."""
        sizes = self.sizes
        if not sizes.least <= size <= sizes.most:
            what = f"a {self.kind.name.lower()} of this layout in {self.pipeline.name} has"
            room = sizes.most if sizes.least == sizes.most else f"{sizes.least} to {sizes.most}"
            raise PayloadError(Cause.WRONG_LAYOUT, f"{what} {room} bytes, not {size}")

    def _sections(self) -> tuple[Section, ...]:
        layout = self.layout
        return (
            _floats(SectionId.TRAINABLE, self.pipeline, layout.trainable_size),
            _floats(SectionId.FLOAT_BUFFERS, _EXACT, layout.float_buffer_size),
            Section(SectionId.INTEGERS, None, layout.integer_size, _exactly(8 * layout.integer_size)),
            *((_floats(SectionId.FROZEN, _EXACT, layout.frozen_size),) * (self.kind is PayloadKind.SNAPSHOT)),
        )

    def preamble(self) -> bytes:
        return _PREAMBLE.pack(MAGIC, FORMAT, self.kind, len(self.sections), bytes.fromhex(self.layout.digest))


@dataclass(frozen=True, slots=True)
class Section:
    """What the header of a section has to say. Integers go through no pipeline."""

    id: SectionId
    pipeline: Pipeline | None
    count: int
    sizes: Sizes

    def header(self, length: int) -> bytes:
        return _SECTION.pack(self.id, *self._fields, self.count, length)

    @property
    def _fields(self) -> tuple[int, int, int]:
        return self.pipeline.fields if self.pipeline else (RAW_INT64, 0, 0)


@dataclass(frozen=True, slots=True)
class Checked:
    """What checking found out: Euclidean norms of what the payload decodes to."""

    norm: float  # of the trainable section
    buffer_norm: float  # of the float buffers


def encode_snapshot(values: Values, codec: CodecId | Pipeline, rng: Random | None = None) -> memoryview:
    """A whole model as bytes (read-only). PayloadError if a value can't be said in the codec.

    Codecs that round at random draw from `rng`. Without one they draw from a stream that the values themselves seed:
    the same for the same values, and independent for different ones.
    """
    return _encode(Shape(values.layout, PayloadKind.SNAPSHOT, codec), values, rng)


def encode_update(values: Values, codec: CodecId | Pipeline, rng: Random | None = None) -> memoryview:
    """An update as bytes (read-only). PayloadError if a value can't be said in the codec; `rng` as for a snapshot."""
    return _encode(Shape(values.layout, PayloadKind.UPDATE, codec), values, rng)


def snapshot_in_place(values: Values) -> Pieces:
    """What `encode_snapshot` makes in float32, without a copy of the values: they must stay as they are."""
    return _in_place(Shape(values.layout, PayloadKind.SNAPSHOT, _EXACT), values)


def update_in_place(values: Values) -> Pieces:
    """The same for `encode_update`."""
    return _in_place(Shape(values.layout, PayloadKind.UPDATE, _EXACT), values)


def _in_place(shape: Shape, values: Values) -> Pieces:
    if sys.byteorder != "little":
        return Pieces((_encode(shape, values, None),))
    parts = [memoryview(shape.preamble())]
    for section, buffer in zip(shape.sections, values.buffers, strict=False):  # updates end earlier
        padding = bytes(_padded(buffer.nbytes) - buffer.nbytes)
        parts += [memoryview(section.header(buffer.nbytes)), buffer.data, memoryview(padding)]
    return Pieces(parts)


def check(shape: Shape, payload: BytesLike, max_norm: float = MAX_NORM) -> Checked:
    """Every check that a payload must pass before it is decoded; PayloadError says which one failed.

    Reads everything once, in blocks. An update's norm may not exceed `max_norm`, nor its buffers' the largest that a
    sum bears; a snapshot's may.
    """
    contents = _parse(shape, payload)
    squares = {}
    for section in shape.sections:
        if section.pipeline is not None:
            squares[section.id] = section.pipeline.codec.check(contents[section.id], section.count)
    check_integers(shape.layout, np.frombuffer(contents[SectionId.INTEGERS], _INTEGER))
    checked = Checked(math.sqrt(squares[SectionId.TRAINABLE]), math.sqrt(squares[SectionId.FLOAT_BUFFERS]))
    if shape.kind is PayloadKind.UPDATE:
        _check_norm("the update's norm", checked.norm, max_norm)
        _check_norm("the update's buffers' norm", checked.buffer_norm, MAX_NORM)
    return checked


def _check_norm(what: str, norm: float, most: float) -> None:
    if norm > most:
        raise PayloadError(Cause.NORM, f"{what} is {norm:.4g}, and at most {most:.4g} is allowed")


def decode(shape: Shape, payload: BytesLike) -> Values:
    """The numbers of a payload. Sizes are checked here; call `check` first for the numbers of a stranger."""
    values = Values.zeros(shape.layout, frozen=shape.kind is PayloadKind.SNAPSHOT)
    decode_over(shape, payload, values)
    return values


def decode_over(shape: Shape, payload: BytesLike, values: Values) -> None:
    """The same, over values that are there already: memory that the caller chose, such as a mapped file."""
    if values.layout != shape.layout or (shape.kind is PayloadKind.SNAPSHOT) > values.has_frozen:
        raise PayloadError(Cause.WRONG_LAYOUT, "a payload is decoded over values of its own layout")
    contents = _parse(shape, payload)
    shape.pipeline.codec.decode_into(contents[SectionId.TRAINABLE], values.trainable)
    _EXACT.codec.decode_into(contents[SectionId.FLOAT_BUFFERS], values.float_buffers)
    values.integers[...] = np.frombuffer(contents[SectionId.INTEGERS], _INTEGER)
    if shape.kind is PayloadKind.SNAPSHOT:
        _EXACT.codec.decode_into(contents[SectionId.FROZEN], values.frozen)


def decode_in_place(shape: Shape, payload: BytesLike) -> Values:
    """Like `decode`, but read-only, and without a copy where the numbers lie in the payload as they are in memory.

    The values keep the payload's memory for as long as they live.
    """
    if shape.pipeline != _EXACT or sys.byteorder != "little":
        return decode(shape, payload).sealed()
    contents = _parse(shape, payload)
    floats = {name: np.frombuffer(data, np.float32) for name, data in contents.items() if name != SectionId.INTEGERS}
    return Values(
        shape.layout,
        floats[SectionId.TRAINABLE],
        floats[SectionId.FLOAT_BUFFERS],
        np.frombuffer(contents[SectionId.INTEGERS], np.int64),
        floats.get(SectionId.FROZEN, np.zeros(0, np.float32)),
    )


def accumulate(shape: Shape, payload: BytesLike, total: Values, weight: float) -> None:
    """Adds a checked update to a running sum: floats times the weight, integers by the elementwise maximum."""
    if shape.kind is not PayloadKind.UPDATE or total.layout != shape.layout:
        raise PayloadError(Cause.WRONG_LAYOUT, "only an update of the sum's own layout can be added to it")
    contents = _parse(shape, payload)
    shape.pipeline.codec.accumulate(contents[SectionId.TRAINABLE], total.trainable, weight)
    _EXACT.codec.accumulate(contents[SectionId.FLOAT_BUFFERS], total.float_buffers, weight)
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


def advance(shape: Shape, payload: BytesLike, model: Values) -> None:
    """Turns a model into the next version by what changed: floats are added, integers are taken over, in place.

    Both sides do this with the same bytes, and additions in float32 round alike everywhere, so they stay equal.
    """
    if shape.kind is not PayloadKind.UPDATE or model.layout != shape.layout:
        raise PayloadError(Cause.WRONG_LAYOUT, "a model advances by an update of its own layout")
    contents = _parse(shape, payload)
    shape.pipeline.codec.accumulate(contents[SectionId.TRAINABLE], model.trainable, 1.0)
    _EXACT.codec.accumulate(contents[SectionId.FLOAT_BUFFERS], model.float_buffers, 1.0)
    model.integers[...] = np.frombuffer(contents[SectionId.INTEGERS], _INTEGER)


def _sizes_of(sections: tuple[Section, ...]) -> Sizes:
    fixed = _PREAMBLE.size + _SECTION.size * len(sections)
    return Sizes(
        fixed + sum(_padded(section.sizes.least) for section in sections),
        fixed + sum(_padded(section.sizes.most) for section in sections),
    )


def _floats(section: SectionId, pipeline: Pipeline, count: int) -> Section:
    return Section(section, pipeline, count, pipeline.codec.sizes(count))


def _exactly(size: int) -> Sizes:
    return Sizes(size, size)


def _padded(length: int) -> int:
    return -(-length // 8) * 8


def _encode(shape: Shape, values: Values, rng: Random | None) -> memoryview:
    rng = rng or np.random.default_rng(checksum64(values.trainable.data) if shape.pipeline.is_random else 0)
    sections = shape.sections
    packed = [_packed(*piece, rng) for piece in zip(sections, values.buffers, strict=False)]  # updates end earlier
    lengths = [
        section.sizes.most if data is None else len(data) for section, data in zip(sections, packed, strict=True)
    ]
    size = _PREAMBLE.size + sum(_SECTION.size + _padded(length) for length in lengths)
    payload = np.empty(size, np.uint8).data
    payload[: _PREAMBLE.size] = shape.preamble()
    at = _PREAMBLE.size
    for index, (section, length) in enumerate(zip(sections, lengths, strict=True)):
        payload[at : at + _SECTION.size] = section.header(length)
        start, stop = at + _SECTION.size, at + _SECTION.size + length
        _write(section, values.buffers[index], packed[index], payload[start:stop], rng)
        at = start + _padded(length)
        payload[stop:at] = bytes(at - stop)
    return payload.toreadonly()


def _packed(section: Section, buffer: NDArray[Any], rng: Random) -> memoryview | None:
    """The bytes of a section whose length nobody knows before."""
    if section.pipeline is None or isinstance(section.pipeline.codec, FixedCodec):
        return None
    return section.pipeline.codec.encode(buffer, rng)


def _write(section: Section, buffer: NDArray[Any], packed: memoryview | None, place: memoryview, rng: Random) -> None:
    if packed is not None:
        place[:] = packed
    elif section.pipeline is None:
        np.frombuffer(place, _INTEGER)[...] = buffer
    elif isinstance(codec := section.pipeline.codec, FixedCodec):
        codec.encode_into(buffer, place, rng)


def _parse(shape: Shape, payload: BytesLike) -> dict[SectionId, memoryview]:
    """The contents of each section, once every byte that isn't a number is what it must be."""
    data = memoryview(payload).toreadonly().cast("B")
    shape.check_size(len(data))
    _check_preamble(shape, data[: _PREAMBLE.size])
    contents = {}
    at = _PREAMBLE.size
    for section in shape.sections:
        start = at + _SECTION.size
        stop = start + _checked_length(section, data[at:start], len(data) - start)
        contents[section.id] = data[start:stop]
        at = start + _padded(stop - start)
        if any(data[stop:at]):
            raise PayloadError(Cause.MALFORMED, f"section {section.id.name}: the padding after it is not zero")
    if at != len(data):
        raise PayloadError(Cause.MALFORMED, f"the sections end at {at}, and the payload has {len(data)} bytes")
    return contents


def _check_preamble(shape: Shape, data: memoryview) -> None:
    magic, version, kind, sections, digest = _PREAMBLE.unpack(data)
    if (magic, version) != (MAGIC, FORMAT):
        raise PayloadError(Cause.MALFORMED, f"not a payload of format {FORMAT}: it starts with {bytes(data[:5])!r}")
    if kind != shape.kind or sections != len(shape.sections):
        raise PayloadError(
            Cause.MALFORMED,
            f"a {shape.kind.name.lower()} is kind {shape.kind.value} with {len(shape.sections)} sections, "
            f"and this is kind {kind} with {sections}",
        )
    if digest.hex() != shape.layout.digest:
        raise PayloadError(
            Cause.WRONG_LAYOUT,
            f"encoded for another model: its layout's digest is {digest.hex()}, not {shape.layout.digest}",
        )


def _checked_length(expected: Section, data: memoryview, room: int) -> int:
    """How long a section is, which has to be possible and to lie inside the payload with its padding."""
    if len(data) != _SECTION.size:
        raise PayloadError(Cause.MALFORMED, f"the payload ends before section {expected.id.name}")
    found = _SECTION.unpack(data)
    length: int = found[-1]
    if data != expected.header(length) or not expected.sizes.least <= length <= expected.sizes.most:
        wanted = _SECTION.unpack(expected.header(expected.sizes.most))
        raise PayloadError(
            Cause.MALFORMED,
            f"section {expected.id.name}: (id, codec, flags, block, count, length) is {found} and must be {wanted}, "
            f"with a length of at least {expected.sizes.least}",
        )
    if _padded(length) > room:
        raise PayloadError(Cause.MALFORMED, f"section {expected.id.name}: {length} bytes run past the payload's end")
    return length
