from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_wire.checksum import Checksum128, checksum64, checksum128
from muster_wire.codecs import CodecId, Pipeline, Sizes
from muster_wire.errors import Cause, FrameError, LayoutError, PayloadError, WireError
from muster_wire.frames import Header, Memory, Reassembly, Transfer, message_limit, prepare
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import PayloadKind, encode_update
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values

LAYOUT = Layout((TensorSpec("weight", (100,), "float32", Kind.TRAINABLE),))
VALUES = Values.gather(LAYOUT, {"weight": np.arange(100)})
PAYLOAD = encode_update(VALUES, CodecId.FLOAT32)


def transfer(frame_bytes: int = 64) -> Transfer:
    return prepare(PAYLOAD, LAYOUT, CodecId.FLOAT32, VALUES.digest(), frame_bytes)


def received(frames: list[pb.Frame]) -> bytes:
    memory = Memory(len(PAYLOAD))
    reassembly = Reassembly(transfer().header, memory)
    for frame in frames:
        reassembly.add(frame)
    reassembly.finish()
    return bytes(memory.view())


@settings(deadline=None)
@given(st.integers(1, 600))
def test_frames_are_messages_that_join_to_the_payload(frame_bytes: int) -> None:
    sent = transfer(frame_bytes)
    frames = [pb.Frame.FromString(data) for data in sent.frames()]
    assert Header.from_message(frames[0].header) == sent.header
    assert not any(frame.HasField("header") for frame in frames[1:])
    assert all(len(frame.data) <= frame_bytes for frame in frames)
    assert received(frames) == PAYLOAD


def test_requests_are_frames_in_the_envelope_of_submit() -> None:
    requests = [pb.SubmitRequest.FromString(data) for data in transfer().requests()]
    assert all(request.WhichOneof("kind") == "frame" for request in requests)
    assert received([request.frame for request in requests]) == PAYLOAD


def test_frames_are_what_protobuf_would_have_written() -> None:
    for data in transfer(300).frames():
        assert pb.Frame.FromString(data).SerializeToString(deterministic=True) == data


@settings(deadline=None)
@given(st.lists(st.integers(0, len(PAYLOAD)), max_size=6), st.integers(1, 200))
def test_a_transfer_that_breaks_anywhere_goes_on_from_what_arrived(cuts: list[int], frame_bytes: int) -> None:
    memory = Memory(len(PAYLOAD))
    reassembly = Reassembly(transfer().header, memory)
    for cut in [*cuts, len(PAYLOAD)]:
        sizes = frame_bytes + cut % 7  # the sender may have been restarted with another frame size
        for data in transfer(sizes).frames(reassembly.received):
            if reassembly.received >= cut:
                break
            reassembly.add(pb.Frame.FromString(data))
    reassembly.finish()
    assert bytes(memory.view()) == PAYLOAD


def test_fetching_from_the_end_still_brings_the_header() -> None:
    (only,) = transfer().frames(len(PAYLOAD))
    frame = pb.Frame.FromString(only)
    assert frame.HasField("header")
    assert frame.data == b""


@pytest.mark.parametrize("offset", [-1, len(PAYLOAD) + 1])
def test_no_frames_outside_the_payload(offset: int) -> None:
    with pytest.raises(FrameError, match="is not in a transfer of"):
        next(transfer().frames(offset))


def good_frame(**changes: Any) -> pb.Frame:
    data = bytes(PAYLOAD[:64])
    return pb.Frame(**({"offset": 0, "checksum": checksum64(data), "data": data} | changes))


@pytest.mark.parametrize(
    ("frame", "complaint", "cause"),
    [
        (good_frame(offset=64), "starts at 64 and the transfer is at 0", Cause.MALFORMED),
        (good_frame(offset=2**64 - 1), "starts at", Cause.MALFORMED),
        (good_frame(checksum=1), "is damaged", Cause.MALFORMED),
        (good_frame(data=b"x" * 64), "is damaged", Cause.MALFORMED),
        (good_frame(data=b"x" * (len(PAYLOAD) + 1)), "past the end", Cause.TOO_LARGE),
        (good_frame(data=b"x" * 129), "longer than 128", Cause.TOO_LARGE),
    ],
)
def test_a_bad_frame_is_refused_and_nothing_of_it_kept(frame: pb.Frame, complaint: str, cause: Cause) -> None:
    memory = Memory(len(PAYLOAD))
    reassembly = Reassembly(transfer().header, memory, frame_bytes=128)
    with pytest.raises(FrameError, match=complaint) as caught:
        reassembly.add(frame)
    assert caught.value.cause is cause
    assert reassembly.received == len(memory.view()) == 0
    reassembly.add(good_frame())
    assert reassembly.received == 64


