from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_coordinator.errors import InputError
from muster_coordinator.models import ModelFileError, StoredModel, read_first_model, read_model, write_model
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.values import Values

LAYOUT = Layout(
    (
        TensorSpec("layer.weight", (3, 2), "float16", Kind.TRAINABLE),
        TensorSpec("norm.running_var", (3,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("norm.count", (), "int64", Kind.INTEGER_BUFFER),
        TensorSpec("layer.bias", (3,), "float32", Kind.TRAINABLE),
        TensorSpec("mask", (2,), "bool", Kind.INTEGER_BUFFER),
        TensorSpec("backbone", (1, 1), "float32", Kind.FROZEN),
        TensorSpec("empty", (0, 4), "float32", Kind.FROZEN),
    )
)
ARRAYS = {
    "layer.weight": np.arange(6, dtype=np.float32).reshape(3, 2),
    "norm.running_var": np.array([0.1, 0.2, 0.3], np.float32),
    "norm.count": np.array(5, np.int64),
    "layer.bias": np.array([-1, -2, -3], np.float32),
    "mask": np.array([1, 0], np.int64),
    "backbone": np.array([[7]], np.float32),
    "empty": np.zeros((0, 4), np.float32),
}
VALUES = Values.gather(LAYOUT, ARRAYS)


def stored(values: Values = VALUES) -> bytes:
    file = io.BytesIO()
    write_model(file, StoredModel(values, 12, values.digest()))
    return file.getvalue()


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def header_of(data: bytes) -> dict[str, Any]:
    header: dict[str, Any] = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return header


def with_header(data: bytes, header: object) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + int.from_bytes(data[:8], "little") :]


def test_a_stored_model_comes_back_to_the_bit(tmp_path: Path) -> None:
    model = read_model(save(tmp_path / "m.safetensors", stored()))
    assert (model.round, model.digest) == (12, VALUES.digest())
    assert model.values.layout == LAYOUT
    assert model.values.digest() == VALUES.digest()
    assert read_first_model(tmp_path / "m.safetensors").digest() == VALUES.digest()


def test_anybodys_safetensors_library_reads_it(tmp_path: Path) -> None:
    path = save(tmp_path / "m.safetensors", stored())
    found = safetensors.numpy.load_file(path)
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata()["muster.round"] == "12"
        assert Layout.from_json(file.metadata()["muster.layout"]) == LAYOUT


def test_data_is_aligned_for_readers_that_map_the_file() -> None:
    data = stored()
    start = 8 + int.from_bytes(data[:8], "little")
    header = header_of(data)
    assert start % 8 == 0
    assert all(header[name]["data_offsets"][0] % array.itemsize == 0 for name, array in ARRAYS.items())


@settings(deadline=None, max_examples=60)
@given(st.integers(0, len(stored()) - 1))
def test_a_file_cut_short_anywhere_is_one_clear_error(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = save(tmp_path_factory.mktemp("cut") / "m.safetensors", stored()[:length])
    for read in (read_model, read_first_model):
        with pytest.raises(ModelFileError, match=str(path)):
            read(path)


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(stored()) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, at: int, mask: int) -> None:
    data = bytearray(stored())
    data[at] ^= mask
    path = save(tmp_path_factory.mktemp("changed") / "m.safetensors", bytes(data))
    try:
        model = read_model(path)
    except ModelFileError:
        return
    assert model.values.digest() == VALUES.digest()  # then it was only free text: the format or the round


def test_a_file_that_is_not_there_is_the_same_error(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"gone\.safetensors: can't be read: No such file"):
        read_model(tmp_path / "gone.safetensors")
    assert issubclass(ModelFileError, InputError)


def test_a_foreign_file_becomes_a_model_by_dtype_and_name(tmp_path: Path) -> None:
    arrays = {
        "conv.weight": np.array([[0.5, 1.5]], np.float16),
        "conv.bias": np.array([1 / 3], np.float64),
        "bn.running_mean": np.array([2.0], np.float32),
        "bn.running_var": np.array([3.0], np.float32),
        "bn.num_batches_tracked": np.array(9, np.int64),
        "steps": np.array([-7], np.int16),
        "mask": np.array([True, False]),
    }
    path = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file(arrays, path)
    values = read_first_model(path)
    kinds = {spec.name: (spec.kind, spec.dtype) for spec in values.layout.tensors}
    assert kinds == {
        "conv.weight": (Kind.TRAINABLE, "float16"),
        "conv.bias": (Kind.TRAINABLE, "float64"),
        "bn.running_mean": (Kind.FLOAT_BUFFER, "float32"),
        "bn.running_var": (Kind.FLOAT_BUFFER, "float32"),
        "bn.num_batches_tracked": (Kind.INTEGER_BUFFER, "int64"),
        "steps": (Kind.INTEGER_BUFFER, "int16"),
        "mask": (Kind.INTEGER_BUFFER, "bool"),
    }
    for spec, view in values.tensors():
        np.testing.assert_array_equal(view, arrays[spec.name].astype(view.dtype))


def test_bfloat16_is_widened_exactly(tmp_path: Path) -> None:
    wanted = np.array([1.0, -2.5, 3.0e38, 1e-40], np.float32).view(np.uint32) & 0xFFFF0000
    halves = (wanted >> 16).astype("<u2").tobytes()
    header = {"w": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}
    path = save(tmp_path / "bf16.safetensors", with_header(b"\0" * 8 + halves, header))
    np.testing.assert_array_equal(read_first_model(path).trainable, wanted.view(np.float32))


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("header", "data", "complaint"),
    [
        ([], b"", "not a safetensors file"),
        ({"w": ONE | {"more": 1}}, b"\0" * 4, "not a safetensors file"),
        ({"w": ONE, "__metadata__": {"a": 1}}, b"\0" * 4, "not a safetensors file"),
        ({"w": ONE}, b"\0" * 5, "cut short, or longer"),
        ({"w": ONE}, b"", "cut short, or longer"),
        ({"w": ONE | {"shape": [2]}}, b"\0" * 4, "doesn't fill its place"),
        ({"w": ONE | {"shape": [-1], "data_offsets": [0, -4]}}, b"\0" * 4, "doesn't fill its place"),
        ({"w": ONE | {"shape": [2**40, 2**40]}}, b"\0" * 4, "doesn't fill its place"),
        ({"w": ONE | {"shape": [2**62] * 200_000}}, b"\0" * 4, "200000 dimensions are more than the 16"),
        ({"w": ONE | {"data_offsets": [4, 8]}}, b"\0" * 8, "leave a hole"),
        ({"w": ONE | {"data_offsets": [-4, 0]}}, b"\0" * 4, "leave a hole"),
        ({"w": ONE, "v": ONE}, b"\0" * 4, "overlap"),
        ({"w": ONE | {"dtype": "F8_E4M3"}}, b"\0" * 4, "w: elements of type F8_E4M3"),
        ({"w": ONE | {"dtype": "U8", "data_offsets": [0, 1]}}, b"\0", "no float tensor"),
        ({}, b"", "no float tensor"),
        ({"w": ONE}, b"\0\0\xc0\x7f", "w: holds a NaN"),
        ({"w": ONE | {"dtype": "F64", "data_offsets": [0, 8]}}, np.float64(1e300).tobytes(), "too large for float32"),
        (
            {"w": ONE, "n": {"dtype": "I64", "shape": [1], "data_offsets": [4, 12]}},
            b"\0" * 4 + (2**60).to_bytes(8, "little"),
            "n: an integer lies outside",
        ),
        ({"w" * 600: ONE}, b"\0" * 4, "1 to 512 bytes"),
        ({"w": ONE, "__metadata__": {"muster.layout": "{}"}}, b"\0" * 4, "no layout, round or digest"),
    ],
)
def test_a_foreign_file_that_is_no_model_is_refused_with_its_reason(
    tmp_path: Path, header: object, data: bytes, complaint: str
) -> None:
    path = save(tmp_path / "bad.safetensors", with_header(b"\0" * 8 + data, header))
    with pytest.raises(ModelFileError, match=complaint):
        read_first_model(path)


