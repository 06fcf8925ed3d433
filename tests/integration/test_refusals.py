"""Everything that a coordinator refuses, each thing said to a real one over real gRPC: it is counted, by its cause.

A bad update costs itself and never the round: in each run the honest clients' updates make the model.
"""

import asyncio
import signal
import struct
import sys
import threading
import urllib.request
from collections import Counter

import grpc
import grpc.aio
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from safetensors.numpy import save_file

from coordinating import TOKEN, WEIGHTS, commits_in, coordinator, errors_of, workers, write_job
from muster_coordinator.refusals import Refused
from muster_coordinator.rehearsal import Drift, Held, RehearsalWorker, Trained
from muster_wire.checksum import checksum64
from muster_wire.errors import Cause
from muster_wire.frames import prepare
from muster_wire.trust.identity import Role
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.v1.federation_pb2_grpc import FederationStub
from muster_wire.values import Values
from trusting import FAKES, UID, Trust, refusal
from trusting import Caller as Certified

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COUNTERS = ("muster_updates_rejected", "muster_calls_refused")
ENDLESS = {"total": 1000, "deadlineSeconds": 600}


# --- updates ----------------------------------------------------------------------------------------------------------


class Bad(RehearsalWorker):
    """Does something to its updates before they are encoded."""

    def encode(self, trained, codec):
        self.spoil(trained.update)
        return super().encode(trained, codec)

    def spoil(self, update):
        """Most do something else."""


class NotANumber(Bad):
    def spoil(self, update):
        update.trainable[3] = np.nan


class Infinite(Bad):
    def spoil(self, update):
        update.trainable[-1] = -np.inf


class Exploded(Bad):
    def spoil(self, update):
        update.trainable[:] = 1e12


class Diverged(Bad):
    def offer(self, assignment, held):
        offer = super().offer(assignment, held)
        offer.metrics["loss"] = np.nan
        return offer


class Boaster(Bad):
    def offer(self, assignment, held):
        offer = super().offer(assignment, held)
        offer.examples = 2**50
        return offer


class OtherModel(Bad):
    def encode(self, _trained, codec):
        other = Values.zeros(Drift(7).layout, frozen=False)
        return super().encode(Trained(other, 5), codec)


class Endless(Bad):
    """Promises bytes without end."""

    def offer(self, assignment, held):
        offer = super().offer(assignment, held)
        offer.header.size = 2**62
        return offer


class Liar(Bad):
    """Whose bytes are not those that it promised."""

    def offer(self, assignment, held):
        offer = super().offer(assignment, held)
        offer.header.checksum = "0" * 32
        return offer


class Rambler(Bad):
    """Goes on sending after the end."""

    async def requests(self, transfer, offset):
        async for request in super().requests(transfer, offset):
            request.frame.data += bytes(8)
            request.frame.checksum = checksum64(request.frame.data)
            yield request


class Damaged(Bad):
    """Its line flips a bit, once."""

    flipped = False

    async def requests(self, transfer, offset):
        async for request in super().requests(transfer, offset):
            if not self.flipped:
                request.frame.checksum ^= 1
            self.flipped = True
            yield request


class Twice(Bad):
    """Says again what has been accepted."""

    async def submit(self, assignment, held):
        await super().submit(assignment, held)
        return await super().submit(assignment, held)


class Impostor(Bad):
    """Hands its update in for somebody else."""

    async def submit(self, assignment, held):
        await super().submit("1.0.p/0", held)
        return await super().submit(assignment, held)


class FromTheFuture(Bad):
    """Hands its update in for a round that nobody has asked for."""

    async def submit(self, assignment, held):
        await super().submit(assignment.replace("1.", "9.", 1), held)
        return await super().submit(assignment, held)


HONEST = 8  # with the harmless, more than half: else the round would be another's
UPDATES = [
    (NotANumber, Refused.NOT_FINITE),
    (Infinite, Refused.NOT_FINITE),
    (Diverged, Refused.NOT_FINITE),
    (Exploded, Refused.NORM),
    (Boaster, Refused.MALFORMED),
    (OtherModel, Refused.WRONG_LAYOUT),
    (Endless, Refused.WRONG_LAYOUT),
    (Liar, Refused.MALFORMED),
    (Rambler, Refused.TOO_LARGE),
    (Impostor, Refused.NOT_YOURS),
    (FromTheFuture, Refused.UNKNOWN_ASSIGNMENT),
    (Damaged, Refused.DAMAGED),
    (Twice, Refused.REPEATED),
]
HARMLESS = (Impostor, FromTheFuture, Damaged, Twice)  # whose own updates are good


def scraped(running):
    """What Prometheus would hear now, by cause; updates and calls together."""
    with urllib.request.urlopen(f"http://{running.until('listening')['metrics']}/metrics", timeout=20) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    samples = [sample for family in families if family.name in COUNTERS for sample in family.samples]
    return Counter({Refused(sample.labels["cause"]): int(sample.value) for sample in samples})


