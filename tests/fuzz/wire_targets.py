"""What comes in over the wire: messages, headers, layouts, whole transfers, payloads."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from muster.orders import parse_orders
from muster_coordinator.attendance import allocations_of, problem_with
from muster_coordinator.logtails import BURST_BYTES, LONGEST_LINE, Budget, LogTails, Tail
from muster_coordinator.spare import SpareFiles
from muster_coordinator.staging import Upload
from muster_spec.clients import ClientId
from muster_wire import payload as payloads_
from muster_wire.checksum import checksum64
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.errors import PayloadError, WireError
from muster_wire.frames import Header, Transfer, prepare
from muster_wire.groups import Group, Member, groups_digest
from muster_wire.holding import Holding
from muster_wire.layout import MAX_ELEMENTS, Kind, Layout, TensorSpec
from muster_wire.messages import draw_from, draw_message, recipe_message
from muster_wire.payload import PayloadKind, Shape
from muster_wire.presets import PRESETS
from muster_wire.received import ReceivedFrame, parse_frame, parse_request, parse_whole
from muster_wire.submodel import Draw, part_of
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values, difference

LAYOUT = Layout(
    (
        TensorSpec("fc.weight", (2, 20), "float32", Kind.TRAINABLE),
        TensorSpec("bn.running_var", (3,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("bn.count", (), "int64", Kind.INTEGER_BUFFER),
        TensorSpec("bn.flag", (2,), "bool", Kind.INTEGER_BUFFER),
        TensorSpec("backbone", (3,), "float16", Kind.FROZEN),
    )
)
GROUPED = Layout(
    (
        TensorSpec("conv.weight", (6, 2, 3), "float32", Kind.TRAINABLE),
        TensorSpec("norm.running_var", (6,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("fc.weight", (2, 24), "float32", Kind.TRAINABLE),
    ),
    (Group(6, (Member("conv.weight", 0), Member("norm.running_var", 0), Member("fc.weight", 1, 4))),),
)
PIPELINES = tuple(
    Pipeline(numbers, sparse, lossless, 16 if numbers >= CodecId.INT8 else 0)
    for numbers in CodecId
    if numbers < CodecId.SPARSE
    for sparse in (False, True)
    for lossless in (False, True)
)
FRAME_BYTES = 64
CLIENTS, NOW = 4, 1000.0
SHAPES = tuple(Shape(LAYOUT, kind, pipeline) for kind in PayloadKind for pipeline in PIPELINES)


def model() -> Values:
    """A small one, with some of everything."""
    values = Values.zeros(LAYOUT)
    rng = np.random.default_rng(0)
    for floats in (values.trainable, values.float_buffers, values.frozen):
        floats[...] = rng.standard_normal(floats.size)
    values.trainable[::3] = 0
    values.integers[...] = [258, 1, 0]
    return values


@cache
def _transfer(shape: Shape) -> Transfer:
    values = model()
    if shape.kind is PayloadKind.SNAPSHOT:
        encoded = payloads_.encode_snapshot(values, shape.pipeline)
    else:
        encoded = payloads_.encode_update(difference(values, Values.zeros(LAYOUT)), shape.pipeline)
    return prepare(encoded, LAYOUT, shape.pipeline, values.digest(), FRAME_BYTES)


# --- messages ---------------------------------------------------------------------------------------------------------


def request(data: bytes) -> None:
    """Our reader and protobuf's read the same, or both refuse."""
    try:
        ours = parse_request(data)
    except WireError:
        ours = None
    try:
        theirs = pb.SubmitRequest.FromString(data)
    except DecodeError:
        assert ours is None
        return
    match theirs.WhichOneof("kind"):
        case "offer":
            assert ours == theirs.offer
        case "frame":
            assert isinstance(ours, ReceivedFrame)
            _assert_same(ours, theirs.frame)
        case _:
            assert ours is None


