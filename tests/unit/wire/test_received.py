"""Whatever protobuf makes of some bytes, the reader in place makes the same of them."""

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from muster_wire.codecs import CodecId
from muster_wire.errors import FrameError
from muster_wire.frames import prepare
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import encode_update
from muster_wire.received import ReceivedFrame, parse_frame, parse_request, parse_whole
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values

LAYOUT = Layout((TensorSpec("weight", (100,), "float32", Kind.TRAINABLE),))
VALUES = Values.gather(LAYOUT, {"weight": np.arange(100)})
TRANSFER = prepare(encode_update(VALUES, CodecId.FLOAT32), LAYOUT, CodecId.FLOAT32, VALUES.digest(), 200)

uint64 = st.integers(0, 2**64 - 1)
frames = st.builds(pb.Frame, offset=uint64, checksum=uint64, data=st.binary(max_size=200))


def said(frame):
    return frame.header, frame.offset, frame.checksum, bytes(frame.data)


def as_protobuf_reads_it(message):
    frame = pb.Frame.FromString(message)
    return frame.header if frame.HasField("header") else None, frame.offset, frame.checksum, frame.data


@given(frames)
def test_a_frame_is_what_was_sent(frame):
    assert said(parse_frame(frame.SerializeToString())) == (None, frame.offset, frame.checksum, frame.data)
    request = pb.SubmitRequest(frame=frame).SerializeToString()
    assert said(parse_request(request)) == (None, frame.offset, frame.checksum, frame.data)


def test_our_own_frames_are_not_copied():
    for message in TRANSFER.frames():
        received = parse_frame(message)
        assert received.data.obj is message
        assert said(received) == as_protobuf_reads_it(message)
    for message in TRANSFER.requests():
        received = parse_request(message)
        assert isinstance(received, ReceivedFrame)
        assert received.data.obj is message


def test_the_first_frame_brings_the_header():
    first, second = (parse_frame(message) for message in list(TRANSFER.frames())[:2])
    assert first.header == TRANSFER.header.to_message()
    assert second.header is None


@given(frames, frames)
def test_other_orders_and_unknown_fields_mean_what_protobuf_says(one, other):
    unknown = b"\xfa\x01\x03abc"  # field 31, three bytes
    for message in (one.SerializeToString() + other.SerializeToString(), unknown + one.SerializeToString()):
        assert said(parse_frame(message)) == as_protobuf_reads_it(message)


@given(st.binary(max_size=60) | st.builds(lambda f, cut: f.SerializeToString()[:cut], frames, st.integers(0, 60)))
def test_any_bytes_are_read_as_protobuf_reads_them_or_refused(message):
    try:
        expected = as_protobuf_reads_it(message)
    except DecodeError:
        with pytest.raises(FrameError, match="not a frame"):
            parse_frame(message)
    else:
        assert said(parse_frame(message)) == expected


@given(st.binary(max_size=60) | st.builds(lambda f: pb.SubmitRequest(frame=f).SerializeToString() * 2, frames))
def test_any_request_is_read_as_protobuf_reads_it_or_refused(message):
    try:
        request = pb.SubmitRequest.FromString(message)
    except DecodeError:
        request = pb.SubmitRequest()
    match request.WhichOneof("kind"):
        case "offer":
            assert parse_request(message) == request.offer
        case "frame":
            assert said(parse_request(message))[1:] == said(request.frame)[1:]
        case _:
            with pytest.raises(FrameError, match="neither an offer nor a frame"):
                parse_request(message)


def handed_in(size=100, **parts):
    frame = pb.Frame(checksum=5, data=bytes(size))
    return pb.HandInRequest(**({"offer": pb.Offer(session="s"), "frame": frame} | parts)).SerializeToString()


def test_an_update_in_one_message_is_an_offer_and_a_frame():
    offer, frame = parse_whole(handed_in(), 100)
    assert offer.session == "s"
    assert said(frame) == (None, 0, 5, bytes(100))


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (handed_in(101), "101 bytes at once, and at most 100"),
        (handed_in(offer=None), "an offer and a frame"),
        (handed_in(frame=None), "an offer and a frame"),
        (b"", "an offer and a frame"),
        (b"\x0a\x05", "not a protobuf message"),
    ],
)
def test_anything_else_in_one_message_is_refused(message, words):
    with pytest.raises(FrameError, match=words):
        parse_whole(message, 100)