def told(running):
    """What was refused, as the coordinator says in the end."""
    return {Refused(cause): count for cause, count in running.until("refused")["causes"].items()}


def first_model(folder):
    """From a file, so that nobody has to make it."""
    path = folder / "first.safetensors"
    tensors = {"weight": np.zeros(WEIGHTS, np.float32), "running_mean": np.zeros(4, np.float32), "steps": np.array(0)}
    save_file(tensors, path)
    return {"entrypoint": "rehearsal:Task", "initialModel": {"type": "File", "file": {"path": str(path)}}}


def test_bad_updates_are_counted_by_their_causes(tmp_path):
    kinds = {HONEST + index: kind for index, (kind, _) in enumerate(UPDATES)}
    clients, rounds = HONEST + len(kinds), {"total": 1, "deadlineSeconds": 60}
    job = write_job(tmp_path, clients=clients, rounds=rounds, task=first_model(tmp_path))
    with coordinator(tmp_path, job) as running, workers(running.address, clients, kinds) as everybody:
        everybody.join()
        assert running.wait() == 0, errors_of(tmp_path)
    good = [index for index, kind in kinds.items() if kind in HARMLESS]
    used = [update.client for update in commits_in(tmp_path / "storage")[1].used]
    assert sorted(used) == sorted(f"p/{index}" for index in (*range(HONEST), *good))
    assert told(running) == Counter(cause for _, cause in UPDATES)


class Bomb(RehearsalWorker):
    """A few kilobytes that would unpack to a hundred megabytes of zeros, in a transfer that is otherwise right."""

    def _encode_by(self, assignment, trained):
        held = super()._encode_by(assignment, trained)
        header, payload = held.transfer.header, bytes(held.transfer.payload)
        (size,) = struct.unpack_from("<Q", payload, SECTION - 8)
        (length,) = struct.unpack_from("<I", payload, SECTION)
        bomb = zstd.compress(bytes(10**8))
        assert len(bomb) < length
        section = struct.pack("<I", len(bomb)) + bomb + payload[SECTION + 4 + length : SECTION + size]
        start = payload[: SECTION - 8] + struct.pack("<Q", len(section)) + section
        rest = payload[SECTION + size + -size % 8 :]
        payload = start + bytes(-len(start) % 8) + rest
        transfer = prepare(memoryview(payload), header.layout, header.codec, header.digest, self.frame_bytes)
        return Held(transfer, held.trained, held.left)


SECTION = 24 + 24  # where the first one begins, behind the preamble and its header, which ends with its length


def test_a_decompression_bomb_costs_one_update(tmp_path):
    lossless = {"up": {"codecs": [{"type": "Float16"}, {"type": "Lossless"}]}}
    rounds = {"total": 1, "deadlineSeconds": 60}
    job = write_job(tmp_path, rounds=rounds, task=first_model(tmp_path), compression=lossless)
    with coordinator(tmp_path, job) as running, workers(running.address, kinds={2: Bomb}) as three:
        three.join()
        assert running.wait() == 0, errors_of(tmp_path)
    (rejected,) = running.of("rejected")
    assert "longer than unpacked" in rejected["reason"] or "unpack" in rejected["reason"]
    assert told(running) == {Refused.MALFORMED: 1}
    assert {update.client for update in commits_in(tmp_path / "storage")[1].used} == {"p/0", "p/1"}


