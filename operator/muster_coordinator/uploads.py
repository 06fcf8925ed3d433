"""Updates on their way up: an offer is judged, frames are staged, the whole is checked, and the engine has its say.

A frame is read only when the one before it is on the disk, so a slow or a fast client holds one frame of memory. What
has arrived of a broken transfer stays for as long as its work is wanted; the next offer of the same bytes goes on from
there. A call whose work isn't wanted any more is ended, and so is one that stands still while others wait for its room.
A bad update costs its client this round and nobody anything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from muster_coordinator.arriving import Source, frame_of
from muster_coordinator.assignments import client_of
from muster_coordinator.claims import one_line, problem_with_numbers
from muster_coordinator.compression import Codecs
from muster_coordinator.errors import NoRoomError
from muster_coordinator.events import BudgetExceeded, UpdateRejected
from muster_coordinator.gate import WAIT_MS, Gate, Transfer
from muster_coordinator.inbox import Inbox
from muster_coordinator.instructions import OrderEvaluation
from muster_coordinator.lobby import Lobby
from muster_coordinator.offers import Offered, Offers
from muster_coordinator.orders import OrderBook
from muster_coordinator.ports import Clock
from muster_coordinator.records import AssignmentId
from muster_coordinator.refusals import Refused
from muster_coordinator.sessions import Session
from muster_coordinator.spare import SpareFiles
from muster_coordinator.staging import MEMORY_BYTES, StagingError, Upload
from muster_coordinator.tallies import Tallies
from muster_coordinator.workbench import Workbench
from muster_wire.errors import Cause, FrameError, PayloadError, WireError
from muster_wire.frames import Header
from muster_wire.payload import MAX_NORM, PayloadKind
from muster_wire.received import ReceivedFrame
from muster_wire.v1 import federation_pb2 as pb

log = logging.getLogger("muster.coordinator")

T = TypeVar("T")

INLINE_BYTES = 64 * 1024  # shorter frames and updates are not worth a thread
NO_ROOM_WAIT_MS = 5_000
THREADS = 4


@dataclass(slots=True)
class Partial:
    """A transfer that has begun. Its newest stream owns it; what a thread is doing to it outlives that stream."""

    upload: Upload
    owner: object = None
    busy: asyncio.Future[Any] | None = None
    transfer: Transfer | None = None  # of the stream
    began_at: float | None = None  # its stream, where all of it came in that; None: nobody could see it come
    conclusion: asyncio.Task[pb.SubmitReply] | None = (
        None  # once it is here whole; the upload is not ours any more then
    )


@dataclass(frozen=True, slots=True)
class Intake:
    """Where uploads are staged, how they have to be encoded, in frames of at most which size, how large they may be as
    vectors, how much of each stays in memory, and what they are timed with.
    """

    files: SpareFiles
    codecs: Codecs
    frame_bytes: int
    clock: Clock
    max_norm: float = MAX_NORM
    memory_bytes: int = MEMORY_BYTES


class Uploads:
    """Everything that comes up. Lives on the server's loop; heavy work goes to a few threads."""

    def __init__(
        self,
        intake: Intake,
        lobby: Lobby,
        book: OrderBook,
        inbox: Inbox,
        workbench: Workbench,
        gate: Gate,
        tallies: Tallies,
    ) -> None:
        self._intake = intake
        self._gate = gate
        self._offers = Offers(book, workbench, intake.codecs)
        self._lobby = lobby
        self._book = book
        self._inbox = inbox
        self._workbench = workbench
        self._meter = tallies.meter
        self._refusals = tallies.refusals
        self._partials: dict[AssignmentId, Partial] = {}
        self._postponed = 0
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="staging")

    async def receive(self, offer: pb.Offer, session: Session, source: Source) -> pb.SubmitReply:
        """Serve one call, from its offer to what is said to it."""
        self._sweep()
        return self._known(offer, session) or await self._take(self._offers.wanted(offer), session, source)

    def counts(self) -> tuple[int, int]:
        """Updates that have begun to come in and are not settled with the engine yet; how often one was put off."""
        return len(self._partials), self._postponed

    # --- the offer ----------------------------------------------------------------------------------------------------

    def _known(self, offer: pb.Offer, session: Session) -> pb.SubmitReply | None:
        """A verdict that needs no bytes."""
        assignment = AssignmentId(offer.assignment)
        client = client_of(assignment)
        if client not in session.clients:
            return self._refused(
                Cause.NOT_YOURS, f"{one_line(assignment)} is not an assignment of this worker's clients"
            )
        if fate := self._book.fate(client, assignment):
            return self._accepted_again() if fate.used else self._refused(Cause.LATE, fate.reason)
        if self._book.is_accepted(client, assignment):
            return self._accepted_again()
        order = self._book.wanted(client, assignment)
        if order is None or isinstance(order, OrderEvaluation):
            return self._refused(Cause.UNKNOWN_ASSIGNMENT, "nobody waits for this update: see the orders")
        return None

    def _accepted_again(self) -> pb.SubmitReply:
        self._refusals.count(Refused.REPEATED)
        return accepted()

    def _refused(self, cause: Cause, reason: str) -> pb.SubmitReply:
        self._refusals.count(Refused.of(cause))
        return verdict(cause, reason)

    async def _take(self, offered: Offered, session: Session, source: Source) -> pb.SubmitReply:
        try:
            partial = await self._begin(offered, source)
            if known := self._known(offered.message, session):  # an earlier stream may have brought it meanwhile
                return known
            if partial.conclusion is None and not await self._has_read(offered, partial, source):
                return _wait(WAIT_MS)
            return await self._concluded(offered, partial)
        except NoRoomError as error:
            await source.abort(grpc.StatusCode.ABORTED, f"{error}: offer again")
        except StagingError as error:
            log.warning("%s", error)
            self._postponed += 1
            return _wait(NO_ROOM_WAIT_MS)
        except WireError as error:
            return self._reject(offered, error)

    async def _begin(self, offered: Offered, source: Source) -> Partial:
        """What has arrived already, or an empty upload of the size that this work must have."""
        problem = problem_with_numbers(offered.message.examples, dict(offered.message.metrics))
        if problem:
            raise problem
        header = await self._header(offered)
        self._offers.check_header(header, offered)
        self._check_budget(header, offered.kind)
        await self._settle_down(offered.assignment)
        partial = self._partials.get(offered.assignment)
        if partial is None or (partial.conclusion is None and not _goes_on(partial.upload, header, source)):
            self._drop(offered.assignment)
            intake = self._intake
            upload = Upload(header, offered.kind, intake.files, intake.frame_bytes, intake.memory_bytes)
            partial = Partial(upload)
            upload.part = offered.part
            self._partials[offered.assignment] = partial
        return partial

    async def _header(self, offered: Offered) -> Header:
        """Only a layout that we don't know yet is worth a thread."""
        message, known = offered.message.header, offered.layout
        if known is not None and message.layout == known.to_json():
            return Header.from_message(message, known)
        return await self._in_thread(None, lambda: Header.from_message(message))

    async def _settle_down(self, assignment: AssignmentId) -> None:
        """A stream that broke may have left a frame on its way to the disk."""
        partial = self._partials.get(assignment)
        if partial is not None and partial.conclusion is None and partial.busy is not None:
            await asyncio.wait([partial.busy])

    def _check_budget(self, header: Header, kind: PayloadKind) -> None:
        """A first model that can't be trained within the job's memory is the end of the job, whoever makes it."""
        problem = self._gate.problem(header.layout) if kind is PayloadKind.SNAPSHOT else None
        if problem:
            self._inbox.post(BudgetExceeded(problem))
            raise PayloadError(Cause.TOO_LARGE, problem)

    # --- the bytes ----------------------------------------------------------------------------------------------------

    async def _has_read(self, offered: Offered, partial: Partial, source: Source) -> bool:
        """Whether all of it is here now; not if there was no room for another transfer."""

        def is_wanted() -> bool:
            return self._book.wanted(offered.client, offered.assignment) is not None

        _end(partial)  # an earlier stream, which may have died without a word
        async with self._gate.at_once(partial.upload.header.size - partial.upload.received, is_wanted) as transfer:
            if transfer is None:
                return False
            partial.owner, partial.transfer = source, transfer
            await source.begin(partial.upload.received)
            await self._read_frames(partial, source, transfer)
        return True

    async def _read_frames(self, partial: Partial, source: Source, transfer: Transfer) -> None:
        # A part says little of how fast the whole would come, and one message is here before anybody looks.
        is_seen = not source.restarts and not partial.upload.received
        partial.began_at = self._intake.clock.now() if is_seen else None
        while not partial.upload.is_complete:
            await self._read_frame(partial, source)  # a call of its own: a frame is gone before the next is read
            transfer.moved()

    async def _read_frame(self, partial: Partial, source: Source) -> None:
        arrived = await source.read()
        if arrived is None or partial.owner is not source:
            broke = f"the transfer broke at {partial.upload.received}: offer again"
            await source.abort(grpc.StatusCode.ABORTED, broke)
        await self._add(partial, arrived, source)

    async def _add(self, partial: Partial, arrived: bytes | ReceivedFrame, source: Source) -> None:
        try:
            frame = frame_of(arrived)
            if len(frame.data) <= INLINE_BYTES:
                partial.upload.add(frame)
            else:
                await self._in_thread(partial, lambda: partial.upload.add(frame))
        except FrameError as error:
            if error.cause is not Cause.TOO_LARGE:  # damaged on the way: what came before it is fine
                self._refusals.count(Refused.DAMAGED)
                await source.abort(grpc.StatusCode.DATA_LOSS, str(error))
            raise

    async def _concluded(self, offered: Offered, partial: Partial) -> pb.SubmitReply:
        """What becomes of an update that is here whole: found out once, though its stream may break, or another ask."""
        if partial.conclusion is None:
            partial.conclusion = asyncio.create_task(self._hand_in(offered, partial))
        return await asyncio.shield(partial.conclusion)

    async def _hand_in(self, offered: Offered, partial: Partial) -> pb.SubmitReply:
        """Check the whole, give it to the workbench, and ask the engine."""
        arrived_at = self._intake.clock.now()
        try:
            if partial.upload.header.size <= INLINE_BYTES:
                checked = partial.upload.check(self._intake.max_norm)
            else:
                checked = await self._in_thread(partial, lambda: partial.upload.check(self._intake.max_norm))
        except WireError as error:
            partial.upload.close()
            return self._reject(offered, error)
        self._workbench.stage(offered.assignment, partial.upload)
        upload_s = 0.0 if partial.began_at is None else arrived_at - partial.began_at
        staged = self._offers.staged(offered, partial.upload.header, upload_s, checked.norm)
        self._meter.add_plain_up(staged.plain_bytes)
        answer = self._lobby.expect_answer(offered.assignment)
        self._inbox.post(staged)
        said = await answer
        self._partials.pop(offered.assignment, None)
        return accepted() if said.accepted else self._refused(Cause.LATE, said.reason)

    def _reject(self, offered: Offered, error: WireError) -> pb.SubmitReply:
        reason = one_line(error.reason)
        log.warning("update %s refused (%s): %s", offered.assignment, error.cause.name, reason)
        self._drop(offered.assignment)
        self._inbox.post(UpdateRejected(offered.client, offered.assignment, reason))
        return self._refused(error.cause, reason)

    async def _in_thread(self, partial: Partial | None, work: Callable[[], T]) -> T:
        """Heavy work off the loop. A stream that breaks meanwhile doesn't stop it; `busy` says when it is done."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, work)
        if partial is not None:
            partial.busy = future
        return await asyncio.shield(future)

    # --- leftovers ----------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Half an update of work that nobody wants any more is only disk."""
        for assignment in list(self._partials):
            if self._book.wanted(client_of(assignment), assignment) is None:
                self._drop(assignment)

    def _drop(self, assignment: AssignmentId) -> None:
        partial = self._partials.pop(assignment, None)
        if partial is None or partial.conclusion is not None:
            return
        partial.owner = None
        _end(partial)
        if partial.busy is None or partial.busy.done():
            partial.upload.close()

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._intake.files.close()


def _end(partial: Partial) -> None:
    """Whoever brings it has nothing to bring any more."""
    if partial.transfer is not None:
        partial.transfer.end()


def _goes_on(upload: Upload, header: Header, source: Source) -> bool:
    """Whether what has arrived is the beginning of what comes now."""
    return upload.header == header and not (source.restarts and upload.received)


def _wait(milliseconds: int) -> pb.SubmitReply:
    return pb.SubmitReply(wait=pb.Wait(milliseconds=milliseconds))


def accepted() -> pb.SubmitReply:
    """An update taken."""
    return pb.SubmitReply(verdict=pb.Verdict(accepted=True))


def verdict(cause: Cause, reason: str) -> pb.SubmitReply:
    """An update refused."""
    return pb.SubmitReply(verdict=pb.Verdict(accepted=False, reason=reason, cause=pb.Verdict.Cause.Name(cause.value)))
