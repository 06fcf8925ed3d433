"""What workers may get wrong, and what networks do: each costs one update at most, and never the round."""

import asyncio
from dataclasses import replace

import grpc
import grpc.aio
import numpy as np
import pytest

from coordinating import TOKEN, WEIGHTS, Workers, commits_in, coordinator, errors_of, workers, write_job
from muster_coordinator.rehearsal import Drift, RehearsalWorker, Trained
from muster_wire.checksum import checksum64
from muster_wire.codecs import CodecId
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.values import Values

ONE_ROUND = {"total": 1, "minUpdates": 2, "deadlineSeconds": 20}


class WrongShape(RehearsalWorker):
    def encode(self, trained, codec):
        other = Values.zeros(Drift(7).layout, frozen=False)
        return super().encode(Trained(other, 5) if trained.examples else trained, codec)


class NotFinite(RehearsalWorker):
    def encode(self, trained, codec):
        if trained.examples:
            trained.update.trainable[3] = np.nan
        return super().encode(trained, codec)


class Diverged(RehearsalWorker):
    def encode(self, trained, codec):
        return super().encode(replace(trained, metrics={"loss": float("inf")}) if trained.examples else trained, codec)


class TooLarge(RehearsalWorker):
    def offer(self, assignment, held):
        offer = super().offer(assignment, held)
        if held.trained.examples:
            offer.header.size = 2**60
        return offer


class Liar(RehearsalWorker):
    """Its frames are not what its header promised."""

    def offer(self, assignment, held):
        offer = super().offer(assignment, held)
        if held.trained.examples:
            offer.header.checksum = "0" * 32
        return offer


@pytest.mark.parametrize(
    ("kind", "words", "cause"),
    [
        (WrongShape, "every client must build the same model", pb.Verdict.CAUSE_WRONG_LAYOUT),
        (NotFinite, "NaN or infinite", pb.Verdict.CAUSE_NOT_FINITE),
        (Diverged, "metric loss is inf", pb.Verdict.CAUSE_NOT_FINITE),
        (TooLarge, "the header promises", pb.Verdict.CAUSE_WRONG_LAYOUT),
        (Liar, "damaged", pb.Verdict.CAUSE_MALFORMED),
    ],
)
def test_a_bad_update_costs_one_update(tmp_path, kind, words, cause):
    job = write_job(tmp_path)
    with coordinator(tmp_path, job) as running, workers(running.address, kinds={2: kind}) as three:
        three.join()
        assert running.wait() == 0, errors_of(tmp_path)
    rejected = running.of("rejected")[0]
    assert (rejected["client"], rejected["round"]) == ("p/2", 1)
    assert words in rejected["reason"]
    verdict = three.workers[2].verdicts["1.0.p/2"]
    assert (verdict.accepted, verdict.cause) == (False, cause)
    assert sorted(update.client for update in commits_in(tmp_path / "storage")[1].used) == ["p/0", "p/1"]


class Cut(RehearsalWorker):
    """Its connection breaks in the middle of every transfer, until it has sent everything."""

    async def requests(self, transfer, offset):
        self.offsets = [*getattr(self, "offsets", []), offset]
        count = 0
        async for request in super().requests(transfer, offset):
            yield request
            count += 1
            if count == 2 and request.frame.offset + len(request.frame.data) < transfer.header.size:
                raise CutError


class CutError(Exception):
    pass


class CutWorker(Cut):
    async def submit(self, assignment, held):
        try:
            return await super().submit(assignment, held)
        except CutError:
            return None


def test_a_cut_upload_goes_on_where_it_broke(tmp_path):
    job = write_job(tmp_path, clients=1, rounds={"total": 1})
    with coordinator(tmp_path, job) as running:
        worker = CutWorker(running.address, TOKEN, "p", [0], Drift(1_500_000), "cut")  # six frames
        several = Workers([worker])
        several.join()
        several.stop()
        assert running.wait() == 0, errors_of(tmp_path)
    assert len(worker.offsets) > 4
    assert worker.offsets[:3] == sorted(worker.offsets[:3])
    assert worker.offsets[1] > 0
    assert set(worker.trainings.values()) == {1}
    sent_once = 2 * 4 * 1_500_000  # the first model, and one update: nothing that arrived was sent again
    assert running.until("finished")["bytesUp"] < sent_once * 1.01


class AtOnce(CutWorker):
    """Its first try breaks after some frames; in the second it hands all of the update in at once."""

    async def join(self):
        await super().join()
        self.frame_bytes = 2**12

    async def submit(self, assignment, held):
        self.submissions[assignment] += 1
        if self.submissions[assignment] == 1:
            return await super().submit(assignment, held)
        payload = bytes(held.transfer.payload)
        frame = pb.Frame(checksum=checksum64(payload), data=payload)
        request = pb.HandInRequest(offer=self.offer(assignment, held), frame=frame)
        reply = await self._stub.HandIn(request, metadata=self.metadata)
        self.replies = [*getattr(self, "replies", []), reply.WhichOneof("kind")]
        return reply.verdict


def test_an_update_that_is_handed_in_whole_is_taken_from_its_beginning(tmp_path):
    job = write_job(tmp_path, clients=1, rounds={"total": 2})
    with coordinator(tmp_path, job) as running:
        worker = AtOnce(running.address, TOKEN, "p", [0], Drift(WEIGHTS), "at-once")
        several = Workers([worker])
        several.join()
        several.stop()
        assert running.wait() == 0, errors_of(tmp_path)
    assert worker.offsets == [0, 0, 0]  # of the first model and of two updates, each of which broke
    assert worker.replies == ["verdict"] * 3
    assert [len(commit.used) for commit in commits_in(tmp_path / "storage")] == [1, 1, 1]


