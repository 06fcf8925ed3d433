"""Versions as chains of changes: every client reaches the coordinator's reference, by whichever way, to the bit."""

import contextlib
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from muster_coordinator.broadcast import Broadcasts
from muster_coordinator.compression import Down
from muster_coordinator.durable import Disk
from muster_coordinator.federation import frames_of
from muster_coordinator.observer import Unobserved
from muster_coordinator.reference import Encoder
from muster_coordinator.shelf import Shelf
from muster_wire.chain import Audience
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.errors import FrameError, WireError
from muster_wire.feedback import Recipe
from muster_wire.frames import Header
from muster_wire.holding import Holding
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.presets import PRESETS
from muster_wire.received import parse_frame
from muster_wire.selection import Choice
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values

LAYOUT = Layout(
    (
        TensorSpec("weight", (3000,), "float32", Kind.TRAINABLE),
        TensorSpec("running_mean", (4,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("steps", (), "int64", Kind.INTEGER_BUFFER),
        TensorSpec("backbone", (50,), "float32", Kind.FROZEN),
    )
)
MAX = Down(PRESETS["max"].snapshot, PRESETS["max"].delta)
DOWNS = {
    "max": MAX,
    "balanced": Down(PRESETS["balanced"].snapshot, PRESETS["balanced"].delta),
    "exact": Down(delta=Recipe(Pipeline())),
    "one bit": Down(Pipeline(CodecId.INT8), Recipe(Pipeline(CodecId.ONE_BIT, block=64))),
    "float16": Down(Pipeline(CodecId.FLOAT16, lossless=True), Recipe(Pipeline(CodecId.FLOAT16), Choice())),
    "no changes": Down(Pipeline(CodecId.INT8, lossless=True)),
}


def walk(versions, seed=0, step=0.01):
    """Models, one after the other."""
    rng = np.random.default_rng(seed)
    model = Values.zeros(LAYOUT)
    model.trainable[...] = rng.standard_normal(3000)
    model.frozen[...] = rng.standard_normal(50)
    for number in range(versions):
        yield model
        model = Values(LAYOUT, *(buffer.copy() for buffer in model.buffers))
        model.trainable[...] += step * rng.standard_normal(3000).astype(np.float32)
        model.float_buffers[...] += np.float32(0.1)
        model.integers[...] = number


def server(folder, down=MAX, keep=3):
    shelf = folder / "shelf"
    shelf.mkdir(exist_ok=True)
    return Broadcasts(Encoder(folder, down, 7), keep, 512, Shelf(shelf, Disk(Unobserved())))


def publish(broadcasts, models, audience=None):
    """Digests of the models and of their references."""
    digests = [model.digest() for model in models]
    for number, (digest, model) in enumerate(zip(digests, models, strict=True)):
        broadcasts.publish(digest, model, number, audience)
    return digests, [broadcasts.reference(digest) for digest in digests]


def fetch(broadcasts, holding, wanted, cut=None, **choices):
    """A Fetch, as server and client do it, or as much of it as comes through; how many bytes that took."""
    wish = holding.want(wanted)
    request = pb.FetchRequest(digest=wish.digest, held=wish.held, partial=wish.partial, offset=wish.offset)
    way = broadcasts.way(request.digest, request.held, **choices)
    versions = [*([broadcasts.plain(wanted)] if way.is_plain else []), *way.versions]
    size = 0
    for count, message in enumerate(frames_of(versions, request)):
        if count == cut:
            break
        frame = parse_frame(message)
        size += len(message)
        if frame.header is not None:
            holding.begin(Header.from_message(frame.header))
        holding.add(frame)
    return size


@pytest.mark.parametrize("down", DOWNS.values(), ids=DOWNS.keys())
def test_every_way_leads_to_the_same_reference(tmp_path, down):
    broadcasts, models = server(tmp_path, down), list(walk(6))
    follower, sleeper, newcomer, old = Holding(), Holding(), Holding(), Holding()
    for number, model in enumerate(models):
        digest = model.digest()
        broadcasts.publish(digest, model, number, Audience({number - 1: 2}, 1))
        reference = broadcasts.reference(digest)
        fetch(broadcasts, follower, reference)
        if number in (1, 5):
            fetch(broadcasts, sleeper, reference)
    fetch(broadcasts, newcomer, reference)
    fetch(broadcasts, old, reference, snapshots_only=True)  # a peer that knows no changes
    held = [holding.take() for holding in (follower, sleeper, newcomer, old)]
    assert {values.digest() for values in held} == {reference}
    np.testing.assert_allclose(held[0].float_buffers, models[-1].float_buffers, rtol=1e-6)
    np.testing.assert_array_equal(held[0].integers, models[-1].integers)
    np.testing.assert_array_equal(held[0].frozen, models[-1].frozen)


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_history_of_clients_that_skip_break_off_and_forget(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    down = data.draw(st.sampled_from(list(DOWNS.values())))
    keep = data.draw(st.integers(1, 3))
    broadcasts, clients = server(folder, down, keep), [Holding() for _ in range(3)]
    for number, model in enumerate(walk(data.draw(st.integers(1, 8)), seed=number_of(data))):
        if down.delta and data.draw(st.booleans()):  # the coordinator dies and comes back
            models = dict(enumerate(published)) if (published := getattr(broadcasts, "published", [])) else {}
            broadcasts = server(folder, down, keep)
            assert broadcasts.restore(models, LAYOUT) == []
            broadcasts.published = list(models.values())
        audience = Audience({max(number - 2, 0): data.draw(st.integers(0, 5))}, data.draw(st.integers(0, 3)))
        broadcasts.publish(model.digest(), model, number, audience)
        broadcasts.published = [*getattr(broadcasts, "published", []), model.digest()]
        reference = broadcasts.reference(model.digest())
        for place, client in enumerate(clients):
            match data.draw(st.sampled_from(["skip", "fetch", "cut", "forget"])):
                case "fetch":
                    fetch(broadcasts, client, reference)
                    assert client.is_there
                    assert client.take().digest() == reference
                case "cut":
                    fetch(broadcasts, client, reference, cut=data.draw(st.integers(0, 12)))
                case "forget":
                    clients[place] = Holding()
    shutil.rmtree(folder)


def number_of(data):
    return data.draw(st.integers(0, 2**32))


def test_small_steps_add_up(tmp_path):
    """Each far below what one change can say; none is lost for good."""
    broadcasts, models = server(tmp_path), list(walk(1))
    for _ in range(60):
        models.append(replace(models[-1], trainable=models[-1].trainable + np.float32(1e-3)))
    _, references = publish(broadcasts, models)
    holding = Holding()
    fetch(broadcasts, holding, references[-1])
    moved = holding.take().trainable - models[0].trainable
    assert moved.mean() == pytest.approx(0.06, rel=0.3)  # of 60 steps; the rest is on its way


def test_changes_are_a_fraction_of_a_snapshot(tmp_path):
    broadcasts, models = server(tmp_path), list(walk(3))
    digests = [model.digest() for model in models]
    holding, sizes = Holding(), []
    for number, (digest, model) in enumerate(zip(digests, models, strict=True)):
        broadcasts.publish(digest, model, number)
        sizes.append(fetch(broadcasts, holding, broadcasts.reference(digest)))
    assert sizes[1] < sizes[0] / 2
    assert sizes[2] < sizes[0] / 2


def test_a_restarted_coordinator_gives_out_the_same_references(tmp_path):
    models = list(walk(5))
    digests, references = publish(server(tmp_path), models)
    again = server(tmp_path)
    assert again.restore(dict(enumerate(digests)), LAYOUT) == []
    assert [again.reference(digest) for digest in digests] == references
    following = next(iter(walk(1, seed=3)))
    (tmp_path / "other").mkdir()
    undisturbed = server(tmp_path / "other")
    publish(undisturbed, models)
    for broadcasts in (again, undisturbed):
        broadcasts.publish(following.digest(), following, 5)
    assert again.reference(following.digest()) == undisturbed.reference(following.digest())


def test_the_newest_version_is_made_again_the_same_where_it_is_lost(tmp_path):
    models = list(walk(4))
    digests, references = publish(server(tmp_path), models)
    newest = max((tmp_path / "shelf").glob("*.bin"), key=lambda path: path.stat().st_mtime_ns)
    newest.write_bytes(b"\0" + newest.read_bytes()[1:])
    again = server(tmp_path)
    (warning,) = again.restore(dict(enumerate(digests)), LAYOUT)
    assert "version 3 is damaged or gone" in warning
    again.publish(digests[3], models[3], 3)
    assert again.reference(digests[3]) == references[3]


@pytest.mark.parametrize("damage", ["record", "keyframe", "everything"])
def test_a_damaged_chain_is_not_believed(tmp_path, damage):
    models = list(walk(4))
    digests, _ = publish(server(tmp_path), models)
    shelf = tmp_path / "shelf"
    if damage == "record":
        (shelf / "chain.json").write_bytes(b"{}")
    elif damage == "keyframe":
        max(shelf.glob("*.bin"), key=lambda path: path.stat().st_size).unlink()
    else:
        for path in shelf.glob("*.bin"):
            path.write_bytes(b"")
    again = server(tmp_path)
    assert len(again.restore(dict(enumerate(digests)), LAYOUT)) == 1
    again.publish(digests[3], models[3], 3)
    reference = again.reference(digests[3])
    holding = Holding()
    fetch(again, holding, reference)
    np.testing.assert_allclose(holding.take().trainable, models[3].trainable, atol=0.05)


def test_a_history_that_went_back_takes_the_chain_with_it(tmp_path):
    models = list(walk(4))
    digests, references = publish(server(tmp_path), models)
    again = server(tmp_path)
    again.restore(dict(enumerate(digests[:2])), LAYOUT)
    other = next(iter(walk(1, seed=9)))
    again.publish(other.digest(), other, 2)
    assert again.way(references[3], "") is None
    holding = Holding()
    fetch(again, holding, references[1])
    assert fetch(again, holding, again.reference(other.digest())) < 4000
    assert holding.is_there


def test_what_no_way_needs_is_gone(tmp_path):
    broadcasts, models = server(tmp_path, keep=2), list(walk(8))
    digests = [model.digest() for model in models]
    for number, (digest, model) in enumerate(zip(digests, models, strict=True)):
        crowd = Audience(newcomers=100) if number in (3, 5) else None
        broadcasts.publish(digest, model, number, crowd)
    assert len(list((tmp_path / "shelf").glob("*.bin"))) == 3  # a keyframe at 5, and two changes
    assert broadcasts.way(broadcasts.reference(digests[7]), "") is not None
    assert broadcasts.way(digests[4], "") is None


def test_a_change_of_another_version_is_refused(tmp_path):
    broadcasts, models = server(tmp_path), list(walk(3))
    _, references = publish(broadcasts, models)
    ahead, fresh = Holding(), Holding()
    fetch(broadcasts, ahead, references[1])
    (change,) = broadcasts.way(references[2], references[1]).versions
    frame = parse_frame(next(change.frames(0)))
    fresh.want(references[2])
    with pytest.raises(FrameError, match="a change of version"):
        fresh.begin(Header.from_message(frame.header))


def test_what_leads_elsewhere_is_refused_and_what_was_trained_from_stays(tmp_path):
    broadcasts, models = server(tmp_path), list(walk(3))
    _, references = publish(broadcasts, models)
    holding = Holding()
    fetch(broadcasts, holding, references[1])
    trained_from = holding.take()
    (change,) = broadcasts.way(references[2], references[1]).versions
    frames = [parse_frame(message) for message in change.frames(0)]
    holding.want(references[2])
    holding.begin(replace(Header.from_message(frames[0].header), digest="0" * 32))
    for frame in frames[:-1]:
        holding.add(frame)
    with pytest.raises(FrameError, match="are those of"):
        holding.add(frames[-1])
    assert trained_from.digest() == references[1]
    assert holding.want(references[2]).held == ""  # what is half changed is not offered as a base
    fetch(broadcasts, holding, references[2])
    assert holding.is_there


def test_nothing_is_taken_beyond_what_was_wanted(tmp_path):
    broadcasts, models = server(tmp_path), list(walk(2))
    _, references = publish(broadcasts, models)
    holding = Holding()
    fetch(broadcasts, holding, references[0])
    (change,) = broadcasts.way(references[1], references[0]).versions
    with pytest.raises(FrameError, match="past the version that is wanted"):
        holding.begin(Header.from_message(parse_frame(next(change.frames(0))).header))


@given(
    flips=st.lists(st.tuples(st.integers(0, 2**20), st.integers(1, 255)), min_size=1, max_size=4),
    seed=st.integers(0, 3),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_never_make_a_version(tmp_path_factory, flips, seed):
    """Whatever the coordinator sends: an error of ours, or the very version that was wanted."""
    folder = tmp_path_factory.mktemp("hostile")
    broadcasts = server(folder)
    _, references = publish(broadcasts, list(walk(3, seed=seed)))
    holding = Holding()
    fetch(broadcasts, holding, references[0])
    sent = [bytearray(each) for v in broadcasts.way(references[2], references[0]).versions for each in v.frames(0)]
    for at, bits in flips:
        frame = sent[at % len(sent)]
        frame[at % len(frame)] ^= bits
    holding.want(references[2])
    with contextlib.suppress(WireError):
        for message in map(bytes, sent):
            frame = parse_frame(message)
            if frame.header is not None:
                holding.begin(Header.from_message(frame.header))
            holding.add(frame)
    if holding.is_there:
        assert holding.take().digest() == references[2]
    with contextlib.suppress(FrameError):  # a damaged header promised another transfer: found out, and begun anew
        fetch(broadcasts, holding, references[2])
    fetch(broadcasts, holding, references[2])  # and what is left of it is good to go on from
    assert holding.take().digest() == references[2]
    shutil.rmtree(folder)
