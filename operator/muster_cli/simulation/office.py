"""A coordinator without a server: the driver, store, versions and sums of production, called where it would answer.

Every method stands for one call of the wire, answers at once, and takes no simulated time: what time a call takes is
its caller's business. The driver hears of an event while the coordinator's own loop waits in its inbox.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from muster.orders import Orders, parse_orders
from muster_cli.simulation.fleet import Nature
from muster_cli.simulation.world import Deeds, World
from muster_coordinator.assignments import client_of
from muster_coordinator.broadcast import Version, frames_of
from muster_coordinator.claims import problem_with_counts, problem_with_numbers
from muster_coordinator.config import config_of
from muster_coordinator.driver import Driver
from muster_coordinator.events import (
    ClientsJoined,
    ClientsLost,
    ClientsProfiled,
    EvaluationReported,
    UpdateRejected,
    WorkFailed,
)
from muster_coordinator.inbox import drive
from muster_coordinator.instructions import Finish, OrderEvaluation
from muster_coordinator.limits import frame_bytes, small_bytes
from muster_coordinator.makings import make_ready, recover
from muster_coordinator.meter import ByteMeter
from muster_coordinator.observer import Unobserved
from muster_coordinator.offers import Offered, Offers
from muster_coordinator.orders import Answer, OrderBook
from muster_coordinator.ports import Ports, Reporter
from muster_coordinator.records import AssignmentId, ClientProfile
from muster_coordinator.spare import SpareFiles
from muster_coordinator.staging import Upload
from muster_coordinator.store import FileStore
from muster_coordinator.translate import Told, orders_of
from muster_spec.clients import ClientId
from muster_spec.types import ResolvedJob
from muster_wire.errors import WireError
from muster_wire.frames import Header, Transfer
from muster_wire.received import ReceivedFrame, parse_request
from muster_wire.v1 import federation_pb2 as pb

STEP_FLOPS = 1e9
MEMORY_BYTES = 2**33


class Office:
    """One job's coordinator. `news` is told which clients' orders have changed; None: everybody's."""

    def __init__(
        self,
        job: ResolvedJob,
        storage: Path,
        world: World,
        reporter: Reporter,
        news: Callable[[frozenset[ClientId] | None], None],
    ) -> None:
        self._world = world
        self._news = news
        self._made = made = make_ready(job, FileStore(storage, Unobserved()), lambda _: None)
        self._reporter = reporter
        self.book = OrderBook(self._wake)
        self._meter = ByteMeter()
        ports = Ports(made.store, made.workbench, self.book, world, reporter, self._meter, Unobserved())
        self.driver = Driver(config_of(job, made.store.next_epoch()), ports)
        self._offers = Offers(self.book, made.workbench, made.codecs)
        self._told = Told(made.broadcasts.reference, made.codecs.recipe, made.parts, made.workbench.matches_layers)
        self._answers: dict[AssignmentId, Answer] = {}
        self.frame_bytes = frame_bytes(job.clients_total)
        self.small_bytes = small_bytes(job.clients_total)
        self._files = SpareFiles(made.store.staging)

    def run(self) -> Finish:
        """Until the job is over. Time passes while the loop waits for events."""
        self.driver.start(recover(self._made.store, self._made.workbench, self._reporter))
        try:
            return drive(self.driver, Deeds(self._world), self._world)
        finally:
            self._files.close()

    def _wake(self, changed: frozenset[ClientId] | None, answers: dict[AssignmentId, Answer]) -> None:
        self._answers |= answers
        if changed is None or changed:
            self._news(changed)

    # --- sessions and orders ------------------------------------------------------------------------------------------

    def join(self, worker: str, client: ClientId, held: frozenset[str], device: str) -> None:
        theirs = tuple(AssignmentId(name) for name in sorted(held))
        self.driver.handle(ClientsJoined(worker, (client,), theirs, device))

    def profile(self, worker: str, nature: Nature) -> None:
        """What this client's worker would measure of itself. A step at speed 1 stands for so many operations."""
        profile = ClientProfile(
            flops=STEP_FLOPS / nature.step_s,
            memory_bytes=MEMORY_BYTES,
            latency_s=nature.round_trip_s,
            up_bytes_per_s=nature.up_bytes_s,
            down_bytes_per_s=nature.down_bytes_s,
        )
        self.driver.handle(ClientsProfiled(worker, (nature.client,), profile))

    def lose(self, worker: str, client: ClientId, reason: str) -> None:
        self.driver.handle(ClientsLost((client,), reason, worker))

    def orders(self, client: ClientId) -> Orders:
        """What a worker of this client reads on its stream."""
        now = self._world.now()
        return parse_orders(orders_of(self.book.notice((client,)), self._told, now), now)

    # --- models -------------------------------------------------------------------------------------------------------

    def frames(self, request: pb.FetchRequest) -> Iterator[bytes] | None:
        """On the way to a version; None if it is no longer given out."""
        versions = self._way(request)
        return None if versions is None else self._counted(versions, request)

    def _way(self, request: pb.FetchRequest) -> list[Version] | None:
        broadcasts, parts = self._made.broadcasts, self._made.parts
        part = parts.get(request.digest) if parts else None
        if part is not None:
            return [part]
        way = broadcasts.way(request.digest, request.held)
        if way is None:
            return None
        plain = broadcasts.plain(request.digest) if way.is_plain else None
        return [plain, *way.versions] if plain else list(way.versions)

    def _counted(self, versions: list[Version], request: pb.FetchRequest) -> Iterator[bytes]:
        for frame in frames_of(versions, request):
            self._meter.add_down(len(frame))
            yield frame
        self._meter.add_plain_down(self._made.broadcasts.plain_size)

    # --- updates ------------------------------------------------------------------------------------------------------

    def submit(self, offer: pb.Offer, transfer: Transfer, upload_s: float) -> Answer | None:
        """The engine's answer to an update, here whole after so many seconds; None: nobody waits for it."""
        assignment = AssignmentId(offer.assignment)
        client = client_of(assignment)
        if fate := self.book.fate(client, assignment):
            return Answer(fate.used, fate.reason)
        order = self.book.wanted(client, assignment)
        if order is None or isinstance(order, OrderEvaluation):
            return None
        try:
            self._take(self._offers.wanted(offer), transfer, upload_s)
        except WireError as error:
            self.driver.handle(UpdateRejected(client, assignment, error.reason))
            self._answers.pop(assignment, None)
            return Answer(False, error.reason)
        return self._answers.pop(assignment)

    def _take(self, offered: Offered, transfer: Transfer, upload_s: float) -> None:
        if problem := problem_with_numbers(offered.message.examples, dict(offered.message.metrics)):
            raise problem
        header = Header.from_message(offered.message.header, offered.layout)
        self._offers.check_header(header, offered)
        upload = Upload(header, offered.kind, self._files, self.frame_bytes, self.small_bytes)
        upload.part = offered.part
        try:
            for request in transfer.requests():
                self._meter.add_up(len(request))
                upload.add(_frame(request))
            norm = upload.check(self._made.combining.max_norm).norm
        except WireError:
            upload.close()
            raise
        self._made.workbench.stage(offered.assignment, upload)
        is_seen = header.size > self.small_bytes  # come: a smaller one is here, in one message, before anybody looks
        staged = self._offers.staged(offered, header, upload_s if is_seen else 0.0, norm)
        self._meter.add_plain_up(staged.plain_bytes)
        self.driver.handle(staged)

    def report(self, assignment: str, examples: int, metrics: dict[str, float], error: str) -> None:
        """What an evaluation found, or why an assignment is given up."""
        name = AssignmentId(assignment)
        client = client_of(name)
        order = self.book.wanted(client, name)
        if order is None:
            return
        unbelievable = problem_with_counts(examples, metrics)
        if problem := error or (unbelievable.reason if unbelievable else ""):
            self.driver.handle(WorkFailed(client, name, problem))
        elif isinstance(order, OrderEvaluation):
            self.driver.handle(EvaluationReported(client, name, examples, metrics))


def _frame(request: bytes) -> ReceivedFrame:
    frame = parse_request(request)
    assert isinstance(frame, ReceivedFrame), "a transfer makes frames"  # noqa: S101 -- for the type checker: it does
    return frame