class Late(RehearsalWorker):
    """Has its update of the first round under way when that is over."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.over = threading.Event()

    async def requests(self, transfer, offset):
        await asyncio.to_thread(self.over.wait)
        async for request in super().requests(transfer, offset):
            yield request


def test_an_update_for_a_round_that_is_over_is_late(tmp_path):
    job = write_job(tmp_path, rounds={"total": 2, "minUpdates": 2, "deadlineSeconds": 60}, task=first_model(tmp_path))
    with coordinator(tmp_path, job) as running, workers(running.address, kinds={2: Late}) as three:
        running.until("committed", round=1)
        three.workers[2].over.set()
        three.join()
        assert running.wait() == 0, errors_of(tmp_path)
    assert told(running).keys() == {Refused.LATE}
    assert all("1.0.p/2" not in {u.assignment for u in commit.used} for commit in commits_in(tmp_path / "storage"))


# --- calls ------------------------------------------------------------------------------------------------------------


class Caller:
    """Says one thing to a coordinator, with or without having joined."""

    def __init__(self, address, token=TOKEN):
        self.metadata = (("authorization", f"Bearer {token}"),)
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self.stub = FederationStub(self._channel)

    def join(self, major=1, **changes):
        asked = {"pool": "p", "indices": [0], "worker": "caller", "codecs": [pb.CODEC_FLOAT32], **changes}
        request = pb.JoinRequest(version=pb.Version(major=major), **asked)
        return self.stub.Join(request, metadata=self.metadata, timeout=20).session

    def close(self):
        self._channel.close()


def beat(caller, session):
    caller.stub.Beat(pb.BeatRequest(session=session), metadata=caller.metadata, timeout=20)


def fetch(caller, session):
    list(caller.stub.Fetch(pb.FetchRequest(session=session, digest="0" * 32), metadata=caller.metadata, timeout=20))


def report(caller, session):
    request = pb.ReportRequest(session=session, assignment="1.local.p/1", examples=3)
    caller.stub.Report(request, metadata=caller.metadata, timeout=20)


def submit(caller, _session):
    frames = iter([pb.SubmitRequest(frame=pb.Frame(data=b"no offer came before"))])
    list(caller.stub.Submit(frames, metadata=caller.metadata, timeout=20))


CALLS = [
    ("another token", lambda make, _: make("another token").join(), Refused.WRONG_TOKEN),
    ("version 9", lambda make, _: make().join(major=9), Refused.WRONG_VERSION),
    ("a pool that isn't there", lambda make, _: make().join(pool="nowhere"), Refused.JOIN),
    ("a client that isn't there", lambda make, _: make().join(indices=[3]), Refused.JOIN),
    ("a name of two lines", lambda make, _: make().join(worker="one\ntwo"), Refused.JOIN),
    ("no codec", lambda make, _: make().join(codecs=[]), Refused.JOIN),
    ("another session", lambda make, _: beat(make(), "f" * 32), Refused.NO_SESSION),
    ("a model of no round", lambda make, session: fetch(make(), session), Refused.NO_MODEL),
    ("another client's result", lambda make, session: report(make(), session), Refused.NOT_YOURS),
    ("frames without an offer", lambda make, session: submit(make(), session), Refused.MALFORMED),
]


def test_calls_are_counted_by_their_causes(tmp_path):
    callers = []

    def make(address, token=TOKEN):
        callers.append(Caller(address, token))
        return callers[-1]

    job = write_job(tmp_path, rounds=ENDLESS)
    with coordinator(tmp_path, job, arguments=("--metrics", "127.0.0.1:0")) as running:
        session = make(running.address).join()
        for what, call, _ in CALLS:
            code, words = refusal(call, lambda token=TOKEN: make(running.address, token), session)
            assert words, (what, code)
        for caller in callers:
            caller.close()
        seen = scraped(running)
        assert +seen == Counter(cause for _, _, cause in CALLS)
        assert seen.keys() == set(Refused)
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 143, errors_of(tmp_path)
    assert told(running) == Counter(cause for _, _, cause in CALLS)


# --- certificates -----------------------------------------------------------------------------------------------------


def test_certificates_are_counted_by_their_causes(tmp_path):
    trust, shift = Trust(tmp_path), tmp_path / "shift"
    shift.write_text("0")
    launcher = (FAKES / "clocked_coordinator.py", shift)
    job = write_job(tmp_path, uid=UID, rounds=ENDLESS)
    callers = []

    def call(pair):
        callers.append(Certified(running.address, trust.channel_credentials(pair)))
        return callers[-1]

    with coordinator(tmp_path, job, launcher=launcher, security=trust.enrolling) as running:
        refusal(call(trust.pair(uid="job-2")).join)
        refusal(call(trust.pair(role=Role.JOINER)).join)
        refusal(call(trust.pair()).enrol, b"no request for a certificate")
        attend = call(trust.pair(role=Role.BRIDGE)).stub.Attend
        refusal(attend, pb.AttendRequest(pool="another"), timeout=20)
        denied = trust.pair(indices=[1])
        worker = call(denied)
        worker.join(indices=[1])
        trust.denied.write_text("muster://job-1/p/1\n")
        refusal(worker.join, indices=[1])
        expiring = call(trust.pair(indices=[2]))
        expiring.join(indices=[2])
        shift.write_text("3601")
        refusal(expiring.join, indices=[2])
        for caller in callers:
            caller.channel.close()
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 143, errors_of(tmp_path)
    assert told(running) == CERTIFICATES


CERTIFICATES = {
    Refused.WRONG_IDENTITY: 2,
    Refused.ENROLMENT: 1,
    Refused.ATTENDANCE: 1,
    Refused.REVOKED: 1,
    Refused.EXPIRED: 1,
}


# --- all of them ------------------------------------------------------------------------------------------------------


def test_every_cause_is_shown_here():
    shown = {cause for _, cause in UPDATES} | {cause for _, _, cause in CALLS} | CERTIFICATES.keys() | {Refused.LATE}
    assert shown == set(Refused)


def test_every_cause_of_the_wire_is_counted():
    assert {Refused.of(cause).name for cause in Cause} <= {cause.name for cause in Refused}
