"""A coordinator in a few lines, for tests of the worker: it keeps what it is told and breaks where it is asked to."""

import threading
import time
from concurrent import futures
from contextlib import contextmanager

import grpc
import msgspec

from muster_wire.codecs import CodecId
from muster_wire.frames import Header, Memory, Reassembly, prepare
from muster_wire.payload import encode_snapshot, encode_update
from muster_wire.v1 import federation_pb2 as wire
from muster_wire.v1.federation_pb2_grpc import FederationServicer, add_FederationServicer_to_server
from muster_wire.values import difference
from muster_wire.version import CURRENT

TOKEN = "a-token-of-this-job"  # noqa: S105 - opens only the fake
FRAME_BYTES = 1024


class FakeFederation(FederationServicer):
    """One job, one worker. Tests set the attributes and read what arrived."""

    def __init__(self, work, clients=1):
        self.work = work
        self.grants = [
            wire.ClientGrant(pool="p", index=i, ordinal=i, clients_total=clients, pool_clients=clients)
            for i in range(clients)
        ]
        self.version = wire.Version(major=CURRENT.major, minor=CURRENT.minor)
        self.lease_s = 60
        self.hand_in_bytes = 0
        self.handed_in = []  # assignments that came in one message
        self.joins = []
        self.reports = []
        self.beats = []
        self.offers = []  # every offer, the repeated ones too
        self.listeners = 0  # streams that are open now
        self.fetch_offsets = []
        self.submit_offsets = []
        self.verdicts = {}  # assignment -> a Verdict instead of yes
        self.waits = []  # milliseconds, one for each offer that is to be postponed
        self.cut_fetch_after = None  # frames, once
        self.cut_submit_after = None
        self.models = {}
        self.changes = {}  # (held, wanted) -> the transfer that leads from one to the other
        self.helds = []  # of each fetch
        self._orders = wire.Orders(revision=1)
        self._session = 0
        self._uploads = {}
        self._changed = threading.Condition()

    # --- what tests do ------------------------------------------------------------------------------------------------

    def publish(self, values):
        digest = values.digest()
        payload = encode_snapshot(values, CodecId.FLOAT32)
        self.models[digest] = prepare(payload, values.layout, CodecId.FLOAT32, digest, FRAME_BYTES)
        return digest

    def publish_change(self, base, values):
        """The same model, for whoever holds `base` as a change only."""
        digest, update = self.publish(values), difference(values, base)
        payload = encode_update(update, CodecId.FLOAT32)
        transfer = prepare(payload, values.layout, CodecId.FLOAT32, digest, FRAME_BYTES, base.digest())
        self.changes[base.digest(), digest] = transfer
        return digest

    def frames(self, digest, held=None):
        """What Fetch would answer, to be sent along with orders."""
        transfer = self.changes[held, digest] if held else self.models[digest]
        return [wire.Frame.FromString(frame) for frame in transfer.frames()]

    def order(self, *assignments, settlements=(), finished=False, handover=None, more=False, frames=()):
        with self._changed:
            self._orders = wire.Orders(
                revision=self._orders.revision + 1,
                assignments=assignments,
                settlements=settlements,
                finished=finished,
                reason="all rounds are done" if finished else "",
                handover=wire.Handover(pool="p", indices=handover[1], count=handover[0]) if handover else None,
                more=more,
                frames=frames,
            )
            self._changed.notify_all()

    def grant(self, *indices):
        """What whoever joins next acts for."""
        clients = len(self.grants)
        self.grants = [
            wire.ClientGrant(pool="p", index=i, ordinal=i, clients_total=clients, pool_clients=clients) for i in indices
        ]

    def forget_sessions(self):
        """What a restart does: nobody is known any more, nor what they had handed in."""
        with self._changed:
            self._session += 1
            self._uploads.clear()
            self._changed.notify_all()

    def update(self, assignment):
        """The bytes of an upload that has arrived whole, or None."""
        transfer, memory = self._uploads.get(assignment, (None, None))
        return memory.view() if transfer is not None and transfer.is_complete else None

    def until(self, condition, timeout_s=20):
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"never happened; joins {len(self.joins)}, reports {self.reports}"
            time.sleep(0.005)

    # --- the service --------------------------------------------------------------------------------------------------

    def Join(self, request, context):  # noqa: N802 - the service's name
        self._authenticate(context)
        self.joins.append(request)
        with self._changed:
            self._session += 1
            self._orders.ClearField("handover")  # who joins has done as it was told
            self._orders.ClearField("more")
        return wire.JoinReply(
            version=self.version,
            session=str(self._session),
            job_uid="job-1",
            clients=self.grants,
            work=msgspec.json.encode(self.work).decode(),
            beat_interval_ms=50,
            lease_seconds=self.lease_s,
            frame_bytes=FRAME_BYTES,
            hand_in_bytes=self.hand_in_bytes,
        )

    def Listen(self, request, context):  # noqa: N802 - the service's name
        self._check(request.session, context)
        self.listeners += 1
        context.add_callback(self._hung_up)
        sent = 0
        while context.is_active() and request.session == str(self._session):
            with self._changed:
                if self._orders.revision == sent:
                    self._changed.wait(0.05)
                    continue
                orders = self._orders
            sent = orders.revision
            yield orders
        context.abort(grpc.StatusCode.UNAVAILABLE, "going away")

    def _hung_up(self):
        self.listeners -= 1

    def Fetch(self, request, context):  # noqa: N802 - the service's name
        self._check(request.session, context)
        self.fetch_offsets.append(request.offset)
        self.helds.append(request.held)
        transfer = self.changes.get((request.held, request.digest)) or self.models[request.digest]
        offset = request.offset if request.partial in ("", transfer.header.digest) else 0
        cut, self.cut_fetch_after = self.cut_fetch_after, None
        for count, frame in enumerate(transfer.frames(offset)):
            if cut is not None and count >= cut:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the cable was pulled")
            yield wire.Frame.FromString(frame)

    def Submit(self, requests, context):  # noqa: N802 - the service's name
        offer = next(requests).offer
        self._check(offer.session, context)
        self.offers.append(offer)
        if self.waits:
            yield wire.SubmitReply(wait=wire.Wait(milliseconds=self.waits.pop()))
            return
        transfer, _ = self._uploads.setdefault(offer.assignment, _receive(offer))
        self.submit_offsets.append(transfer.received)
        yield wire.SubmitReply(proceed=wire.Proceed(offset=transfer.received))
        cut, self.cut_submit_after = self.cut_submit_after, None
        for count, request in enumerate(requests):
            if cut is not None and count >= cut:
                context.abort(grpc.StatusCode.UNAVAILABLE, "the cable was pulled")
            transfer.add(request.frame)
            if transfer.is_complete:
                break
        transfer.finish()
        verdict = self.verdicts.get(offer.assignment, wire.Verdict(accepted=True))
        yield wire.SubmitReply(verdict=verdict)

    def HandIn(self, request, context):  # noqa: N802 - the service's name
        offer = request.offer
        self._check(offer.session, context)
        self.offers.append(offer)
        if self.waits:
            return wire.SubmitReply(wait=wire.Wait(milliseconds=self.waits.pop()))
        transfer, _ = self._uploads[offer.assignment] = _receive(offer)
        transfer.add(request.frame)
        transfer.finish()
        self.handed_in.append(offer.assignment)
        return wire.SubmitReply(verdict=self.verdicts.get(offer.assignment, wire.Verdict(accepted=True)))

    def Report(self, request, context):  # noqa: N802 - the service's name
        self._check(request.session, context)
        self.reports.append(request)
        return wire.ReportReply()

    def Measure(self, request, context):  # noqa: N802 - the service's name
        self._check(request.session, context)
        return wire.MeasureReply(payload=bytes(request.wanted))

    def Beat(self, request, context):  # noqa: N802 - the service's name
        self._check(request.session, context)
        self.beats.append(request)
        return wire.BeatReply(revision=self._orders.revision)

    def _authenticate(self, context):
        if ("authorization", f"Bearer {TOKEN}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong token")

    def _check(self, session, context):
        self._authenticate(context)
        if session != str(self._session):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "unknown session")


def _receive(offer):
    header = Header.from_message(offer.header)
    memory = Memory(header.size)
    return Reassembly(header, memory), memory


@contextmanager
def serving(federation, address="127.0.0.1:0", credentials=None):
    """The address that it listens on."""
    server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
    add_FederationServicer_to_server(federation, server)
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
