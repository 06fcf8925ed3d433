"""Models as files: every version that the store keeps, and the first one when the user brings it.

A stored model is an ordinary safetensors file with its layout, round and digest in the metadata. Any other safetensors
file can be a first model. Either is read tensor by tensor into flat buffers, and written from them, so that nothing
here needs memory beside the one model.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import numpy as np

from muster_coordinator.errors import InputError
from muster_coordinator.tensorfile import (
    Contents,
    Entry,
    TensorFileError,
    encode_header,
    read_contents,
    read_tensor,
)
from muster_wire.errors import WireError
from muster_wire.layout import INTEGER_DTYPES, Kind, Layout, TensorSpec
from muster_wire.payload import check_integers
from muster_wire.values import Values

_LAYOUT: Final = "muster.layout"
_ROUND: Final = "muster.round"
_DIGEST: Final = "muster.digest"
_STATISTICS: Final = ("running_mean", "running_var")  # as torch's batch and instance norm call them
_WRITTEN: Final = (Kind.INTEGER_BUFFER, Kind.TRAINABLE, Kind.FLOAT_BUFFER, Kind.FROZEN)  # eight bytes wide first


T = TypeVar("T")


class ModelFileError(InputError):
    """A model's file is missing, torn, altered, or holds no model. The message names it."""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A version of the model, as a file keeps it."""

    values: Values
    round: int
    digest: str


def write_model(file: BinaryIO, model: StoredModel) -> None:
    """Writes a model buffer by buffer, without a copy of it."""
    values = model.values
    layout = values.layout
    metadata = {"format": "pt", _LAYOUT: layout.to_json(), _ROUND: str(model.round), _DIGEST: model.digest}
    file.write(encode_header(_entries(layout), metadata))
    file.writelines(buffer.data for buffer in (values.integers, values.trainable, values.float_buffers, values.frozen))


def views(layout: Layout, data: mmap.mmap, start: int = 0) -> Values:
    """The four buffers of a model that lies in a mapped file, in the order in which `write_model` writes them."""
    buffers = []
    for dtype, size in (
        ("<i8", layout.integer_size),
        ("<f4", layout.trainable_size),
        ("<f4", layout.float_buffer_size),
        ("<f4", layout.frozen_size),
    ):
        buffers.append(np.frombuffer(data, np.dtype(dtype), size, start) if size else np.zeros(0, np.dtype(dtype)))
        start += buffers[-1].nbytes
    integers, trainable, float_buffers, frozen = buffers
    return Values(layout, trainable, float_buffers, integers, frozen)


def read_model(path: Path) -> StoredModel:
    """A model that `write_model` wrote. ModelFileError if it isn't that any more, to the last bit."""
    return _read(path, _stored)


def read_first_model(path: Path) -> Values:
    """The model that a job starts from: one of ours, or any safetensors file.

    Of a file that isn't ours nobody knows which parameters will be trained, so all floats are trainable but those named
    like running statistics; floats of any width become float32, integers int64. ModelFileError if that can't be.
    """
    return _read(path, _any)


def _read(path: Path, reader: Callable[[BufferedReader, Contents], T]) -> T:
    """Every way in which a file can be bad becomes one error with the file's name."""
    try:
        with path.open("rb") as file:
            return reader(file, read_contents(file, os.fstat(file.fileno()).st_size))
    except OSError as error:
        raise ModelFileError(f"{path}: can't be read: {error.strerror}") from error
    except (TensorFileError, WireError) as error:
        raise ModelFileError(f"{path}: {error}") from error


def _any(file: BufferedReader, contents: Contents) -> Values:
    return _stored(file, contents).values if _LAYOUT in contents.metadata else _foreign(file, contents)


def _stored(file: BufferedReader, contents: Contents) -> StoredModel:
    metadata = contents.metadata
    if not metadata.keys() >= {_LAYOUT, _ROUND, _DIGEST} or not metadata[_ROUND].isdecimal():
        raise TensorFileError("not a model that Muster stored: its metadata has no layout, round or digest")
    layout = Layout.from_json(metadata[_LAYOUT])
    if set(_entries(layout)) != set(contents.entries):
        raise TensorFileError("its tensors are not those of the layout in its metadata")
    values = _fill(file, contents, layout)
    if values.digest() != metadata[_DIGEST]:
        raise TensorFileError(f"its content doesn't have the digest {metadata[_DIGEST]} any more")
    return StoredModel(values, int(metadata[_ROUND]), metadata[_DIGEST])


def _foreign(file: BufferedReader, contents: Contents) -> Values:
    layout = Layout(tuple(TensorSpec(e.name, e.shape, e.dtype.name, _guess(e)) for e in contents.entries))
    if not layout.trainable_size:
        raise TensorFileError("holds no float tensor that could be trained")
    values = _fill(file, contents, layout)
    check_integers(layout, values.integers)
    return values


def _guess(entry: Entry) -> Kind:
    if entry.dtype.name in INTEGER_DTYPES:
        return Kind.INTEGER_BUFFER
    return Kind.FLOAT_BUFFER if entry.name.endswith(_STATISTICS) else Kind.TRAINABLE


def _fill(file: BufferedReader, contents: Contents, layout: Layout) -> Values:
    values = Values.zeros(layout)
    views = {spec.name: view for spec, view in values.tensors()}
    for entry in contents.entries:
        read_tensor(file, contents, entry, views[entry.name].reshape(-1))
    return values


def _entries(layout: Layout) -> Iterator[Entry]:
    """Where each tensor lies in a file of ours: buffer after buffer, each in the layout's order."""
    end = 0
    for kind in _WRITTEN:
        for span in layout.spans:
            if span.spec.kind is kind:
                entry = Entry(span.spec.name, "I64" if kind is Kind.INTEGER_BUFFER else "F32", span.spec.shape, end)
                end = entry.stop
                yield entry
