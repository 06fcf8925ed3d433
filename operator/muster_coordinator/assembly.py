"""The parts of a coordinator, put together for production: disk, clock, network and engine meet here only."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from muster_coordinator.access import Access
from muster_coordinator.announcer import Announcer
from muster_coordinator.apiserver import Account, ApiServer, JobName, JobSeen
from muster_coordinator.attendance import Attendance
from muster_coordinator.bucket import Bucket
from muster_coordinator.budget import demand_of
from muster_coordinator.compression import codecs_of
from muster_coordinator.config import config_of
from muster_coordinator.driver import Driver
from muster_coordinator.durable import Disk
from muster_coordinator.enclosing import Enclosures
from muster_coordinator.errors import InputError
from muster_coordinator.events import PauseWished
from muster_coordinator.federation import LEASE_S, Federation, Service
from muster_coordinator.gate import Gate, Limit
from muster_coordinator.inbox import Inbox
from muster_coordinator.limits import frame_bytes, small_bytes
from muster_coordinator.lobby import Lobby
from muster_coordinator.logtails import LogTails
from muster_coordinator.makings import combining_of_job, make_ready, recover, strategy_of_job
from muster_coordinator.meter import ByteMeter
from muster_coordinator.metrics.metering import Metering, Surroundings
from muster_coordinator.metrics.ports import watched
from muster_coordinator.observer import Observer
from muster_coordinator.orders import Answer, OrderBook
from muster_coordinator.poolmemory import PoolMemory
from muster_coordinator.ports import Clock, Ports
from muster_coordinator.records import AssignmentId
from muster_coordinator.recovery import History
from muster_coordinator.report import LineReporter
from muster_coordinator.sessions import Leasing, Patience, SessionTable, pool_sizes
from muster_coordinator.settings import Settings, Storage
from muster_coordinator.shown import Training
from muster_coordinator.spare import SpareFiles
from muster_coordinator.store import FileStore
from muster_coordinator.tallies import Tallies
from muster_coordinator.training import Circumstances, training_of
from muster_coordinator.uploads import Intake, Uploads
from muster_spec.clients import ClientId
from muster_spec.quantities import size_bytes
from muster_spec.types import ResolvedJob

log = logging.getLogger("muster.coordinator")


class MachineClock:
    """This machine's clocks."""

    def now(self) -> float:
        return time.monotonic()

    def unix(self) -> float:
        return time.time()


@dataclass(frozen=True, slots=True)
class Coordinator:
    """Everything that runs, ready to be started."""

    clock: Clock
    reporter: LineReporter
    inbox: Inbox
    lobby: Lobby
    uploads: Uploads
    federation: Federation
    driver: Driver
    store: FileStore
    history: History
    announcer: Announcer | None
    memory: PoolMemory


@dataclass(frozen=True, slots=True)
class Outside:
    """What a coordinator has of the world: tests bring their own."""

    clock: Clock
    observer: Observer
    lease_s: int = LEASE_S  # a worker that can't reach its coordinator for this long ends


