"""The safetensors format, read without trust and without a second copy of the model.

The file is eight bytes of length, that much JSON, and the tensors end to end. The `safetensors` library is what others
read our files with (a test does), but in numpy it hands out each tensor as a new array, and saving takes all of them as
bytes at once; a coordinator that must stay below a few models goes from flat buffers to a file and back in place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BufferedReader
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from muster_wire.layout import MAX_RANK

MAX_HEADER_BYTES: Final = 32 * 2**20

_METADATA: Final = "__metadata__"
_CHUNK: Final = 2**16  # elements converted at a time


class TensorFileError(Exception):
    """The file is torn, altered, or no safetensors at all; the message doesn't name it, its reader does."""


@dataclass(frozen=True, slots=True)
class Dtype:
    """An element type: what layouts call it, and how it lies in the file."""

    name: str
    stored: str

    @property
    def size(self) -> int:
        return np.dtype(self.stored).itemsize


DTYPES: Final[Mapping[str, Dtype]] = {
    "F64": Dtype("float64", "<f8"),
    "F32": Dtype("float32", "<f4"),
    "F16": Dtype("float16", "<f2"),
    "BF16": Dtype("bfloat16", "<u2"),
    "I64": Dtype("int64", "<i8"),
    "I32": Dtype("int32", "<i4"),
    "I16": Dtype("int16", "<i2"),
    "I8": Dtype("int8", "<i1"),
    "U8": Dtype("uint8", "<u1"),
    "BOOL": Dtype("bool", "<u1"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file; `start` counts from the first byte after the header."""

    name: str
    code: str
    shape: tuple[int, ...]
    start: int

    @property
    def dtype(self) -> Dtype:
        return DTYPES[self.code]

    @property
    def stop(self) -> int:
        return self.start + math.prod(self.shape) * self.dtype.size


@dataclass(frozen=True, slots=True)
class Contents:
    """What a header says: tensors in the order in which they lie, free text, and where the data begins."""

    entries: tuple[Entry, ...]
    metadata: Mapping[str, str]
    data_start: int


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def encode_header(entries: Iterable[Entry], metadata: Mapping[str, str]) -> bytes:
    """The bytes in front of the data; padded, so that the data is aligned."""
    fields: dict[str, Any] = {_METADATA: metadata}
    fields |= {e.name: _Entry(e.code, e.shape, (e.start, e.stop)) for e in entries}
    text = msgspec.json.encode(fields)
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def read_contents(file: BufferedReader, size: int) -> Contents:
    """Reads and checks the header of a file of that size: afterwards every tensor is known to lie inside it."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise TensorFileError("not a safetensors file, or the beginning of one: its header runs past its end")
    try:
        fields = msgspec.json.decode(file.read(length), type=dict[str, msgspec.Raw])
        metadata = msgspec.json.decode(fields.pop(_METADATA, b"{}"), type=dict[str, str])
        entries = [_entry(name, msgspec.json.decode(raw, type=_Entry)) for name, raw in fields.items()]
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise TensorFileError(f"not a safetensors file: its header says {error}") from error
    entries.sort(key=lambda entry: (entry.start, entry.stop))
    _check_gapless(entries, size - 8 - length)
    return Contents(tuple(entries), metadata, 8 + length)


def read_tensor(file: BufferedReader, contents: Contents, entry: Entry, values: NDArray[Any]) -> None:
    """Fills a flat float32 or int64 buffer, converting a chunk at a time."""
    file.seek(contents.data_start + entry.start)
    stored = np.empty(min(values.size, _CHUNK), entry.dtype.stored)
    for start in range(0, values.size, _CHUNK):
        chunk = stored[: min(_CHUNK, values.size - start)]
        _read_exactly(file, entry.name, memoryview(chunk.view(np.uint8).data))
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is found with the others
            values[start : start + chunk.size] = _widened(chunk, entry)
        if values.dtype == np.float32 and not np.isfinite(values[start : start + chunk.size]).all():
            raise TensorFileError(f"{entry.name}: holds a NaN, an infinity, or a number too large for float32")


def _read_exactly(file: BufferedReader, name: str, into: memoryview) -> None:
    if file.readinto(into) != len(into):  # a buffered reader fills what it is given
        raise TensorFileError(f"{name}: the file ends inside this tensor")


def _widened(chunk: NDArray[Any], entry: Entry) -> NDArray[Any]:
    if entry.code == "BF16":  # the upper half of a float32
        return (chunk.astype(np.uint32) << 16).view(np.float32)
    return chunk


def _entry(name: str, found: _Entry) -> Entry:
    if found.dtype not in DTYPES:
        raise TensorFileError(f"{name}: elements of type {found.dtype}; a model has {', '.join(DTYPES)}")
    if len(found.shape) > MAX_RANK:  # multiplying a million extents would take hours
        raise TensorFileError(
            f"{name}: {len(found.shape)} dimensions are more than the {MAX_RANK} that a tensor may have"
        )
    entry = Entry(name, found.dtype, found.shape, found.data_offsets[0])
    if any(extent < 0 for extent in entry.shape) or entry.stop != found.data_offsets[1]:
        raise TensorFileError(f"{name}: shape {list(entry.shape)} of {found.dtype} doesn't fill its place in the file")
    return entry


def _check_gapless(entries: list[Entry], size: int) -> None:
    """Tensors lie end to end and fill the file: so none overlaps, and a file cut short is noticed."""
    end = 0
    for entry in entries:
        if entry.start != end:
            raise TensorFileError(f"{entry.name}: tensors overlap, or leave a hole before this one")
        end = entry.stop
    if end != size:
        raise TensorFileError(f"tensors take {end} bytes and the file has {size} for them: it is cut short, or longer")