class Slow(RehearsalWorker):
    async def requests(self, transfer, offset):
        async for request in super().requests(transfer, offset):
            await asyncio.sleep(1.5)
            yield request


def test_a_slow_upload_holds_nobody_up(tmp_path):
    job = write_job(tmp_path, rounds={**ONE_ROUND, "total": 2})
    with coordinator(tmp_path, job) as running:
        fast = [RehearsalWorker(running.address, TOKEN, "p", [i], Drift(WEIGHTS), f"w{i}") for i in (0, 1)]
        several = Workers([*fast, Slow(running.address, TOKEN, "p", [2], Drift(WEIGHTS), "slow")])
        several.join()
        several.stop()
        assert running.wait() == 0
    assert all(len(commit.used) >= 2 for commit in commits_in(tmp_path / "storage")[1:])


class Caller(RehearsalWorker):
    """Says one thing and remembers the answer; it never works."""

    async def call(self, what):
        async with grpc.aio.insecure_channel(self._address) as channel:
            self._stub = pb_stub(channel)
            try:
                await self.join()
                return await what(self)
            except grpc.aio.AioRpcError as error:
                return error.code(), error.details()


def pb_stub(channel):
    from muster_wire.v1.federation_pb2_grpc import FederationStub

    return FederationStub(channel)


async def nothing(_caller):
    return None


async def another_session(caller):
    caller.session = "f" * 32
    await caller.stub.Beat(pb.BeatRequest(session=caller.session), metadata=caller.metadata)


async def an_unknown_model(caller):
    await caller.fetch("0" * 32)


async def another_clients_result(caller):
    request = pb.ReportRequest(session=caller.session, assignment="1.local.p/1", examples=3)
    await caller.stub.Report(request, metadata=caller.metadata)


async def no_offer(caller):
    call = caller.stub.Submit(metadata=caller.metadata)
    await call.write(pb.SubmitRequest(frame=pb.Frame(data=b"x")))
    await call.read()


@pytest.mark.parametrize(
    ("pool", "index", "token", "what", "code", "words"),
    [
        ("p", 0, "another-token", nothing, grpc.StatusCode.UNAUTHENTICATED, "wrong or missing token"),
        ("nowhere", 0, TOKEN, nothing, grpc.StatusCode.FAILED_PRECONDITION, "no pool 'nowhere'; it has p"),
        ("p", 3, TOKEN, nothing, grpc.StatusCode.FAILED_PRECONDITION, "clients 0 to 2"),
        ("p", 0, TOKEN, another_session, grpc.StatusCode.UNAUTHENTICATED, "join again"),
        ("p", 0, TOKEN, an_unknown_model, grpc.StatusCode.NOT_FOUND, "no longer given out"),
        ("p", 0, TOKEN, another_clients_result, grpc.StatusCode.PERMISSION_DENIED, "not this worker's"),
        ("p", 0, TOKEN, no_offer, grpc.StatusCode.INVALID_ARGUMENT, "begins with an offer"),
    ],
)
def test_calls_that_are_refused(standing, pool, index, token, what, code, words):
    caller = Caller(standing.address, token, pool, [index], Drift(4), "caller")
    got, details = asyncio.run(caller.call(what))
    assert got is code
    assert words in details


def test_an_update_for_another_client_is_refused(standing):
    async def submit(caller):
        held = caller.encode(Trained(Values.zeros(caller.learner.layout, frozen=False), 3), CodecId.FLOAT32)
        return await caller.submit("1.0.p/1", held)

    caller = Caller(standing.address, TOKEN, "p", [0], Drift(4), "caller")
    verdict = asyncio.run(caller.call(submit))
    assert (verdict.accepted, verdict.cause) == (False, pb.Verdict.CAUSE_NOT_YOURS)


def test_an_update_that_nobody_waits_for_is_refused(standing):
    async def submit(caller):
        held = caller.encode(Trained(Values.zeros(caller.learner.layout, frozen=False), 3), CodecId.FLOAT32)
        return await caller.submit("9.0.p/0", held)

    caller = Caller(standing.address, TOKEN, "p", [0], Drift(4), "caller")
    verdict = asyncio.run(caller.call(submit))
    assert (verdict.accepted, verdict.cause) == (False, pb.Verdict.CAUSE_UNKNOWN_ASSIGNMENT)


@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """A coordinator whose clients never all come."""
    folder = tmp_path_factory.mktemp("standing")
    with coordinator(folder, write_job(folder)) as running:
        yield running


class Twice(RehearsalWorker):
    """Hands everything in twice at once, as a worker does whose answer was lost."""

    async def submit(self, assignment, held):
        first, second = await asyncio.gather(super().submit(assignment, held), super().submit(assignment, held))
        return first or second


def test_an_update_handed_in_twice_counts_once(tmp_path):
    job = write_job(tmp_path)
    with coordinator(tmp_path, job) as running, workers(running.address, kinds={0: Twice}) as three:
        three.join()
        assert running.wait() == 0, errors_of(tmp_path)
    for commit in commits_in(tmp_path / "storage")[1:]:
        assert sorted(update.client for update in commit.used) == ["p/0", "p/1", "p/2"]


def test_a_worker_that_dies_is_noticed_and_comes_back(tmp_path):
    job = write_job(tmp_path, rounds={"total": 1, "deadlineSeconds": 12})
    with coordinator(tmp_path, job) as running:
        with workers(running.address, count=2):
            running.until("joined")
        assert running.until("lost")["reason"].startswith("its connection broke")
        with workers(running.address) as three:
            three.join()
            assert running.wait() == 0