def whole(data: bytes) -> None:
    """An update in one message is what protobuf reads, or it is refused."""
    try:
        offer, ours = parse_whole(data, FRAME_BYTES)
    except WireError:
        return
    theirs = pb.HandInRequest.FromString(data)
    assert offer == theirs.offer
    assert len(ours.data) <= FRAME_BYTES
    _assert_same(ours, theirs.frame)


def wholes() -> Iterator[bytes]:
    offer = pb.Offer(session="s" * 32, assignment="1.0.p/0", header=_transfer(SHAPES[0]).header.to_message())
    for size in (FRAME_BYTES, FRAME_BYTES + 1):
        data = bytes(range(size))
        yield pb.HandInRequest(offer=offer, frame=pb.Frame(checksum=checksum64(data), data=data)).SerializeToString()


def frame(data: bytes) -> None:
    """The same for what a worker receives."""
    try:
        ours = parse_frame(data)
    except WireError:
        ours = None
    try:
        theirs = pb.Frame.FromString(data)
    except DecodeError:
        assert ours is None
        return
    assert ours is not None
    _assert_same(ours, theirs)


def _assert_same(ours: ReceivedFrame, theirs: pb.Frame) -> None:
    assert (ours.offset, ours.checksum, bytes(ours.data)) == (theirs.offset, theirs.checksum, theirs.data)
    assert (ours.header is not None) == theirs.HasField("header")
    assert ours.header is None or ours.header == theirs.header


def requests() -> Iterator[bytes]:
    transfer = _transfer(SHAPES[0])
    yield from list(transfer.requests())[:3]
    offer = pb.Offer(session="s" * 32, assignment="1.0.p/0", header=transfer.header.to_message(), examples=5, steps=2)
    offer.metrics["loss"] = 0.5
    yield pb.SubmitRequest(offer=offer).SerializeToString()


def frames() -> Iterator[bytes]:
    yield from list(_transfer(SHAPES[0]).frames())[:3]


def attendance(data: bytes) -> None:
    """What a bridge says is refused, or is about clients that there are, at times that there may be."""
    try:
        message = pb.AttendRequest.FromString(data)
    except DecodeError:
        return
    if problem_with(message, CLIENTS) is not None:
        return
    for client, allocation in allocations_of(message, NOW).items():
        assert int(client.rpartition("/")[2]) < CLIENTS
        assert all(when is None or NOW <= when < NOW + 4e8 for when in (allocation.starts, allocation.ends))


def attendances() -> Iterator[bytes]:
    queued = pb.Allocation(indices=[0, 2], state=pb.Allocation.STATE_QUEUED, starts_in_ms=1000)
    running = pb.Allocation(indices=[1], state=pb.Allocation.STATE_RUNNING, ends_in_ms=60_000, lasts_ms=120_000)
    yield pb.AttendRequest(pool="hpc", allocations=[queued, running], log="l", log_read=3).SerializeToString()
    yield pb.AttendRequest(pool="hpc").SerializeToString()


def tail(data: bytes) -> None:
    """Whatever a worker says of its log, what is kept of it is bounded, and fit for a terminal."""
    try:
        message = pb.BeatRequest.FromString(data).log
    except DecodeError:
        return
    tails, budget = LogTails(["hpc"]), Budget()
    for now in (0.0, 1.0):
        tails.add([ClientId("hpc/0")], budget, Tail(message.first, message.left_out, message.lines), now)
    lines = tails.read("hpc", "", 0).lines
    assert all(len(line.text) <= LONGEST_LINE and line.text.isprintable() for line in lines)
    assert sum(len(line.text.encode()) for line in lines) <= 2 * BURST_BYTES


def tails() -> Iterator[bytes]:
    for lines in (["all is well", "  with an indent"], ["\x1b[2J", "\u202e", "\t\r\n"]):
        yield pb.BeatRequest(session="s", log=pb.LogTail(first=1, left_out=2, lines=lines)).SerializeToString()


