import numpy as np
import pytest

from muster_coordinator.broadcast import Broadcasts
from muster_coordinator.compression import Down
from muster_coordinator.reference import Encoder
from muster_wire.errors import FrameError
from muster_wire.frames import Header, Memory, Reassembly
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.payload import PayloadKind, decode
from muster_wire.received import parse_frame
from muster_wire.values import Values

LAYOUT = Layout((TensorSpec("weight", (1000,), "float32", Kind.TRAINABLE),))


@pytest.fixture
def version(tmp_path):
    broadcasts = Broadcasts(Encoder(tmp_path, Down(), 0), keep=2, frame_bytes=512)
    model = Values.gather(LAYOUT, {"weight": np.arange(1000)})
    broadcasts.publish(model.digest(), model)
    (sent,) = broadcasts.way(model.digest(), "").versions
    return model, sent


def test_clients_side_by_side_get_the_very_same_frames(version):
    _, sent = version
    pairs = list(zip(sent.frames(0), sent.frames(0), strict=True))
    assert all(one is other for one, other in pairs[1:])  # the first one is made for each, with the header


def test_clients_far_apart_get_equal_frames(version):
    _, sent = version
    early, late = list(sent.frames(0)), list(sent.frames(0))
    assert early == late
    assert list(sent.frames(1024))[1:] == early[3:]


@pytest.mark.parametrize("frames", [0, 1, 5, 8])
def test_a_transfer_goes_on_where_it_broke(version, frames):
    model, sent = version
    whole = [parse_frame(message) for message in sent.frames(0)]
    header = Header.from_message(whole[0].header)
    memory = Memory(header.size)
    transfer = Reassembly(header, memory)
    for frame in whole[:frames]:
        transfer.add(frame)
    for message in sent.frames(transfer.received):
        transfer.add(parse_frame(message))
    transfer.finish()
    assert decode(header.shape(PayloadKind.SNAPSHOT), memory.view()).digest() == model.digest()


def test_an_offset_past_the_end_is_refused(version):
    with pytest.raises(FrameError, match="is not in a transfer"):
        next(version[1].frames(10_000))
