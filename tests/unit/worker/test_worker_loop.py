"""The worker against a small coordinator over real gRPC: what it does, and what it does when things break."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_task import work

from fakes.federation import FRAME_BYTES, TOKEN, FakeFederation, serving
from muster.arrays import layout_of, read_values
from muster.courier import backoff_s
from muster.task import Client
from muster.worker import WorkerSettings, run_worker
from muster.workshop import Hooks, Workshop
from muster_wire.checksum import checksum64
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.feedback import Memory, Recipe, encode, random_of
from muster_wire.frames import Header
from muster_wire.messages import recipe_message
from muster_wire.payload import PayloadKind, Shape, check, decode
from muster_wire.selection import Choice
from muster_wire.v1 import federation_pb2 as wire
from muster_wire.values import applied

FLOAT32 = wire.CodecId.CODEC_FLOAT32
pytestmark = pytest.mark.timeout(60)


@contextmanager
def at_work(federation, **settings):
    """A worker in a thread; on leaving the job is finished, and the worker has to end by itself."""
    codes = []
    with serving(federation) as address:
        asked = WorkerSettings(**{"coordinator": address, "pool": "p", "token": TOKEN, "indices": (0,), **settings})
        thread = threading.Thread(target=lambda: codes.append(run_worker(asked)))
        thread.start()
        try:
            yield address
        finally:
            federation.order(finished=True)
            thread.join(20)
    assert codes == [0]


def first_model(seed=7):
    return Workshop(work()).initialise(seed)


def train(assignment, base, index=0, seed=11, codec=FLOAT32, recipe=None, participations=0):
    return wire.Assignment(
        id=assignment,
        pool="p",
        index=index,
        round=int(assignment.split(".")[0]),
        train=wire.Train(
            base=base,
            seed=seed,
            codec=codec,
            recipe=recipe and recipe_message(recipe),
            participations=participations,
        ),
    )


def evaluate(assignment, model, scope):
    return wire.Assignment(id=assignment, pool="p", round=1, evaluate=wire.Evaluate(model=model, scope=scope))


def expected_update(base, seed=11, ordinal=0, config=None):
    client = Client("p", ordinal, ordinal, 1, 1, 7)
    shop = Workshop(work(config))
    return shop.train(client, base, {}, seed, Hooks(lambda: False, lambda _: None)).update


def test_a_client_that_is_told_to_stop_hands_in_what_it_has():
    client = Client("p", 0, 0, 1, 1, 7)
    base, never = first_model(5), Hooks(lambda: False, lambda _: None)
    whole = Workshop(work()).train(client, base, {}, 11, never)
    part = Workshop(work()).train(client, base, {}, 11, never._replace(stop_at=0.0))
    assert whole.trained.steps > 1 == part.trained.steps
    assert part.trained.examples == whole.trained.examples
    assert part.update.digest() != whole.update.digest()


def received(federation, assignment, base, codec=CodecId.FLOAT32):
    federation.until(lambda: federation.update(assignment) is not None)
    shape = Shape(base.layout, PayloadKind.UPDATE, codec)
    check(shape, federation.update(assignment))
    return decode(shape, federation.update(assignment))


def test_it_initialises_the_first_model():
    federation = FakeFederation(work())
    with at_work(federation):
        federation.order(wire.Assignment(id="0.0.p/0", pool="p", initialise=wire.Initialise(seed=5)))
        federation.until(lambda: federation.update("0.0.p/0") is not None)
    header = Header.from_message(federation.offers[0].header)
    values = decode(Shape(header.layout, PayloadKind.SNAPSHOT, header.codec), federation.update("0.0.p/0"))
    assert values.digest() == first_model(5).digest()
    assert header.digest == header.checksum  # nobody holds it as a version
    torch.manual_seed(5)
    model = Workshop(work())._load().build_model()
    assert values.digest() == read_values(model, layout_of(model, lambda _: False)).digest()


@pytest.mark.parametrize("codec", [CodecId.FLOAT32, CodecId.FLOAT16])
@pytest.mark.parametrize("hand_in_bytes", [0, 2 * FRAME_BYTES])
def test_it_trains_and_hands_in_the_update(codec, hand_in_bytes):
    federation, base = FakeFederation(work()), first_model()
    federation.hand_in_bytes = hand_in_bytes
    with at_work(federation):
        federation.order(train("1.0.p/0", federation.publish(base), codec=codec))
        update = received(federation, "1.0.p/0", base, codec)
    offer = federation.offers[0]
    assert (offer.examples, offer.steps) == (48, 6)
    assert 0 < offer.metrics["loss"] < 2
    assert offer.header.digest == offer.header.checksum  # an update makes no version
    is_small = offer.header.size <= min(hand_in_bytes, FRAME_BYTES)
    assert federation.handed_in == ["1.0.p/0"] * is_small
    assert federation.submit_offsets == [0] * (not is_small)
    if codec is CodecId.FLOAT32:
        assert update.digest() == expected_update(base).digest()


TOP = Recipe(Pipeline(CodecId.INT8, sparse=True, lossless=True), Choice(0.2), momentum=0.5, error_feedback=True)


def settled(assignment, *, used):
    fate = wire.Settlement.FATE_USED if used else wire.Settlement.FATE_UNUSED
    return [wire.Settlement(assignment=assignment, fate=fate)]


def test_what_is_left_out_moves_with_the_commit(tmp_path, caplog):
    """Round 1 is used, round 2 is not, and the worker is another one in round 3: as if only 1 and 3 had been."""
    federation, base = FakeFederation(work()), first_model()
    with at_work(federation, state=tmp_path):
        digest = federation.publish(base)
        for assignment, used in (("1.0.p/0", True), ("2.0.p/0", False)):
            federation.order(train(assignment, digest, seed=int(assignment[0]), recipe=TOP))
            received(federation, assignment, base, TOP.pipeline)
            federation.order(settlements=settled(assignment, used=used))
            federation.until(lambda: not list(tmp_path.rglob("held-*")))
    successor = FakeFederation(work())
    with at_work(successor, state=tmp_path):
        successor.order(train("3.0.p/0", successor.publish(base), seed=3, recipe=TOP))
        third = received(successor, "3.0.p/0", base, TOP.pipeline)
    memory = encode(expected_update(base, seed=1), TOP, Memory.empty(), random_of(1)).memory
    replayed = encode(expected_update(base, seed=3), TOP, memory, random_of(3))
    assert third.digest() == replayed.decoded.digest()
    assert "is lost" not in caplog.text


def test_it_measures_what_the_share_of_values_is_learnt_from():
    federation, base = FakeFederation(work()), first_model()
    probing = replace(TOP, momentum=0.0, probe=0.05)
    with at_work(federation):
        digest = federation.publish(base)
        federation.order(train("1.0.p/0", digest, recipe=probing))
        update = received(federation, "1.0.p/0", base, TOP.pipeline)
        federation.order(train("2.0.p/0", digest, recipe=replace(probing, probe=0.0)))
        received(federation, "2.0.p/0", base, TOP.pipeline)
    encoded = encode(expected_update(base), probing, Memory.empty(), random_of(11))
    assert encoded.decoded.digest() == update.digest()
    measured, task = federation.offers[0].probe, Workshop(work())
    for values, loss in (
        (base, measured.before),
        (applied(update, base), measured.after),
        (applied(encoded.fewer(0.05), base), measured.fewer),
    ):
        assert task.losses(Client("p", 0, 0, 1, 1, 7), [values], {}, 11) == [loss]
    assert measured.after < measured.fewer < measured.before
    assert not federation.offers[1].HasField("probe")


def test_a_worker_that_has_lost_its_memory_says_so(caplog):
    federation, base = FakeFederation(work()), first_model()
    warm = replace(TOP, warm_up=2)
    with at_work(federation):
        federation.order(train("9.0.p/0", federation.publish(base), recipe=warm, participations=3))
        update = received(federation, "9.0.p/0", base, TOP.pipeline)
    assert "p/0 took part 3 times, and what it had left to send is lost" in caplog.text
    assert federation.offers[0].memory_lost
    expected = encode(expected_update(base), warm, Memory.empty(3), random_of(11))  # its warm-up is over
    assert update.digest() == expected.decoded.digest()
    assert np.count_nonzero(update.trainable) < np.count_nonzero(
        encode(expected_update(base), warm, Memory.empty(), random_of(11)).decoded.trainable
    )


def test_a_first_participation_has_lost_nothing():
    federation, base = FakeFederation(work()), first_model()
    with at_work(federation):
        federation.order(train("9.0.p/0", federation.publish(base), recipe=TOP))
        received(federation, "9.0.p/0", base, TOP.pipeline)
    assert not federation.offers[0].memory_lost


def versions(count):
    """Models that differ by amounts that float32 says exactly, so that a change leads to the very next one."""
    model = first_model()
    model.trainable[...] = np.round(model.trainable * 64) / 64
    for step in range(count):
        yield replace(model, trainable=model.trainable + np.float32(step / 4))


@pytest.mark.parametrize("damage", [None, "torn", "altered"])
def test_what_a_worker_holds_outlives_it_and_changes_apply_to_it(tmp_path, damage):
    federation, models = FakeFederation(work()), list(versions(4))
    with at_work(federation, state=tmp_path):
        federation.order(train("1.0.p/0", federation.publish(models[0])))
        received(federation, "1.0.p/0", models[0])
        federation.cut_fetch_after = 0
        federation.order(train("2.0.p/0", federation.publish_change(models[0], models[1])))
        received(federation, "2.0.p/0", models[1])
    (kept,) = tmp_path.rglob("reference.bin")
    if damage:
        content = bytearray(kept.read_bytes())
        content[-20] ^= 1
        kept.write_bytes(content if damage == "altered" else content[:-9])
    successor = FakeFederation(work())
    with at_work(successor, state=tmp_path):
        successor.order(train("3.0.p/0", successor.publish_change(models[1], models[2]), seed=3))
        update = received(successor, "3.0.p/0", models[2])
    assert update.digest() == expected_update(models[2], seed=3).digest()
    first, second = (model.digest() for model in models[:2])
    assert federation.helds[:2] == ["", first]
    assert set(federation.helds[2:]) == {first}  # the broken one goes on
    if damage == "torn":
        assert successor.helds == [""]
    else:
        assert (successor.helds == [second]) == (damage is None)


def test_a_model_that_comes_along_with_orders_is_not_fetched():
    federation, (first, second) = FakeFederation(work()), versions(2)
    with at_work(federation):
        base = federation.publish(first)
        federation.order(train("1.0.p/0", base), frames=federation.frames(base))
        received(federation, "1.0.p/0", first)
        following = federation.publish_change(first, second)
        federation.order(train("2.0.p/0", following), frames=federation.frames(following, held=base))
        received(federation, "2.0.p/0", second)
    assert federation.helds == []


def damaged(frames):
    frames[-1].checksum ^= 1
    return frames


def of_another_version(frames):
    for frame in frames:
        if frame.HasField("header"):
            frame.header.digest = "0" * 32
    return frames


def a_change_of_what_it_does_not_hold(frames):
    frames[0].header.base = "1" * 32
    return frames


TORN = 100


def torn(frames):
    frames[0].data = frames[0].data[:TORN]
    frames[0].checksum = checksum64(frames[0].data)
    return frames


@pytest.mark.parametrize(
    ("spoil", "offset"),
    [(damaged, 0), (of_another_version, 0), (a_change_of_what_it_does_not_hold, 0), (torn, TORN)],
)
def test_frames_that_come_along_and_cannot_be_used_are_fetched(spoil, offset):
    federation, (base, *_) = FakeFederation(work()), versions(1)
    with at_work(federation):
        digest = federation.publish(base)
        federation.order(train("1.0.p/0", digest), frames=spoil(federation.frames(digest)))
        received(federation, "1.0.p/0", base)
    assert (federation.helds, federation.fetch_offsets) == ([""], [offset])


def test_it_acts_for_several_clients_and_fetches_once():
    federation, base = FakeFederation(work(), clients=3), first_model()
    with at_work(federation, indices=(0, 1, 2)):
        digest = federation.publish(base)
        federation.order(*(train(f"1.0.p/{i}", digest, index=i) for i in range(3)))
        updates = [received(federation, f"1.0.p/{i}", base).digest() for i in range(3)]
    assert updates == [expected_update(base, ordinal=i).digest() for i in range(3)]
    assert federation.fetch_offsets == [0]


def test_evaluations_are_reported():
    federation, base = FakeFederation(work()), first_model()
    with at_work(federation):
        digest = federation.publish(base)
        federation.order(
            evaluate("c", digest, wire.Evaluate.SCOPE_CENTRAL), evaluate("l", digest, wire.Evaluate.SCOPE_LOCAL)
        )
        federation.until(lambda: len(federation.reports) == 2)
    reports = {report.assignment: report for report in federation.reports}
    assert (reports["c"].examples, reports["l"].examples) == (200, 16)
    assert set(reports["c"].metrics) == {"loss", "accuracy"}


def test_no_test_set_is_a_report_of_no_examples():
    federation = FakeFederation(work({"testSet": False}))
    with at_work(federation):
        federation.order(evaluate("c", federation.publish(first_model()), wire.Evaluate.SCOPE_CENTRAL))
        federation.until(lambda: federation.reports)
    assert (federation.reports[0].examples, federation.reports[0].error) == (0, "")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (work({"trouble": "data"}), "load_data raised FileNotFoundError: no such scanner"),
        (work({"trouble": "exit"}), "load_data raised SystemExit: 3"),
        (work({"trubble": "x"}), "spec.task.config.trubble: unknown; did you mean trouble?"),
        (work(entrypoint="small_task:Nothing"), "spec.task.entrypoint: small_task has no class Nothing"),
        (work({"trouble": "answer"}), "load_data has to return a muster.task.Data, not a TensorDataset"),
        (work({"trouble": "training"}), "train has to return a muster.training.Trained, not a NoneType"),
        (work({"trouble": "model"}), "build_model has to return a torch.nn.modules.module.Module, not a list"),
        (work({"trouble": "shape"}), "the coordinator's model is not the one this task builds: it has 0.weight [8, 4]"),
        (work(learning_rate=1e38, epochs=20), "training diverged"),
    ],
)
def test_a_task_that_raises_is_one_line_for_people(broken, said):
    federation = FakeFederation(broken)
    with at_work(federation):
        federation.order(train("1.0.p/0", federation.publish(first_model())))
        federation.until(lambda: federation.reports)
        time.sleep(0.1)
    (report,) = federation.reports  # given up, not tried again
    assert report.error.startswith(said)
    assert "\n" not in report.error


def test_transfers_go_on_where_they_broke():
    federation, base = FakeFederation(work()), first_model()
    federation.cut_fetch_after = federation.cut_submit_after = 1  # of frames of 1 KiB
    wide = Workshop(work(entrypoint="wide_task:Wide"))
    federation.work, base = work(entrypoint="wide_task:Wide"), wide.initialise(7)
    with at_work(federation):
        federation.order(train("1.0.p/0", federation.publish(base)))
        received(federation, "1.0.p/0", base)
    assert federation.fetch_offsets == [0, FRAME_BYTES]
    assert federation.submit_offsets == [0, FRAME_BYTES]


def test_a_restarted_coordinator_gets_the_held_update_and_nobody_retrains():
    federation, base = FakeFederation(work()), first_model()
    with at_work(federation):
        federation.order(train("1.0.p/0", federation.publish(base)))
        before = received(federation, "1.0.p/0", base).digest()
        federation.until(lambda: len(federation.offers) == 1)
        federation.forget_sessions()
        federation.until(lambda: len(federation.offers) == 2)
        assert received(federation, "1.0.p/0", base).digest() == before
    assert list(federation.joins[1].held_assignments) == ["1.0.p/0"]
    assert federation.joins[1].worker == federation.joins[0].worker
    assert federation.offers[0].train_ms == federation.offers[1].train_ms


def test_a_killed_workers_successor_hands_in_what_it_left(tmp_path):
    federation, base = FakeFederation(work()), first_model()
    with at_work(federation, state=tmp_path):
        federation.order(train("1.0.p/0", federation.publish(base)))
        received(federation, "1.0.p/0", base)
    successor = FakeFederation(work({"trouble": "data"}))  # it could not train
    with at_work(successor, state=tmp_path):
        successor.order(train("1.0.p/0", base.digest()))
        received(successor, "1.0.p/0", base)
    assert [list(join.held_assignments) for join in successor.joins] == [[], ["1.0.p/0"]]


def test_private_tensors_stay_and_move_with_the_commit(tmp_path):
    config = {"private": True}
    federation, base = FakeFederation(work(config)), Workshop(work(config)).initialise(7)
    assert not any(spec.name.startswith("4.") for spec in base.layout.tensors)
    state_file = tmp_path / "job-1" / "p-0" / "state.safetensors"
    with at_work(federation, state=tmp_path):
        federation.order(train("1.0.p/0", federation.publish(base)))
        received(federation, "1.0.p/0", base)
        assert not state_file.exists()
        federation.order(settlements=[wire.Settlement(assignment="1.0.p/0", fate=wire.Settlement.FATE_USED)])
        federation.until(state_file.exists)


def test_withdrawn_work_stops():
    federation, base = FakeFederation(work(epochs=100_000)), first_model()
    with at_work(federation):
        digest = federation.publish(base)
        federation.order(train("1.0.p/0", digest))
        federation.until(lambda: any(beat.progress and beat.progress[0].fraction for beat in federation.beats))
        federation.order(evaluate("e", digest, wire.Evaluate.SCOPE_LOCAL))
        federation.until(lambda: federation.reports)
    assert federation.offers == []
    assert {p.activity for beat in federation.beats for p in beat.progress} >= {"training"}


@pytest.mark.parametrize("hand_in_bytes", [0, FRAME_BYTES])
def test_a_coordinator_out_of_memory_is_asked_again(hand_in_bytes):
    federation, base = FakeFederation(work()), first_model()
    federation.hand_in_bytes = hand_in_bytes
    federation.waits = [50, 2500]  # the last first: longer than the pause before a worker's first beat
    with at_work(federation):
        federation.order(train("1.0.p/0", federation.publish(base)))
        received(federation, "1.0.p/0", base)
    assert len(federation.offers) == 3
    assert "waiting" in {p.activity for beat in federation.beats for p in beat.progress}


@pytest.mark.parametrize("hand_in_bytes", [0, FRAME_BYTES])
def test_a_rejected_update_is_forgotten(hand_in_bytes):
    federation, base = FakeFederation(work()), first_model()
    federation.hand_in_bytes = hand_in_bytes
    federation.verdicts["1.0.p/0"] = wire.Verdict(accepted=False, reason="too late")
    with at_work(federation):
        federation.order(train("1.0.p/0", federation.publish(base)))
        federation.until(lambda: federation.offers)
        time.sleep(0.2)
        federation.forget_sessions()
        federation.order()
        federation.until(lambda: len(federation.joins) == 2)
    assert len(federation.offers) == 1
    assert list(federation.joins[1].held_assignments) == []


def test_an_update_that_nobody_waits_for_yet_is_kept():
    """A coordinator that has just restarted may not have planned again when the update is offered."""
    federation, base = FakeFederation(work()), first_model()
    federation.verdicts["1.0.p/0"] = wire.Verdict(cause=wire.Verdict.CAUSE_UNKNOWN_ASSIGNMENT)
    with at_work(federation):
        federation.order(train("1.0.p/0", federation.publish(base)))
        federation.until(lambda: federation.offers)
        federation.verdicts.clear()
        federation.forget_sessions()
        federation.until(lambda: len(federation.offers) == 2)
    assert list(federation.joins[1].held_assignments) == ["1.0.p/0"]
    assert federation.offers[0].header.digest == federation.offers[1].header.digest


def test_a_wrong_token_is_refused_for_good(caplog):
    with serving(FakeFederation(work())) as address:
        assert run_worker(WorkerSettings(coordinator=address, pool="p", token=TOKEN[1:], indices=(0,))) == 2
    assert "refuses this worker's token: wrong token; check MUSTER_TOKEN" in caplog.text


def test_another_major_version_is_refused_for_good(caplog):
    federation = FakeFederation(work())
    federation.version = wire.Version(major=99)
    with serving(federation) as address:
        assert run_worker(WorkerSettings(coordinator=address, pool="p", token=TOKEN, indices=(0,))) == 2
    assert "speaks wire version 99.0" in caplog.text


def test_it_exits_when_its_coordinator_is_gone_for_its_lease(caplog):
    federation, codes = FakeFederation(work()), []
    federation.lease_s = 1
    with serving(federation) as address:
        settings = WorkerSettings(coordinator=address, pool="p", token=TOKEN, indices=(0,))
        thread = threading.Thread(target=lambda: codes.append(run_worker(settings)))
        thread.start()
        federation.until(lambda: federation.beats)
    thread.join(20)
    assert codes == [1]
    assert "no word from the coordinator" in caplog.text


def test_it_waits_for_a_coordinator_that_starts_later():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    codes = []
    settings = WorkerSettings(coordinator=address, pool="p", token=TOKEN, indices=(0,))
    thread = threading.Thread(target=lambda: codes.append(run_worker(settings)))
    thread.start()
    time.sleep(0.3)
    federation = FakeFederation(work())
    with serving(federation, address):
        federation.order(finished=True)
        thread.join(20)
    assert codes == [0]


def test_sigterm_stops_in_the_middle_of_training_and_closes_its_stream():
    federation, base = FakeFederation(work(epochs=100_000)), first_model()
    with serving(federation) as address:
        federation.order(train("1.0.p/0", federation.publish(base)))
        process = subprocess.Popen([sys.executable, "-c", WORKER, address], cwd=Path(__file__).parent)
        federation.until(lambda: any(beat.progress and beat.progress[0].fraction for beat in federation.beats), 120)
        process.terminate()
        assert process.wait(30) == 143
        federation.until(lambda: federation.listeners == 0)


WORKER = f"""
import sys
from muster.worker import WorkerSettings, run_worker
assert not {{"torch", "grpc"}} & sys.modules.keys()
raise SystemExit(run_worker(WorkerSettings(coordinator=sys.argv[1], pool="p", token={TOKEN!r}, indices=(0,))))
"""


@pytest.mark.parametrize("failures", [1, 2, 5, 50, 5000])
def test_back_off_doubles_to_a_limit_with_jitter(failures):
    assert backoff_s(failures, 1.0) == min(0.1 * 2.0 ** min(failures, 16), 5.0)
    assert backoff_s(failures, 0.0) == backoff_s(failures, 1.0) / 2