def header(data: bytes) -> None:
    """A header that is taken means what it said, and promises no more bytes than its layout can make."""
    try:
        message = pb.TransferHeader.FromString(data)
        found = Header.from_message(message)
    except (DecodeError, WireError):
        return
    assert Header.from_message(found.to_message()) == found
    assert Header.from_message(message, found.layout) == found
    for kind in PayloadKind:
        try:
            shape = found.shape(kind)
        except PayloadError:
            continue
        assert shape.sizes.least <= found.size <= shape.sizes.most < 2**40


def headers() -> Iterator[bytes]:
    for shape in SHAPES[::5]:
        yield _transfer(shape).header.to_message().SerializeToString()


def layout(data: bytes) -> None:
    """A layout that is taken has one text, and says where each tensor lies."""
    try:
        found = Layout.from_json(data)
    except WireError:
        return
    assert Layout.from_json(found.to_json()) == found
    assert found.to_json().encode().decode() == found.to_json()
    assert sum(span.stop - span.start for span in found.spans) == found.total_size <= MAX_ELEMENTS


def layouts() -> Iterator[bytes]:
    yield LAYOUT.to_json().encode()
    yield GROUPED.to_json().encode()
    yield b'{"tensors":[]}'
    odd = rb'{"name":"\u00e9\ud83d\ude00","shape":[0,9007199254740993],"dtype":"int8","kind":"integerBuffer"}'
    yield b'{"tensors":[' + odd + b"]}"


def orders(data: bytes) -> None:
    """What a worker hears from a coordinator."""
    try:
        found = parse_orders(pb.Orders.FromString(data), 0.0)
    except (DecodeError, WireError):
        return
    assert all(found.wants(each.id) for each in found.assignments) or found.finished


def some_orders() -> Iterator[bytes]:
    part = draw_message(Draw(2**63, 1, 3, 0.5), groups_digest(GROUPED.groups))
    train = pb.Train(base="0" * 32, seed=2**63, recipe=recipe_message(PRESETS["max"].up), sub_model=part)
    initialise, evaluate = pb.Initialise(seed=1), pb.Evaluate(model="0" * 32, scope=pb.Evaluate.SCOPE_LOCAL)
    assignments = [
        pb.Assignment(id="1.0.p/0", pool="p", index=0, round=1, train=train),
        pb.Assignment(id="0.0.p/1", pool="p", index=1, initialise=initialise),
        pb.Assignment(id="1.local.p/0", pool="p", index=0, round=1, evaluate=evaluate),
    ]
    settled = pb.Settlement(assignment="0.0.p/0", fate=pb.Settlement.FATE_USED, reason="used")
    yield pb.Orders(revision=3, assignments=assignments, settlements=[settled]).SerializeToString()
    yield pb.Orders(revision=4, finished=True, reason="Complete").SerializeToString()


def part(data: bytes) -> None:
    """A part that an order names is one of the model, and putting it back changes nothing."""
    try:
        drawn = part_of(GROUPED, draw_from(pb.SubModel.FromString(data)))
    except (DecodeError, WireError):
        return
    values = Values.zeros(GROUPED)
    values.trainable[...] = np.arange(values.trainable.size)
    taken, before = drawn.take(values), values.trainable.copy()
    assert taken.layout == drawn.layout
    assert np.array_equal(taken.trainable, drawn.take_trainable(values.trainable))
    drawn.put_trainable(values.trainable, taken.trainable)
    assert np.array_equal(values.trainable, before)


def parts() -> Iterator[bytes]:
    for draw in (Draw(0, 0, 1, 1.0), Draw(2**64 - 1, 4095, 4096, 1e-9)):
        yield draw_message(draw, groups_digest(GROUPED.groups)).SerializeToString()


# --- transfers and payloads -------------------------------------------------------------------------------------------


