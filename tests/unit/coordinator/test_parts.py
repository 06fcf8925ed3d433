"""Parts of a round: how many and how small, who shares which, and that a restart means the same."""

import pytest

from muster_coordinator.broadcast import Broadcasts
from muster_coordinator.compression import Down
from muster_coordinator.instructions import OrderTraining
from muster_coordinator.parts import Dropout, Parts, dropout_of
from muster_coordinator.records import AssignmentId
from muster_coordinator.reference import Encoder
from muster_spec.clients import ClientId
from muster_spec.strategy_types import FederatedDropout
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.frames import Header, Memory, Reassembly
from muster_wire.groups import Group, Member, groups_digest
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.messages import draw_from
from muster_wire.payload import PayloadKind, decode
from muster_wire.received import parse_frame
from muster_wire.submodel import part_of
from muster_wire.values import Values

LAYOUT = Layout(
    (
        TensorSpec("up", (20, 4), "float32", Kind.TRAINABLE),
        TensorSpec("down", (3, 20), "float32", Kind.TRAINABLE),
    ),
    (Group(20, (Member("up", 0), Member("down", 1))),),
)


def model(seed=0.0):
    values = Values.zeros(LAYOUT)
    values.trainable[...] = range(values.trainable.size)
    values.trainable[...] += seed
    return values


def order(place, round_number=1):
    name = f"p/{place}"
    return OrderTraining(
        ClientId(name), AssignmentId(f"{round_number}.0.{name}"), round_number, "base", 7, 60.0, place=place
    )


@pytest.fixture
def make(tmp_path):
    def parts(keep=0.5, masks=3, rounds_kept=2, codec=CodecId.FLOAT32):
        broadcasts = Broadcasts(Encoder(tmp_path, Down(Pipeline(codec)), seed=4), masks * rounds_kept, 128)
        return Parts(Dropout(seed=4, keep=keep, masks=masks), broadcasts, rounds_kept)

    return parts


def fetched(version):
    frames = [parse_frame(message) for message in version.frames(0)]
    header = Header.from_message(frames[0].header)
    memory = Memory(header.size)
    transfer = Reassembly(header, memory)
    for frame in frames:
        transfer.add(frame)
    transfer.finish()
    return header, decode(header.shape(PayloadKind.SNAPSHOT), memory.view())


def test_keep_and_masks_say_how_small_and_how_many(make):
    wanted = FederatedDropout(keep=0.25, masks=8)
    assert dropout_of(None, 1, 10) is None
    assert dropout_of(wanted, 1, 10) == Dropout(1, 0.25, 8)
    assert dropout_of(wanted, 1, 5).masks == 5  # nobody would train the others
    parts = make(keep=0.25, masks=3)
    parts.publish(model(), 1)
    references = [parts.reference(order(place)) for place in range(9)]
    assert len(set(references)) == 3
    assert references[:3] == references[3:6] == references[6:]
    _, part = fetched(parts.get(references[0]))
    assert [spec.shape for spec in part.layout.tensors] == [(5, 4), (3, 5)]


@pytest.mark.parametrize("codec", [CodecId.FLOAT32, CodecId.FLOAT16, CodecId.INT8])
def test_what_an_order_says_leads_a_client_to_the_part_it_fetches(make, codec):
    parts = make(codec=codec)
    parts.publish(model(), 2)
    for place in range(3):
        message = parts.message(order(place, 2))
        header, values = fetched(parts.get(parts.reference(order(place, 2))))
        assert message.groups == groups_digest(LAYOUT.groups)
        part = part_of(LAYOUT, draw_from(message))
        assert header.layout == part.layout == parts.part(LAYOUT, order(place, 2)).layout
        assert header.digest == values.digest() == parts.reference(order(place, 2))
        if codec is CodecId.FLOAT32:
            assert values.trainable.tolist() == part.take(model()).trainable.tolist()


def test_each_part_is_encoded_once_and_shared(make):
    parts = make()
    parts.publish(model(), 1)
    side_by_side = zip(*(parts.get(parts.reference(order(place))).frames(0) for place in (1, 4)), strict=True)
    next(side_by_side)  # these have headers
    assert all(mine is theirs for mine, theirs in side_by_side)
    reference = parts.reference(order(1))
    parts.publish(model(1.0), 1)  # another attempt at the same round has the same base
    assert parts.reference(order(1)) == reference


def test_a_restarted_coordinator_means_the_same_parts(make):
    before, after = make(), make()
    for parts in (before, after):
        parts.publish(model(), 3)
    assert [before.reference(order(p, 3)) for p in range(3)] == [after.reference(order(p, 3)) for p in range(3)]
    late = order(1, 2)  # of a round that the new one has not published: its held update still has its places
    assert after.reference(late) == ""
    assert before.part(LAYOUT, late).layout == after.part(LAYOUT, late).layout
    assert [list(u) for u in before.part(LAYOUT, late).units] == [list(u) for u in after.part(LAYOUT, late).units]


def test_rounds_draw_anew_and_old_parts_go(make):
    parts = make(rounds_kept=2)
    for number in (1, 2, 3):
        parts.publish(model(), number)
    assert parts.reference(order(0, 1)) == ""
    assert parts.get(parts.reference(order(0, 2))) is not None
    assert parts.message(order(0, 2)).seed != parts.message(order(0, 3)).seed
