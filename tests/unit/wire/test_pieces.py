from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_wire.checksum import checksum64, checksum64_of, checksum128
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.frames import prepare
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import encode_snapshot, snapshot_in_place
from muster_wire.pieces import Pieces
from muster_wire.values import Values


@given(parts=st.lists(st.binary(max_size=20), max_size=6), start=st.integers(0, 90), length=st.integers(0, 90))
def test_a_cut_is_the_slice_of_the_whole(parts: list[bytes], start: int, length: int) -> None:
    whole, pieces = b"".join(parts), Pieces([memoryview(part) for part in parts])
    assert len(pieces) == len(whole)
    assert bytes(pieces) == whole
    cut = list(pieces.cut(start, start + length))
    assert b"".join(cut) == whole[start : start + length]
    assert checksum64_of(cut) == checksum64(whole[start : start + length])


@pytest.mark.parametrize("sizes", [(0, 0, 0, 0), (5, 3, 2, 1), (4096, 7, 0, 33)])
def test_a_model_goes_out_from_where_it_lies(sizes: tuple[int, int, int, int]) -> None:
    kinds = (Kind.TRAINABLE, Kind.FLOAT_BUFFER, Kind.INTEGER_BUFFER, Kind.FROZEN)
    layout = Layout(
        tuple(
            TensorSpec(kind.value, (size,), "int64" if kind is Kind.INTEGER_BUFFER else "float32", kind)
            for kind, size in zip(kinds, sizes, strict=True)
            if size
        )
    )
    values = Values.zeros(layout)
    for buffer in values.buffers:
        buffer[...] = np.random.default_rng(1).integers(-9, 9, buffer.size)
    encoded, pieces = encode_snapshot(values, CodecId.FLOAT32), snapshot_in_place(values)
    assert bytes(pieces) == bytes(encoded)
    one, other = (prepare(each, layout, Pipeline(), values.digest(), 512) for each in (encoded, pieces))
    assert one.header == other.header
    assert one.header.checksum == checksum128(encoded)
    assert one.checksums == other.checksums
    for offset in (0, 511, 512, 700):
        if offset <= len(pieces):
            assert list(one.frames(offset)) == list(other.frames(offset))
            assert list(one.requests(offset)) == list(other.requests(offset))