def upload(data: bytes) -> None:
    """Messages, each behind its length: the first byte says of what, the rest is staged as by a coordinator."""
    if not data:
        return
    shape = SHAPES[data[0] % len(SHAPES)]
    with (
        tempfile.TemporaryDirectory() as folder,
        Upload(_transfer(shape).header, shape.kind, SpareFiles(Path(folder)), 4096) as staged,
    ):
        taken = bytearray()
        for message in _messages(data[1:]):
            try:
                arrived = parse_request(message)
                if isinstance(arrived, ReceivedFrame):
                    staged.add(arrived)
                    taken += arrived.data
            except WireError:
                pass
            assert staged.received == len(taken) <= staged.header.size
        assert staged.view() == taken
        try:
            staged.check()
        except WireError:
            return
        assert staged.is_complete
        assert payloads_.decode(staged.shape, staged.view()).digest()


def _messages(data: bytes) -> Iterator[bytes]:
    while len(data) > 2:
        (length,) = struct.unpack_from("<H", data)
        yield data[2 : 2 + length]
        data = data[2 + length :]


def uploads() -> Iterator[bytes]:
    for index in range(0, len(SHAPES), 7):
        yield bytes([index]) + _told(_transfer(SHAPES[index]).requests())


def way(data: bytes) -> None:
    """Frames, each behind its length, for a worker that holds a version: they lead where they should, or nowhere."""
    holding = Holding(model())
    holding.want(_next_version().digest())
    try:
        for message in _messages(data):
            arrived = parse_frame(message)
            if arrived.header is not None:
                holding.begin(Header.from_message(arrived.header))
            holding.add(arrived)
    except WireError:
        pass
    if holding.is_there:
        assert holding.take().digest() == _next_version().digest()
    held = holding.want(_next_version().digest()).held
    assert held in {"", model().digest(), _next_version().digest()} or holding.take().digest() == held


@cache
def _next_version() -> Values:
    values = model()
    values.trainable[...] += 0.5
    return values


def ways() -> Iterator[bytes]:
    """A change, the same in two hops by way of where it began, and a snapshot."""
    there, here = _next_version(), model()
    for base, target in ((here, there), (there, here)):
        change = payloads_.encode_update(difference(target, base), Pipeline())
        frames_ = list(prepare(change, LAYOUT, Pipeline(), target.digest(), FRAME_BYTES, base.digest()).frames())
        yield _told(frames_)
    yield _told(_transfer(SHAPES[0]).frames())
    yield _told(prepare(payloads_.encode_snapshot(there, Pipeline()), LAYOUT, Pipeline(), there.digest()).frames())


def _told(messages: Iterable[bytes]) -> bytes:
    return b"".join(struct.pack("<H", len(message)) + message for message in messages)


def payload(data: bytes) -> None:
    """The first byte says what it should be. What passes the checks decodes, adds up and advances a model."""
    if not data:
        return
    shape, encoded = SHAPES[data[0] % len(SHAPES)], data[1:]
    try:
        checked = payloads_.check(shape, encoded)
    except PayloadError:
        return
    values = payloads_.decode(shape, encoded)
    assert np.isfinite(values.trainable).all()
    assert np.isclose(np.linalg.norm(values.trainable.astype(float)), checked.norm, rtol=1e-5)
    in_place = payloads_.decode_in_place(shape, encoded)
    assert all(one.tobytes() == other.tobytes() for one, other in zip(values.buffers, in_place.buffers, strict=True))
    if shape.kind is PayloadKind.UPDATE:
        payloads_.accumulate(shape, encoded, Values.zeros(LAYOUT, frozen=False), 1.0)
        payloads_.advance(shape, encoded, model())
    if shape.pipeline == Pipeline(shape.pipeline.numbers) and shape.pipeline.numbers <= CodecId.BFLOAT16:
        encode = payloads_.encode_update if shape.kind is PayloadKind.UPDATE else payloads_.encode_snapshot
        assert encode(values, shape.pipeline) == encoded


def payloads() -> Iterator[bytes]:
    for index, shape in enumerate(SHAPES):
        yield bytes([index]) + bytes(_transfer(shape).payload)
