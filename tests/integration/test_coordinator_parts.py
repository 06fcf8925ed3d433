"""Parts of a model over real gRPC: a killed coordinator means the same ones, and other parts are refused."""

import asyncio
import signal
import socket

import grpc
import grpc.aio
import numpy as np
import pytest

from coordinating import TOKEN, WEIGHTS, commits_in, coordinator, errors_of, final_model, workers, write_job
from muster_coordinator.rehearsal import Drift, RehearsalWorker, Trained
from muster_wire.groups import Group, Member
from muster_wire.layout import Layout
from muster_wire.messages import draw_from
from muster_wire.submodel import part_of
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.v1.federation_pb2_grpc import FederationStub
from muster_wire.values import Values
from muster_wire.version import CURRENT

PARTS = {"compression": {"preset": "none", "federatedDropout": {"keep": 0.5, "masks": 3}}}


class InGroups(Drift):
    """The same with a layout that says which units there are: each weight is one."""

    def __init__(self, weights):
        super().__init__(weights)
        self.layout = Layout(self.layout.tensors, (Group(weights, (Member("weight", 0),)),))


class Partly(RehearsalWorker):
    """Trains the part that it is asked for, as it was fetched."""

    def __init__(self, address, token, pool, indices, _, name):
        super().__init__(address, token, pool, indices, InGroups(WEIGHTS), name)
        self.asked = {}

    async def _make(self, assignment):
        if assignment.WhichOneof("work") == "train":
            self.asked[assignment.id] = assignment.train.sub_model
        return await super()._make(assignment)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(folder, *, kill_in_round=None, kinds=None, code=0, **spec):
    """A job of three clients run to its end, through the death of its coordinator if that is wanted."""
    folder.mkdir(exist_ok=True)
    job = write_job(folder, **PARTS, **spec)
    address = f"127.0.0.1:{free_port()}"
    with workers(address, kinds=dict.fromkeys(range(3), Partly) | (kinds or {})) as three:
        if kill_in_round is not None:
            with coordinator(folder, job, address) as running:
                running.until("planned", round=kill_in_round)
                running.process.kill()
                assert running.wait() == -signal.SIGKILL
        with coordinator(folder, job, address) as running:
            assert running.wait() == code, errors_of(folder)
            three.join()
        return three.workers


def test_a_killed_coordinator_means_the_same_parts_and_nobody_trains_twice(tmp_path):
    rounds = {"total": 3, "deadlineSeconds": 20}
    run(tmp_path / "whole", rounds=rounds)
    for number in (1, 2, 3):
        folder = tmp_path / str(number)
        three = run(folder, rounds=rounds, kill_in_round=number)
        assert {count for worker in three for count in worker.trainings.values()} == {1}
        ours, theirs = final_model(folder / "storage"), final_model(tmp_path / "whole" / "storage")
        np.testing.assert_allclose(ours.trainable, theirs.trainable, rtol=1e-6, atol=1e-7)


def test_three_clients_of_a_round_train_three_parts_that_differ(tmp_path):
    three = run(tmp_path, rounds={"total": 2, "deadlineSeconds": 20})
    layout = InGroups(WEIGHTS).layout
    for number in (1, 2):
        asked = [worker.asked[f"{number}.0.p/{place}"] for place, worker in enumerate(three)]
        units = [part_of(layout, draw_from(each)).units[0] for each in asked]
        assert [each.size for each in units] == [WEIGHTS // 2] * 3
        assert np.bincount(np.concatenate(units), minlength=WEIGHTS).min() >= 1  # 3 halves leave nobody out
    first, last = (commits_in(tmp_path / "storage")[number].bytes_down for number in (0, 2))
    assert first == 0
    assert last < 0.6 * 3 * 4 * WEIGHTS


class OfTheWhole(Partly):
    """Sends an update of the whole model, whatever it was asked for."""

    def encode(self, trained, codec):
        if trained.examples:
            trained = Trained(Values.zeros(self.learner.layout, frozen=False), 5)
        return super().encode(trained, codec)


class OfAnotherPart(Partly):
    """Sends a part with one unit more."""

    def encode(self, trained, codec):
        if trained.examples:
            spec, *rest = trained.update.layout.tensors
            wider = type(spec)(spec.name, (spec.shape[0] + 1,), spec.dtype, spec.kind)
            trained = Trained(Values.zeros(Layout((wider, *rest)), frozen=False), 5)
        return super().encode(trained, codec)


@pytest.mark.parametrize("kind", [OfTheWhole, OfAnotherPart])
def test_an_update_that_is_not_of_the_part_is_refused(tmp_path, kind):
    three = run(tmp_path, kinds={2: kind}, rounds={"total": 1, "minUpdates": 2, "deadlineSeconds": 20})
    verdict = three[2].verdicts["1.0.p/2"]
    assert (verdict.accepted, verdict.cause) == (False, pb.Verdict.CAUSE_WRONG_LAYOUT)
    assert {used.client for used in commits_in(tmp_path / "storage")[1].used} == {"p/0", "p/1"}


class WithoutGroups(Partly):
    """Builds a first model that doesn't say what it is made of."""

    def encode(self, trained, codec):
        if not trained.examples:
            plain = Values(Drift(WEIGHTS).layout, *trained.update.buffers)
            trained = Trained(plain, 0)
        return super().encode(trained, codec)


def test_a_first_model_has_to_say_which_units_it_has(tmp_path):
    kinds = dict.fromkeys(range(3), WithoutGroups)
    three = run(tmp_path, kinds=kinds, code=1, rounds={"total": 1, "deadlineSeconds": 20, "maxFailedRounds": 1})
    verdicts = [verdict for worker in three for verdict in worker.verdicts.values()]
    assert verdicts
    assert all("which of its units" in verdict.reason for verdict in verdicts)


def test_a_worker_that_cannot_train_parts_is_told_so_when_it_joins(tmp_path):
    async def join(address):
        async with grpc.aio.insecure_channel(address) as channel:
            version = pb.Version(major=CURRENT.major, minor=CURRENT.minor)
            request = pb.JoinRequest(version=version, worker="old", pool="p", indices=[0], codecs=["CODEC_FLOAT32"])
            await FederationStub(channel).Join(request, metadata=(("authorization", f"Bearer {TOKEN}"),))

    with coordinator(tmp_path, write_job(tmp_path, **PARTS)) as running:
        with pytest.raises(grpc.aio.AioRpcError, match="parts of the model, which this worker can't") as refused:
            asyncio.run(join(running.address))
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
