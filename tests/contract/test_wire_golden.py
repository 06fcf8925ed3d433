"""Golden bytes: what docs/wire.md says, written out. A change here is a new wire format, and needs a new version."""

from __future__ import annotations

import numpy as np
import pytest

from muster_wire import payload
from muster_wire.checksum import checksum64, checksum128
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.errors import Cause, FrameError
from muster_wire.frames import Header, prepare
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


ROTATED = [
    *(0, 0, 0, 0, 0, 8, -8, 0, 0, 0, 0, 0, 0, -8, 8, 0),
    *(4, -4, 4, 4, -4, 4, -4, -4, -4, -4, 4, 4, 28, -4, 4, 4),
    *(0, 0, 0, 4, 0),
]

# Each codec's bytes for 1, -0.5, 0.1, and what they say. Senders that round at random may write others.
SPREAD = np.zeros(40, np.float32)
SPREAD[[3, 5, 39]] = [1, -1, 2]
ENCODINGS = [
    (Pipeline(), "0000803f 000000bf cdcccc3d", [1, -0.5, 0.1]),
    (Pipeline(CodecId.FLOAT16), "003c 00b8 662e", [1, -0.5, 0.0999755859375]),
    (Pipeline(CodecId.BFLOAT16), "803f 00bf cd3d", [1, -0.5, 0.10009765625]),
    (Pipeline(CodecId.INT8), "023c  7e c1 0d", [126 * 0.0079345703125, -63 * 0.0079345703125, 13 * 0.0079345703125]),
    (Pipeline(CodecId.INT4), "133e  17 0d", [7 * 0.1435546875, -3 * 0.1435546875, 0.1435546875]),
    (Pipeline(CodecId.ONE_BIT), "5f82c2d9cfeb0fa3 ae47213e ff", [1.26, 0, 0]),
    (Pipeline(CodecId.SIGN), "8988083f 02", [1.6 / 3, -1.6 / 3, 1.6 / 3]),
    (Pipeline(sparse=True), "0300000000000000  00 00 0100 0c000000  07  0000803f 000000bf cdcccc3d", [1, -0.5, 0.1]),
    (
        Pipeline(sparse=True),  # gaps 3, 1, 33 with 3 low bits: codes 1, 1, 00001 and bits 011, 001, 001
        "0300000000000000  03 00 0100 0c000000  43 4b00  0000803f 000080bf 00000040",
        SPREAD.tolist(),
    ),
    (
        Pipeline(lossless=True),
        "03000000 0000cd  03000000 0000cc  03000000 8000cc  03000000 3fbf3d",
        [1, -0.5, 0.1],
    ),
    (Pipeline(lossless=True), "11000000 28b52ffd20404500001000000100930016" * 4, [0.0] * 64),
    (
        Pipeline(CodecId.INT4, sparse=True, lossless=True, block=16),
        "0300000000000000  00 00 0100 10000000  07  01000000 13  01000000 3e  02000000 170d",
        [7 * 0.1435546875, -3 * 0.1435546875, 0.1435546875],
    ),
]


@pytest.mark.parametrize(("pipeline", "encoded", "values"), ENCODINGS)
def test_codecs_to_the_byte(pipeline: Pipeline, encoded: str, values: list[float]) -> None:
    golden, codec = memoryview(bytes.fromhex(encoded)), pipeline.codec
    decoded = np.empty(len(values), np.float32)
    codec.check(golden, decoded.size)
    codec.decode_into(golden, decoded)
    np.testing.assert_allclose(decoded, values, rtol=1e-6)
    if not pipeline.is_random and not pipeline.lossless:
        exact = np.array([1, -0.5, 0.1], np.float32) if len(values) == 3 else decoded
        assert codec.encode(exact, np.random.default_rng(0)) == golden


def test_the_rotation_of_one_bit() -> None:
    """Two blocks of 16 and one of 8, whose signs and seed make these very numbers on every machine."""
    golden = bytes.fromhex("0123456789abcdef  0000803f 00000040 0000003f  5a3c 0ff1 99")
    decoded = np.empty(37, np.float32)
    Pipeline(CodecId.ONE_BIT, block=16).codec.decode_into(memoryview(golden), decoded)
    assert decoded.tolist() == ROTATED


def test_every_kind_and_codec_is_pinned() -> None:
    assert {kind for kind, _, _ in GOLDEN} == set(PayloadKind)
    assert frozenset[CodecId]().union(*(pipeline.stages for pipeline, _, _ in ENCODINGS)) == set(CodecId)


def test_a_pipelines_section_to_the_byte() -> None:
    pipeline = Pipeline(CodecId.SIGN, sparse=True, lossless=True, block=16)
    update = difference(MODEL, Values.zeros(LAYOUT))
    section = """01 07 0300 10000000 0300000000000000 2a00000000000000
        0300000000000000 00 00 0100 19000000 07
        01000000 89 01000000 88 01000000 08 01000000 3f 01000000 02  0000 0000 0000"""
    golden = bytes.fromhex(f"{UPDATE} {section} {FLOAT_BUFFERS} {INTEGERS}")
    assert bytes(payload.encode_update(update, pipeline)).hex() == golden.hex()
    payload.check(Shape(LAYOUT, PayloadKind.UPDATE, pipeline), golden)


