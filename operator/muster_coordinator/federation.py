"""The Federation service: every call of workers and bridges, from its bytes to the table, book or inbox it concerns.

Calls are checked here, once, where they come in: lengths before anything is kept, the session, and that a worker speaks
for its own clients only. Big transfers are next door, in uploads.py and broadcast.py.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import grpc
import grpc.aio
import msgspec

from muster_coordinator.arriving import Stream, Whole
from muster_coordinator.assignments import client_of
from muster_coordinator.attendance import Attendance
from muster_coordinator.broadcast import Broadcasts, Version, frames_of
from muster_coordinator.claims import MAX_NAME, held_by, one_line, problem_with_counts, problem_with_join, wish_of
from muster_coordinator.compression import Codecs
from muster_coordinator.enclosing import NOTHING, Enclosures
from muster_coordinator.enrolment import Enrolment
from muster_coordinator.errors import NoRoomError
from muster_coordinator.events import EvaluationReported, UpdateRejected, WorkFailed
from muster_coordinator.gate import Gate
from muster_coordinator.inbox import Inbox
from muster_coordinator.instructions import OrderEvaluation, OrderTraining
from muster_coordinator.limits import frame_bytes, small_bytes
from muster_coordinator.lobby import Listener, Lobby
from muster_coordinator.logtails import Tail
from muster_coordinator.meter import ByteMeter
from muster_coordinator.orders import Notice, Order, OrderBook
from muster_coordinator.parts import Parts
from muster_coordinator.ports import Clock
from muster_coordinator.records import AssignmentId
from muster_coordinator.refusals import Refusals, Refused
from muster_coordinator.sessions import JoinRefusedError, Session, first_ordinals, pool_sizes
from muster_coordinator.surveying import Surveying, needs_profiles
from muster_coordinator.tallies import Tallies
from muster_coordinator.translate import Told, handover_of, orders_of
from muster_coordinator.uploads import Uploads
from muster_spec.clients import ClientId, split_client_id
from muster_spec.types import ResolvedJob
from muster_spec.work import work_of
from muster_wire.errors import FrameError, VersionError
from muster_wire.received import parse_request, parse_whole
from muster_wire.trust.identity import Identity
from muster_wire.v1 import federation_pb2 as pb
from muster_wire.version import CHAINS, negotiate
from muster_wire.version import Version as WireVersion

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

SERVICE = "muster.wire.v1.Federation"
BEAT_S = 2.0
BEATS_A_SECOND = 100.0  # of all workers together
LEASE_S = 600


@dataclass(frozen=True, slots=True)
class Service:
    """What the calls work with."""

    job: ResolvedJob
    codecs: Codecs
    lobby: Lobby
    book: OrderBook
    inbox: Inbox
    broadcasts: Broadcasts
    uploads: Uploads
    gate: Gate
    meter: ByteMeter
    clock: Clock
    enrolment: Enrolment
    refusals: Refusals
    attendance: Attendance
    enclosures: Enclosures
    parts: Parts | None = None
    lease_s: int = LEASE_S


class Federation:
    """One method a call of the .proto."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._sizes = pool_sizes(service.job)
        self._ordinals = first_ordinals(service.job)
        model_bytes = (lambda: service.broadcasts.plain_size) if needs_profiles(service.job) else None
        self._surveying = Surveying(service.inbox, Tallies(service.meter, service.refusals), model_bytes)
        self._work = msgspec.json.encode(work_of(service.job)).decode()

    def handlers(self) -> grpc.GenericRpcHandler:
        """The service as grpc wants it; frames pass through as bytes, both ways."""
        unary, down, both = (
            grpc.unary_unary_rpc_method_handler,
            grpc.unary_stream_rpc_method_handler,
            grpc.stream_stream_rpc_method_handler,
        )
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Join": unary(self.join, pb.JoinRequest.FromString, pb.JoinReply.SerializeToString),
                "Listen": down(self.listen, pb.ListenRequest.FromString, None),
                "Fetch": down(self.fetch, pb.FetchRequest.FromString, None),
                "Submit": both(self.submit, None, pb.SubmitReply.SerializeToString),
                "HandIn": unary(self.hand_in, None, pb.SubmitReply.SerializeToString),
                "Report": unary(self.report, pb.ReportRequest.FromString, pb.ReportReply.SerializeToString),
                "Beat": unary(self.beat, pb.BeatRequest.FromString, pb.BeatReply.SerializeToString),
                "Measure": unary(self.measure, pb.MeasureRequest.FromString, pb.MeasureReply.SerializeToString),
                "Enrol": unary(
                    self._service.enrolment.enrol, pb.EnrolRequest.FromString, pb.EnrolReply.SerializeToString
                ),
                "Attend": unary(
                    self._service.attendance.attend, pb.AttendRequest.FromString, pb.AttendReply.SerializeToString
                ),
            },
        )

    # --- sessions -----------------------------------------------------------------------------------------------------

    async def join(self, request: pb.JoinRequest, context: Context) -> pb.JoinReply:
        """Open a session, or say why not: in `retry` cases RESOURCE_EXHAUSTED, else FAILED_PRECONDITION."""
        version = await self._agree(request, context)
        wish = wish_of(request, self._identity(context), version)
        try:
            session = await self._service.lobby.join(wish, held_by(request), request.device)
        except JoinRefusedError as refusal:
            if refusal.retry:  # an ordinary thing: it only has to wait
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, refusal.reason)
            await self._refuse(Refused.JOIN, context, grpc.StatusCode.FAILED_PRECONDITION, refusal.reason)
        return pb.JoinReply(
            version=pb.Version(major=version.major, minor=version.minor),
            session=session.id,
            job_uid=self._service.job.uid,
            clients=[self._grant(client) for client in session.clients],
            work=self._work,
            beat_interval_ms=round(1000 * max(BEAT_S, self._service.job.clients_total / BEATS_A_SECOND)),
            lease_seconds=self._service.lease_s,
            frame_bytes=frame_bytes(self._service.job.clients_total),
            log_bytes=self._service.attendance.tails.bytes_wanted(request.pool),
            hand_in_bytes=small_bytes(self._service.job.clients_total),
        )

    async def _agree(self, request: pb.JoinRequest, context: Context) -> WireVersion:
        """The version to speak, once everything in this request has a length and a form that can be kept."""
        problem = problem_with_join(request) or self._missing_skill(request)
        if problem:
            await self._refuse(Refused.JOIN, context, grpc.StatusCode.FAILED_PRECONDITION, problem)
        try:
            return negotiate(WireVersion(request.version.major, request.version.minor))
        except VersionError as error:
            code = grpc.StatusCode.FAILED_PRECONDITION
            return await self._refuse(Refused.WRONG_VERSION, context, code, str(error))

    def _missing_skill(self, request: pb.JoinRequest) -> str | None:
        known = {int(codec) for codec in request.codecs}
        if self._service.parts and not request.sub_models:
            return "clients of this job train parts of the model, which this worker can't; upgrade it"
        if self._service.job.spec.strategy.type == "Scaffold" and not request.control_variates:
            return "clients of this job train with control variates, which this worker can't; upgrade it"
        missing = [stage.name.lower() for stage in sorted(self._service.codecs.stages) if stage not in known]
        return (
            f"this job's models travel as {missing[0]}, which this worker doesn't know; upgrade it" if missing else None
        )

    def _grant(self, client: ClientId) -> pb.ClientGrant:
        pool, index = split_client_id(client)
        return pb.ClientGrant(
            pool=pool,
            index=index,
            ordinal=self._ordinals[pool] + index,
            clients_total=self._service.job.clients_total,
            pool_clients=self._sizes[pool],
        )

    async def beat(self, request: pb.BeatRequest, context: Context) -> pb.BeatReply:
        session = await self._session(request.session, context)
        service = self._service
        if request.finished:
            service.lobby.told(session)
        if session.clients:
            tail = Tail(request.log.first, request.log.left_out, request.log.lines)
            service.attendance.tails.add(session.clients, session.budget, tail, service.clock.now())
        known = service.book.revision(session.clients) + _changes(session)
        return pb.BeatReply(revision=service.lobby.sent_revision(session) or known)

    # --- orders -------------------------------------------------------------------------------------------------------

    async def listen(self, request: pb.ListenRequest, context: Context) -> None:
        """The orders as they are, and again whenever they have changed, until the job is over."""
        session = await self._session(request.session, context)
        lobby = self._service.lobby
        listener = lobby.open_stream(session)
        try:
            while listener.is_current:
                listener.news.clear()
                notice = self._service.book.notice(session.clients)
                listener.revision = notice.revision + _changes(session)
                if await self._tell(notice, session, listener, context):
                    return
                await listener.news.wait()
        finally:
            lobby.close_stream(session, listener)
        await self._reject_session(context)

    async def _tell(self, notice: Notice, session: Session, listener: Listener, context: Context) -> bool:
        """Whether these were the last orders.

        Written doesn't say read: a stream may break with them. Who can confirms them, and of the others it is hoped; a
        reader that confirms nothing may well be gone before the write returns.
        """
        orders = self._orders(notice, session)
        enclosed = self._service.enclosures.of(orders, listener.given, session.version)
        try:
            async with self._service.gate.at_once(len(enclosed.frames)) as transfer:
                enclosed = enclosed if transfer else NOTHING  # orders wait for no room: the model is fetched
                await context.write(orders.SerializeToString() + enclosed.frames)
        except NoRoomError as error:
            await context.abort(grpc.StatusCode.ABORTED, f"{error}: listen again")
        finally:
            if notice.finished and not session.confirms_end:
                self._service.lobby.told(session)
        if enclosed.digest:
            listener.given = enclosed.digest
            self._service.meter.add_down(len(enclosed.frames))
            self._service.meter.add_plain_down(self._service.broadcasts.plain_size)
        return notice.finished

    def _orders(self, notice: Notice, session: Session) -> pb.Orders:
        service = self._service
        is_matched = service.job.spec.strategy.type == "FedMA"
        told = Told(service.broadcasts.reference, service.codecs.recipe, service.parts, is_matched)
        orders = orders_of(notice, told, service.clock.now())
        if session.lease:
            orders.revision += session.lease.changes
            orders.more = bool(session.lease.due)
        if session.lease and session.lease.handover:
            orders.handover.CopyFrom(handover_of(session.pool, session.lease.handover))
        return orders

    # --- transfers ----------------------------------------------------------------------------------------------------

    async def fetch(self, request: pb.FetchRequest, context: Context) -> None:
        """Frames on the way to one version; each is written when the one before has left: a slow client holds one."""
        session = await self._session(request.session, context)
        versions = await self._way(request, session)
        if versions is None:
            self._give_up_work_from(request.digest, session)
            gone = "this version of the model is no longer given out; listen again"
            await self._refuse(Refused.NO_MODEL, context, grpc.StatusCode.NOT_FOUND, gone)
        try:
            async with self._service.gate.download(sum(version.size for version in versions)) as transfer:
                for frame in frames_of(versions, request):
                    await context.write(frame)
                    transfer.moved()
                    self._service.meter.add_down(len(frame))
        except NoRoomError as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except FrameError as error:
            await self._refuse(Refused.NO_MODEL, context, grpc.StatusCode.OUT_OF_RANGE, str(error))
        self._service.meter.add_plain_down(self._service.broadcasts.plain_size)

    def _give_up_work_from(self, digest: str, session: Session) -> None:
        """Whoever can't have the model that its work begins from had better do something else."""
        service = self._service
        for order in service.book.notice(session.clients).orders:
            if isinstance(order, OrderTraining) and service.broadcasts.reference(order.base) == digest:
                reason = "the model to begin from is no longer given out"
                service.inbox.post(UpdateRejected(order.client, order.assignment, reason))

    async def _way(self, request: pb.FetchRequest, session: Session) -> list[Version] | None:
        """What to send to a client that wants one version and may hold another."""
        broadcasts, parts = self._service.broadcasts, self._service.parts
        part = parts.get(request.digest) if parts else None
        if part is not None:
            return [part]
        way = broadcasts.way(request.digest, request.held, snapshots_only=session.version < CHAINS)
        if way is None:
            return None
        if not way.is_plain:
            return list(way.versions)
        plain = await asyncio.to_thread(broadcasts.plain, request.digest)
        return [plain, *way.versions] if plain else None

    async def submit(self, _requests: object, context: Context) -> None:
        """An offer, then frames: see uploads.py."""
        offer = _offer(await context.read())
        if offer is None:
            begin = "a submission begins with an offer"
            await self._refuse(Refused.MALFORMED, context, grpc.StatusCode.INVALID_ARGUMENT, begin)
        session = await self._session(offer.session, context)
        uploads, meter = self._service.uploads, self._service.meter
        await context.write(await uploads.receive(offer, session, Stream(context, meter)))

    async def hand_in(self, request: bytes, context: Context) -> pb.SubmitReply:
        """A small update in one message."""
        try:
            offer, frame = parse_whole(request, small_bytes(self._service.job.clients_total))
        except FrameError as error:
            await self._refuse(Refused.MALFORMED, context, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        session = await self._session(offer.session, context)
        source = Whole(frame, len(request), context, self._service.meter)
        return await self._service.uploads.receive(offer, session, source)

    # --- reports ------------------------------------------------------------------------------------------------------

    async def report(self, request: pb.ReportRequest, context: Context) -> pb.ReportReply:
        """The result of an evaluation, or that the task raised. Said twice, it counts once."""
        session = await self._session(request.session, context)
        assignment = AssignmentId(request.assignment)
        client = client_of(assignment)
        if client not in session.clients:
            theirs = f"{assignment[:MAX_NAME]} is not this worker's"
            await self._refuse(Refused.NOT_YOURS, context, grpc.StatusCode.PERMISSION_DENIED, theirs)
        order = self._service.book.wanted(client, assignment)
        if order is None:
            return pb.ReportReply()
        if problem := self._problem_with(request, order):
            self._service.inbox.post(WorkFailed(client, assignment, one_line(problem)))
        else:
            self._service.inbox.post(EvaluationReported(client, assignment, request.examples, dict(request.metrics)))
        return pb.ReportReply()

    def _problem_with(self, request: pb.ReportRequest, order: Order) -> str | None:
        if request.error:
            return str(request.error)
        unbelievable = problem_with_counts(request.examples, dict(request.metrics))
        if unbelievable:
            self._service.refusals.count(Refused.of(unbelievable.cause))
            return unbelievable.reason
        return None if isinstance(order, OrderEvaluation) else "a result came for work that is not an evaluation"

    async def measure(self, request: pb.MeasureRequest, context: Context) -> pb.MeasureReply:
        """How far a worker is from here, and what it can do: see surveying.py."""
        session = await self._session(request.session, context)
        return await self._surveying.measure(request, session, context)

    async def _session(self, session_id: str, context: Context) -> Session:
        session = self._service.lobby.find(session_id)
        if session is None or session.identity != self._identity(context):
            return await self._reject_session(context)
        return session

    def _identity(self, context: Context) -> Identity | None:
        certificate = self._service.enrolment.peers.certificate(context)
        return certificate.identity if certificate else None

    async def _reject_session(self, context: Context) -> NoReturn:
        gone = "this session is not known or no longer valid: join again"
        await self._refuse(Refused.NO_SESSION, context, grpc.StatusCode.UNAUTHENTICATED, gone)

    async def _refuse(self, cause: Refused, context: Context, code: grpc.StatusCode, reason: str) -> NoReturn:
        self._service.refusals.count(cause)
        await context.abort(code, reason)


def _changes(session: Session) -> int:
    """Of what a worker is told of its leases: they count as orders do."""
    return session.lease.changes if session.lease else 0


def _offer(request: Any) -> pb.Offer | None:
    """The offer in a stream's first message, if that is what it is."""
    try:
        parsed = None if request is grpc.aio.EOF else parse_request(request)
    except FrameError:
        return None
    return parsed if isinstance(parsed, pb.Offer) else None
