"""Golden bytes: what docs/wire.md says, written out. A change here is a new wire format, and needs a new version."""

from __future__ import annotations

import numpy as np
import pytest

from muster_wire import payload
from muster_wire.checksum import checksum64, checksum128
from muster_wire.codecs import CodecId
from muster_wire.errors import Cause
from muster_wire.frames import prepare
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import PayloadKind, Shape
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values, difference
from muster_wire.version import CURRENT, Version

LAYOUT = Layout(
    (
        TensorSpec("fc.weight", (1, 3), "float32", Kind.TRAINABLE),
        TensorSpec("bn.running_var", (2,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("bn.count", (), "int64", Kind.INTEGER_BUFFER),
        TensorSpec("backbone", (1,), "float16", Kind.FROZEN),
    )
)
LAYOUT_JSON = (
    '{"tensors":['
    '{"name":"fc.weight","shape":[1,3],"dtype":"float32","kind":"trainable"},'
    '{"name":"bn.running_var","shape":[2],"dtype":"float32","kind":"floatBuffer"},'
    '{"name":"bn.count","shape":[],"dtype":"int64","kind":"integerBuffer"},'
    '{"name":"backbone","shape":[1],"dtype":"float16","kind":"frozen"}]}'
)
LAYOUT_DIGEST = "2ec56b222aff38ffb4cc76465cae98a6"
MODEL_DIGEST = "7f7957eacc208687db720fac801583ab"
MODEL = Values.gather(
    LAYOUT,
    {
        "fc.weight": np.array([[1.0, -0.5, 0.1]]),
        "bn.running_var": np.array([2.0, 70000.0]),
        "bn.count": np.array(258),
        "backbone": np.array([-3.0]),
    },
)

# section, codec, four zeros and two more | count | length
TRAINABLE_F32 = "01 01 0000 00000000 0300000000000000 0c00000000000000  0000803f 000000bf cdcccc3d 00000000"
TRAINABLE_F16 = "01 02 0000 00000000 0300000000000000 0600000000000000  003c 00b8 662e 0000"
FLOAT_BUFFERS = "02 01 0000 00000000 0200000000000000 0800000000000000  00000040 00b88847"
INTEGERS = "03 00 0000 00000000 0100000000000000 0800000000000000  0201000000000000"
FROZEN = "04 01 0000 00000000 0100000000000000 0400000000000000  000040c0 00000000"

SNAPSHOT = f"4d535452 01 01 0400 {LAYOUT_DIGEST}"  # "MSTR", format, kind, sections, layout
UPDATE = f"4d535452 01 02 0300 {LAYOUT_DIGEST}"

GOLDEN = [
    (PayloadKind.SNAPSHOT, CodecId.FLOAT32, (SNAPSHOT, TRAINABLE_F32, FLOAT_BUFFERS, INTEGERS, FROZEN)),
    (PayloadKind.SNAPSHOT, CodecId.FLOAT16, (SNAPSHOT, TRAINABLE_F16, FLOAT_BUFFERS, INTEGERS, FROZEN)),
    (PayloadKind.UPDATE, CodecId.FLOAT32, (UPDATE, TRAINABLE_F32, FLOAT_BUFFERS, INTEGERS)),
    (PayloadKind.UPDATE, CodecId.FLOAT16, (UPDATE, TRAINABLE_F16, FLOAT_BUFFERS, INTEGERS)),
]


def test_the_layouts_text_and_digest() -> None:
    assert LAYOUT.to_json() == LAYOUT_JSON
    assert LAYOUT.digest == LAYOUT_DIGEST == checksum128(LAYOUT_JSON.encode())


def test_the_models_name() -> None:
    floats = bytes.fromhex("0000803f 000000bf cdcccc3d 00000040 00b88847")
    whole = LAYOUT_DIGEST.encode() + floats + bytes.fromhex("0201000000000000 000040c0")
    assert MODEL.digest() == MODEL_DIGEST == checksum128(whole)


@pytest.mark.parametrize(("kind", "codec", "parts"), GOLDEN, ids=lambda part: getattr(part, "name", ""))
def test_payloads_to_the_byte(kind: PayloadKind, codec: CodecId, parts: tuple[str, ...]) -> None:
    golden = bytes.fromhex(" ".join(parts))
    update = difference(MODEL, Values.zeros(LAYOUT))
    encoded = (
        payload.encode_snapshot(MODEL, codec) if kind is PayloadKind.SNAPSHOT else payload.encode_update(update, codec)
    )
    assert bytes(encoded).hex() == golden.hex()
    shape = Shape(LAYOUT, kind, codec)
    payload.check(shape, golden)
    again = payload.decode(shape, golden)
    np.testing.assert_array_equal(again.trainable, np.array([1, -0.5, 0.1], np.dtype(codec.name.lower())).astype("f4"))
    np.testing.assert_array_equal(again.float_buffers, MODEL.float_buffers)
    np.testing.assert_array_equal(again.integers, MODEL.integers)


def test_every_kind_and_codec_is_pinned() -> None:
    assert {(kind, codec) for kind, codec, _ in GOLDEN} == {(kind, codec) for kind in PayloadKind for codec in CodecId}


def test_frames_to_the_byte() -> None:
    data = memoryview(bytes(range(5)))
    first, second = prepare(data, LAYOUT, CodecId.FLOAT32, MODEL_DIGEST, frame_bytes=3).frames()
    header = (
        bytes.fromhex("0801 1005 1a20")
        + b"9434532106a7c141c920d2347a85929b"
        + b"\x22"
        + bytes([len(LAYOUT_JSON) & 0x7F | 0x80, len(LAYOUT_JSON) >> 7])
        + LAYOUT_JSON.encode()
        + b"\x2a\x20"
        + MODEL_DIGEST.encode()
    )
    length = bytes([len(header) & 0x7F | 0x80, len(header) >> 7])
    assert first == b"\x0a" + length + header + bytes.fromhex("19 bb9c1c16fc99425f 22 03 000102")
    assert second == bytes.fromhex("10 03 19 8066d9ed5aa64e75 22 02 0304")


def test_checksums() -> None:
    """XXH3 with seed 0, as its own test vectors have it."""
    assert checksum64(b"") == 0x2D06800538D394C2
    assert checksum128(b"") == "99aa06d3014798d86001c324468d497f"


def test_the_wire_version() -> None:
    assert Version(1, 0) == CURRENT


def test_causes_are_those_of_the_proto() -> None:
    assert {f"CAUSE_{cause.name}": cause.value for cause in Cause} | {"CAUSE_UNSPECIFIED": 0} == dict(
        pb.Verdict.Cause.items()
    )