def test_a_pipelines_header_to_the_byte() -> None:
    """Field 6 only where the codec doesn't say it all."""
    pipeline = Pipeline(CodecId.INT8, lossless=True, block=64)
    message = prepare(memoryview(b""), LAYOUT, pipeline, MODEL_DIGEST).header.to_message()
    assert message.SerializeToString().endswith(bytes.fromhex("3206 0804 1002 1840"))
    assert Header.from_message(message).codec == pipeline
    plain = prepare(memoryview(b""), LAYOUT, Pipeline(CodecId.INT8), MODEL_DIGEST).header
    assert plain.codec is CodecId.INT8
    assert not plain.to_message().HasField("pipeline")


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
    assert Version(1, 1) == CURRENT


def test_causes_are_those_of_the_proto() -> None:
    assert {f"CAUSE_{cause.name}": cause.value for cause in Cause} | {"CAUSE_UNSPECIFIED": 0} == dict(
        pb.Verdict.Cause.items()
    )


def test_a_change_names_the_version_that_it_is_from() -> None:
    """Field 7 of the header, and only there: a header of anything else has the bytes that it had in 1.0."""
    update = payload.encode_update(difference(MODEL, Values.zeros(LAYOUT)), CodecId.FLOAT32)
    alone = prepare(update, LAYOUT, CodecId.FLOAT32, MODEL_DIGEST).header
    change = prepare(update, LAYOUT, CodecId.FLOAT32, MODEL_DIGEST, base="ab" * 16).header
    assert change.to_message().SerializeToString() == alone.to_message().SerializeToString() + bytes.fromhex(
        "3a 20" + ("ab" * 16).encode().hex()
    )
    assert Header.from_message(change.to_message()) == change
    assert Header.from_message(alone.to_message()).base == ""


@pytest.mark.parametrize("base", ["x", "AB" * 16, "ab" * 17, "0" * 31 + "g"])
def test_a_base_is_a_digest(base: str) -> None:
    update = payload.encode_update(difference(MODEL, Values.zeros(LAYOUT)), CodecId.FLOAT32)
    message = prepare(update, LAYOUT, CodecId.FLOAT32, MODEL_DIGEST).header.to_message()
    message.base = base
    with pytest.raises(FrameError, match="the transfer's base is not 32 hexadecimal digits"):
        Header.from_message(message)


def test_what_a_worker_asks_for_to_the_byte() -> None:
    request = pb.FetchRequest(session="s", digest="d", offset=5, held="h", partial="p")
    assert request.SerializeToString().hex(" ") == "0a 01 73 12 01 64 18 05 22 01 68 2a 01 70"
    assert pb.FetchRequest.FromString(bytes.fromhex("0a0173 120164 1805")).held == ""  # a worker at 1.0


def test_the_last_orders_are_confirmed_to_the_byte() -> None:
    assert pb.JoinRequest(confirms_end=True).SerializeToString().hex(" ") == "60 01"
    assert pb.BeatRequest(session="s", finished=True).SerializeToString().hex(" ") == "0a 01 73 18 01"


def test_what_a_bridge_says_to_the_byte() -> None:
    allocation = pb.Allocation(
        indices=[0, 2], state=pb.Allocation.STATE_RUNNING, starts_in_ms=1, ends_in_ms=300, lasts_ms=2
    )
    request = pb.AttendRequest(
        version=pb.Version(major=1, minor=1), pool="p", allocations=[allocation], log="l", log_read=7
    )
    said = "0a 04 08 01 10 01 12 01 70 1a 0d 0a 02 00 02 10 02 18 01 20 ac 02 28 02 22 01 6c 28 07"
    assert request.SerializeToString().hex(" ") == said
    line = pb.LogLine(source="p/0", text="t")
    reply = pb.AttendReply(present=[2, 0], complete=True, log="l", log_read=8, lines=[line])
    assert reply.SerializeToString().hex(" ") == "12 02 02 00 18 01 22 01 6c 28 08 32 08 0a 03 70 2f 30 12 01 74"


def test_the_tail_of_a_log_to_the_byte() -> None:
    beat = pb.BeatRequest(session="s", log=pb.LogTail(first=3, left_out=1, lines=["a", "b"]))
    assert beat.SerializeToString().hex(" ") == "0a 01 73 22 0a 08 03 10 01 1a 01 61 1a 01 62"
    assert pb.JoinReply(log_bytes=4096).SerializeToString().hex(" ") == "48 80 20"


def test_leases_that_move_to_the_byte() -> None:
    request = pb.JoinRequest(pool="p", capacity=3, leases_move=True, share=2)
    assert request.SerializeToString().hex(" ") == "22 01 70 30 03 68 01 70 02"
    handover = pb.Handover(pool="p", indices=[2, 300], count=1)
    orders = pb.Orders(revision=7, handover=handover, more=True)
    assert orders.SerializeToString().hex(" ") == "08 07 3a 0a 0a 01 70 12 03 02 ac 02 18 01 40 01"
    nothing = pb.Orders.FromString(bytes.fromhex("08 07"))  # of a coordinator that moves none
    assert not nothing.HasField("handover")
    assert not nothing.more


def test_small_things_in_one_message_to_the_byte() -> None:
    request = pb.HandInRequest(offer=pb.Offer(session="s"), frame=pb.Frame(checksum=1, data=b"d"))
    assert request.SerializeToString().hex(" ") == "0a 03 0a 01 73 12 0c 19 01 00 00 00 00 00 00 00 22 01 64"
    assert pb.JoinReply(hand_in_bytes=65536).SerializeToString().hex(" ") == "50 80 80 04"
    orders = pb.Orders(revision=2, frames=[pb.Frame(checksum=1, data=b"d")])
    assert orders.SerializeToString().hex(" ") == "08 02 4a 0c 19 01 00 00 00 00 00 00 00 22 01 64"