def assemble(
    settings: Settings, outside: Outside, access: Access, loop: asyncio.AbstractEventLoop, metering: Metering
) -> Coordinator:
    """Open the storage, read its history, and wire everything up. InputError for a storage that can't be used."""
    job, clock, observer = settings.job, outside.clock, outside.observer
    reporter = LineReporter(sys.stdout.buffer, clock)
    size = frame_bytes(job.clients_total)
    gate = Gate(_limit(job, size), lambda: made.workbench.layout, _warner(reporter), clock)
    made = make_ready(job, store_in(settings.storage, observer), gate.problem)
    store, workbench, codecs = made.store, made.workbench, made.codecs
    memory = PoolMemory(job, Disk(observer), _warner(reporter))
    history = memory.begin(store, recover(store, workbench, reporter))
    if workbench.layout and (problem := gate.problem(workbench.layout)):
        raise InputError(problem)
    inbox, meter, refusals = Inbox(), ByteMeter(), access.refusals
    epoch = store.next_epoch()

    def wake(changed: frozenset[ClientId] | None, answers: dict[AssignmentId, Answer]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(lobby.wake, changed, answers)

    book = OrderBook(wake)
    leasing = Leasing(clock.now(), epoch > 1, _outliving(job), book.is_queued)
    lobby = Lobby(SessionTable(pool_sizes(job), Patience(), leasing), inbox, clock)
    small = small_bytes(job.clients_total)
    intake = Intake(SpareFiles(store.staging), codecs, size, clock, made.combining.max_norm, small)
    uploads = Uploads(intake, lobby, book, inbox, workbench, gate, Tallies(meter, refusals))
    ports = watched(Ports(store, workbench, book, clock, reporter, meter, observer), metering)
    driver = Driver(config_of(job, epoch), ports)
    metering.look_at(
        Surroundings(driver.look, lobby.count, uploads.counts, inbox.count, meter.totals, refusals.totals, store.root)
    )
    announcer = announce(settings.account, job, driver, inbox, clock) if settings.account else None
    service = Service(
        job=job,
        codecs=codecs,
        lobby=lobby,
        book=book,
        inbox=inbox,
        broadcasts=made.broadcasts,
        uploads=uploads,
        gate=gate,
        meter=meter,
        clock=clock,
        enrolment=access.enrolment,
        refusals=refusals,
        attendance=_attendance(job, access, lobby, inbox, clock),
        enclosures=Enclosures(made.broadcasts, small),
        parts=made.parts,
        lease_s=outside.lease_s,
    )
    return Coordinator(
        clock, reporter, inbox, lobby, uploads, Federation(service), driver, store, history, announcer, memory
    )


def _attendance(job: ResolvedJob, access: Access, lobby: Lobby, inbox: Inbox, clock: Clock) -> Attendance:
    """What bridges say goes in here. On a port that knows no certificates there are none, and nobody reads logs."""
    bridged = {pool.name: pool.spec.clients for pool in job.pools if pool.spec.type == "Slurm" and access.guard}
    peers, refusals = access.enrolment.peers, access.refusals
    return Attendance(peers, bridged, lobby, LogTails(bridged), inbox, clock, refusals, clock.now())


def store_in(storage: Storage, observer: Observer) -> FileStore:
    """Where a coordinator was told to keep its history."""
    return FileStore(storage.folder, observer, Bucket(storage.url) if storage.url else None)


def announce(account: Account, job: ResolvedJob, driver: Driver, inbox: Inbox, clock: Clock) -> Announcer:
    """Who writes the job's status in the cluster, and hears there whether the job is to be suspended."""
    offset_s = clock.unix() - clock.now()

    def tell() -> Training | None:
        around = Circumstances(offset_s, clock.now())
        return training_of(driver.state, around) if driver.has_started else None

    def hear(seen: JobSeen) -> None:
        if driver.has_started and seen.is_to_suspend != driver.state.is_to_pause:
            inbox.post(PauseWished(seen.is_to_suspend))

    return Announcer(server_of(account, job), tell, hear, clock.unix)


def server_of(account: Account, job: ResolvedJob) -> ApiServer:
    """The API server, for one who asks about this job. Each takes one request at a time, so each has its own."""
    return ApiServer(account, JobName(job.namespace, job.name, job.uid))


def _outliving(job: ResolvedJob) -> frozenset[str]:
    """The pools whose clients' state outlives the worker: another one of the pool finds it."""
    return frozenset(pool.name for pool in job.pools if pool.spec.state_outlives_workers)


def _limit(job: ResolvedJob, frame_bytes: int) -> Limit | None:
    budget = job.spec.coordinator.memory_budget if job.spec.coordinator else None
    down = codecs_of(job.spec.compression).down
    demand = demand_of(strategy_of_job(job), combining_of_job(job), job.clients_total, frame_bytes, down)
    return Limit(size_bytes(budget), demand) if budget else None


def _warner(reporter: LineReporter) -> Callable[[str], None]:
    def warn(message: str) -> None:
        log.warning("%s", message)
        reporter.tell("warning", {"message": message})

    return warn