def test_a_repeated_frame_is_refused() -> None:
    reassembly = Reassembly(transfer().header, Memory(len(PAYLOAD)))
    reassembly.add(good_frame())
    with pytest.raises(FrameError, match="the transfer is at 64"):
        reassembly.add(good_frame())


def test_an_early_end_and_a_wrong_whole_are_noticed() -> None:
    header = transfer().header
    half = Reassembly(header, Memory(len(PAYLOAD)))
    with pytest.raises(FrameError, match=f"ended at 0 of {len(PAYLOAD)}"):
        half.finish()
    other = bytes(PAYLOAD[:-1]) + b"x"
    whole = Reassembly(header, Memory(len(PAYLOAD)))
    whole.add(pb.Frame(checksum=checksum64(other), data=other))
    with pytest.raises(FrameError, match="checksum is not the one its header promised"):
        whole.finish()


def header_message(**changes: Any) -> pb.TransferHeader:
    message = transfer().header.to_message()
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (pb.TransferHeader(), FrameError),
        (header_message(checksum="0" * 31), FrameError),
        (header_message(checksum="X" * 32), FrameError),
        (header_message(digest=""), FrameError),
        (header_message(codec=0), PayloadError),
        (header_message(codec=77), PayloadError),
        (header_message(layout="{"), LayoutError),
    ],
)
def test_a_bad_header_is_refused(message: pb.TransferHeader, error: type[WireError]) -> None:
    with pytest.raises(error):
        Header.from_message(message)


@pytest.mark.parametrize("size", [0, len(PAYLOAD) - 1, 2**63])
def test_a_header_that_promises_another_size_is_refused_before_anything_is_allocated(size: int) -> None:
    header = Header.from_message(header_message(size=size))
    with pytest.raises(PayloadError, match=f"the header promises {size}") as caught:
        header.shape(PayloadKind.UPDATE)
    assert caught.value.cause is Cause.WRONG_LAYOUT
    assert transfer().header.shape(PayloadKind.UPDATE).sizes == Sizes(len(PAYLOAD), len(PAYLOAD))


def test_the_message_limit_has_room_for_a_frame_with_the_largest_header() -> None:
    header = pb.TransferHeader(
        codec="CODEC_FLOAT16", size=2**63, checksum="0" * 32, layout="x" * 8 * 2**20, digest="0" * 32
    )
    frame = pb.Frame(header=header, offset=2**63, checksum=2**64 - 1, data=b"x" * 2**20)
    assert pb.SubmitRequest(frame=frame).ByteSize() < message_limit(2**20)


def test_checksums_piece_by_piece_and_at_once_are_the_same() -> None:
    state = Checksum128()
    for start in range(0, len(PAYLOAD), 37):
        state.update(PAYLOAD[start : start + 37])
    assert state.hexdigest() == checksum128(PAYLOAD)


def test_a_pipelines_header_bounds_its_size() -> None:
    pipeline = Pipeline(CodecId.INT8, sparse=True, lossless=True, block=64)
    encoded = encode_update(VALUES, pipeline)
    header = prepare(encoded, LAYOUT, pipeline, VALUES.digest()).header
    again = Header.from_message(header.to_message())
    assert again == header
    assert again.shape(PayloadKind.UPDATE).pipeline == pipeline
    message = header.to_message()
    message.size = 2**40
    with pytest.raises(PayloadError, match="the header promises 1099511627776 bytes"):
        Header.from_message(message).shape(PayloadKind.UPDATE)


@pytest.mark.parametrize(
    "pipeline",
    [
        pb.Pipeline(),
        pb.Pipeline(numbers="CODEC_INT8", block=256),  # says nothing that the codec doesn't
        pb.Pipeline(numbers="CODEC_INT4", flags=2, block=256),  # another codec than the header's
        pb.Pipeline(numbers="CODEC_INT8", flags=4, block=256),
        pb.Pipeline(numbers="CODEC_INT8", flags=1, block=3),
        pb.Pipeline(numbers="CODEC_SPARSE", flags=1),
    ],
)
def test_a_header_with_a_pipeline_that_is_not_its_codecs_is_refused(pipeline: pb.Pipeline) -> None:
    message = header_message(codec="CODEC_INT8")
    message.pipeline.CopyFrom(pipeline)
    with pytest.raises(PayloadError):
        Header.from_message(message)
