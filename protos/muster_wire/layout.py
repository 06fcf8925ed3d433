"""The shape of a model: which tensors, in which order, and what kind each is.

A layout travels once with every transfer and is compared by its digest. It is what turns flat buffers into named
tensors, so nothing is allocated or decoded before a layout is checked here: a peer's layout is hostile until then.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Final

import msgspec

from muster_wire.checksum import checksum128
from muster_wire.errors import LayoutError
from muster_wire.groups import Group, check_groups

MAX_TENSORS: Final = 65_536
MAX_NAME_BYTES: Final = 512
MAX_RANK: Final = 16
MAX_ELEMENTS: Final = 2**36  # of all tensors together: 256 GiB of float32
MAX_JSON_BYTES: Final = 8 * 2**20

FLOAT_DTYPES: Final = ("float64", "float32", "float16", "bfloat16")
INTEGER_DTYPES: Final = ("int64", "int32", "int16", "int8", "uint8", "bool")


class Kind(Enum):
    """What may be done with a tensor. Codecs, strategies and optimisers say which kinds they touch."""

    TRAINABLE = "trainable"
    FLOAT_BUFFER = "floatBuffer"  # running means and variances: averaged plainly, never squeezed
    INTEGER_BUFFER = "integerBuffer"  # counters: the largest is kept
    FROZEN = "frozen"  # parameters that nobody trains: in snapshots, never in updates
    PRIVATE = "private"  # never leaves its client, so it is in no layout at all


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor. `dtype` is the model's own; floats travel and are stored as float32, the rest as int64."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: Kind

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Span:
    """Where a tensor lies in the flat buffer of its kind, in elements."""

    spec: TensorSpec
    start: int
    stop: int


@dataclass(frozen=True)
class Layout:
    """The tensors of a model in their canonical order, which is the order the model gave them. Raises LayoutError.

    `groups` says which units may be left out together, in a job whose clients train parts of the model.
    """

    tensors: tuple[TensorSpec, ...]
    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        if len(self.tensors) > MAX_TENSORS:
            raise LayoutError(f"{len(self.tensors)} tensors are more than the {MAX_TENSORS} that a layout may have")
        for spec in self.tensors:
            _check(spec)
        if len({spec.name for spec in self.tensors}) != len(self.tensors):
            raise LayoutError(f"two tensors have the same name: {_first_repeated(self.tensors)}")
        if self.total_size > MAX_ELEMENTS:
            raise LayoutError(f"{self.total_size} elements are more than the {MAX_ELEMENTS} that a layout may have")
        if self.groups:
            check_groups(self.groups, {spec.name: spec.shape for spec in self.tensors})

    @classmethod
    def from_json(cls, text: str | bytes) -> Layout:
        """Reads what `to_json` wrote; anything else is a LayoutError."""
        if len(text) > MAX_JSON_BYTES:
            raise LayoutError(f"a layout of {len(text)} bytes is longer than the {MAX_JSON_BYTES} allowed")
        try:
            document = _DECODER.decode(text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise LayoutError(f"not a layout: {error}") from error
        tensors = tuple(TensorSpec(t.name, t.shape, t.dtype, t.kind) for t in document.tensors)
        return cls(tensors, document.groups)

    @cached_property
    def json(self) -> str:
        tensors = tuple(_Tensor(s.name, s.shape, s.dtype, s.kind) for s in self.tensors)
        return msgspec.json.encode(_Document(tensors, self.groups)).decode()

    def to_json(self) -> str:
        """The one text of this layout: compact, in order, the same bytes every time."""
        return self.json

    @cached_property
    def digest(self) -> str:
        """XXH3-128 of the JSON: equal layouts have equal digests."""
        return checksum128(self.json.encode())

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        return tuple(_spans(self.tensors))

    @cached_property
    def total_size(self) -> int:
        return sum(spec.size for spec in self.tensors)

    def size_of(self, kind: Kind) -> int:
        """How many elements all tensors of a kind have together."""
        return sum(spec.size for spec in self.tensors if spec.kind is kind)

    @cached_property
    def trainable_size(self) -> int:
        return self.size_of(Kind.TRAINABLE)

    @cached_property
    def float_buffer_size(self) -> int:
        return self.size_of(Kind.FLOAT_BUFFER)

    @cached_property
    def integer_size(self) -> int:
        return self.size_of(Kind.INTEGER_BUFFER)

    @cached_property
    def frozen_size(self) -> int:
        return self.size_of(Kind.FROZEN)

    @cached_property
    def model_bytes(self) -> int:
        """What one model in this layout takes in memory."""
        return 4 * (self.trainable_size + self.float_buffer_size + self.frozen_size) + 8 * self.integer_size


class _Tensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: Kind


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    tensors: tuple[_Tensor, ...]
    groups: tuple[Group, ...] = ()


_DECODER: Final = msgspec.json.Decoder(_Document)


def _spans(tensors: tuple[TensorSpec, ...]) -> Iterator[Span]:
    ends = dict.fromkeys(Kind, 0)
    for spec in tensors:
        start = ends[spec.kind]
        ends[spec.kind] = start + spec.size
        yield Span(spec, start, ends[spec.kind])


def _first_repeated(tensors: tuple[TensorSpec, ...]) -> str:
    return Counter(spec.name for spec in tensors).most_common(1)[0][0]


def _check(spec: TensorSpec) -> None:
    _check_name(spec.name)
    if len(spec.shape) > MAX_RANK:
        raise LayoutError(f"{spec.name}: {len(spec.shape)} dimensions are more than the {MAX_RANK} allowed")
    if any(not 0 <= extent <= MAX_ELEMENTS for extent in spec.shape):
        raise LayoutError(f"{spec.name}: shape {spec.shape} has an extent outside 0 to {MAX_ELEMENTS}")
    if spec.kind is Kind.PRIVATE:
        raise LayoutError(f"{spec.name}: a private tensor never leaves its client, so a layout can't hold it")
    allowed = INTEGER_DTYPES if spec.kind is Kind.INTEGER_BUFFER else FLOAT_DTYPES
    if spec.dtype not in allowed:
        raise LayoutError(f"{spec.name}: a {spec.kind.value} tensor is one of {', '.join(allowed)}, not {spec.dtype!r}")


def _check_name(name: str) -> None:
    """Names end up in files and in logs, so they are short and printable."""
    if not name or not name.isprintable() or len(name.encode()) > MAX_NAME_BYTES:
        raise LayoutError(f"{name[:40]!r}: a tensor's name has 1 to {MAX_NAME_BYTES} bytes, all printable")
    if name == "__metadata__":
        raise LayoutError("'__metadata__': safetensors keeps this name for itself; rename the tensor")