@pytest.mark.parametrize("start", [b"", b"\x00" * 7, b"\xff" * 8, b"\xff\xff\xff\x01" + b"\0" * 4, b"hello, model"])
def test_what_was_never_safetensors_is_refused(tmp_path: Path, start: bytes) -> None:
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        read_first_model(save(tmp_path / "bad.safetensors", start))


def test_a_checkpoint_must_be_one_of_ours_and_match_its_metadata(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"w": np.ones(1, np.float32)}, tmp_path / "foreign.safetensors")
    with pytest.raises(ModelFileError, match="not a model that Muster stored"):
        read_model(tmp_path / "foreign.safetensors")
    header = header_of(stored())
    header["__metadata__"]["muster.layout"] = Layout(LAYOUT.tensors[:-1]).to_json()
    with pytest.raises(ModelFileError, match="not those of the layout"):
        read_model(save(tmp_path / "m.safetensors", with_header(stored(), header)))
    header = header_of(stored())
    header["__metadata__"]["muster.digest"] = "0" * 32
    with pytest.raises(ModelFileError, match="doesn't have the digest"):
        read_model(save(tmp_path / "m.safetensors", with_header(stored(), header)))


def test_writing_makes_no_copy_of_the_model_and_reading_makes_one(tmp_path: Path) -> None:
    layout = Layout((TensorSpec("w", (2**22,), "float32", Kind.TRAINABLE),))
    values = Values.zeros(layout)
    model = StoredModel(values, 1, values.digest())
    path = tmp_path / "m.safetensors"
    tracemalloc.start()
    try:
        with path.open("wb") as file:
            write_model(file, model)
        _, writing = tracemalloc.get_traced_memory()
        read_model(path)
        _, reading = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert writing < 2**20
    assert reading < layout.model_bytes + 2 * 2**20
