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
from muster_coordinator.broadcast import Broadcasts
from muster_coordinator.budget import demand_of
from muster_coordinator.combining import Combining, combining_of
from muster_coordinator.compression import Codecs, Down, codecs_of
from muster_coordinator.config import config_of
from muster_coordinator.driver import Driver
from muster_coordinator.errors import InputError, StorageError
from muster_coordinator.events import PauseWished
from muster_coordinator.federation import Federation, Service
from muster_coordinator.gate import Gate, Limit
from muster_coordinator.inbox import Inbox
from muster_coordinator.limits import frame_bytes, spool_bytes
from muster_coordinator.lobby import Lobby
from muster_coordinator.meter import ByteMeter
from muster_coordinator.metrics.metering import Metering, Surroundings
from muster_coordinator.metrics.ports import watched
from muster_coordinator.models import ModelFileError
from muster_coordinator.observer import Observer
from muster_coordinator.orders import Answer, OrderBook
from muster_coordinator.parts import Parts, dropout_of
from muster_coordinator.ports import Clock, Ports
from muster_coordinator.records import AssignmentId
from muster_coordinator.recovery import History
from muster_coordinator.reference import Encoder
from muster_coordinator.report import LineReporter
from muster_coordinator.sessions import Patience, SessionTable, pool_sizes
from muster_coordinator.settings import Settings
from muster_coordinator.shown import Training
from muster_coordinator.store import FileStore
from muster_coordinator.strategies import Strategy, strategy_of
from muster_coordinator.tallies import Tallies
from muster_coordinator.training import Circumstances, training_of
from muster_coordinator.uploads import Intake, Uploads
from muster_coordinator.workbench import Retention, Workbench
from muster_spec.clients import ClientId
from muster_spec.quantities import size_bytes
from muster_spec.types import ResolvedJob

log = logging.getLogger("muster.coordinator")

VERSIONS_GIVEN_OUT = 3  # the newest, the one before (stragglers still fetch it), and one to spare


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


@dataclass(frozen=True, slots=True)
class Outside:
    """What a coordinator has of the world: tests bring their own."""

    clock: Clock
    observer: Observer


def assemble(
    settings: Settings, outside: Outside, access: Access, loop: asyncio.AbstractEventLoop, metering: Metering
) -> Coordinator:
    """Open the storage, read its history, and wire everything up. InputError for a storage that can't be used."""
    job, clock, observer = settings.job, outside.clock, outside.observer
    reporter = LineReporter(sys.stdout.buffer, clock)
    store = FileStore(settings.storage, observer)
    store.open(job)
    codecs, size = codecs_of(job.spec.compression), frame_bytes(job.clients_total)
    broadcasts = _broadcasts(job, codecs, store, size)
    retention = Retention(job.spec.checkpoint.keep, job.spec.checkpoint.every)
    parts = _parts(store, job, codecs, size)
    combining = combining_of(job.spec.robustness, of_parts=parts is not None)
    strategy = strategy_of(job.spec.strategy)
    gate = Gate(_limit(job, strategy, combining, size), lambda: workbench.layout, _warner(reporter))
    workbench = Workbench(store, strategy, broadcasts, retention, combining, gate.problem, parts)
    history = recover(store, workbench, reporter)
    if workbench.layout and (problem := gate.problem(workbench.layout)):
        raise InputError(problem)
    inbox, meter, refusals = Inbox(), ByteMeter(), access.refusals
    lobby = Lobby(SessionTable(pool_sizes(job), Patience()), inbox, clock)

    def wake(changed: frozenset[ClientId] | None, answers: dict[AssignmentId, Answer]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(lobby.wake, changed, answers)

    book = OrderBook(wake)
    intake = Intake(store.staging, codecs, size, clock, combining.max_norm, spool_bytes(job.clients_total))
    uploads = Uploads(intake, lobby, book, inbox, workbench, gate, Tallies(meter, refusals))
    ports = watched(Ports(store, workbench, book, clock, reporter, meter, observer), metering)
    driver = Driver(config_of(job, store.next_epoch()), ports)
    metering.look_at(
        Surroundings(driver.look, lobby.count, uploads.counts, inbox.count, meter.totals, refusals.totals, store.root)
    )
    announcer = announce(settings.account, job, driver, workbench, inbox, clock) if settings.account else None
    enrolment = access.enrolment
    service = Service(
        job, codecs, lobby, book, inbox, broadcasts, uploads, gate, meter, clock, enrolment, refusals, parts
    )
    return Coordinator(clock, reporter, inbox, lobby, uploads, Federation(service), driver, store, history, announcer)


def _broadcasts(job: ResolvedJob, codecs: Codecs, store: FileStore, size: int) -> Broadcasts:
    encoder = Encoder(store.staging, codecs.down, job.spec.seed)
    return Broadcasts(encoder, VERSIONS_GIVEN_OUT + _staleness(job), size, store.shelf)


def announce(
    account: Account, job: ResolvedJob, driver: Driver, workbench: Workbench, inbox: Inbox, clock: Clock
) -> Announcer:
    """Who writes the job's status in the cluster, and hears there whether the job is to be suspended."""
    offset_s = clock.unix() - clock.now()

    def tell() -> Training | None:
        around = Circumstances(job.spec.compression, workbench.layout, offset_s, clock.now())
        return training_of(driver.state, around) if driver.has_started else None

    def hear(seen: JobSeen) -> None:
        if driver.has_started and seen.is_to_suspend != driver.state.is_to_pause:
            inbox.post(PauseWished(seen.is_to_suspend))

    server = ApiServer(account, JobName(job.namespace, job.name, job.uid))
    return Announcer(server, tell, hear, clock.unix)


def _limit(job: ResolvedJob, strategy: Strategy, combining: Combining, frame_bytes: int) -> Limit | None:
    budget = job.spec.coordinator.memory_budget if job.spec.coordinator else None
    demand = demand_of(strategy, combining.rule, job.clients_total, frame_bytes)
    return Limit(size_bytes(budget), demand) if budget else None


def _warner(reporter: LineReporter) -> Callable[[str], None]:
    def warn(message: str) -> None:
        log.warning("%s", message)
        reporter.tell("warning", {"message": message})

    return warn


def _parts(store: FileStore, job: ResolvedJob, codecs: Codecs, frame_bytes: int) -> Parts | None:
    """Where clients train parts of the model, what cuts them out."""
    asked = config_of(job, 0).asked
    dropout = dropout_of(job.spec.compression.federated_dropout, job.spec.seed, asked)
    if dropout is None:
        return None
    encoder = Encoder(store.staging, Down(codecs.down.snapshot), job.spec.seed)
    rounds = VERSIONS_GIVEN_OUT + _staleness(job)
    return Parts(dropout, Broadcasts(encoder, rounds * dropout.masks, frame_bytes), rounds)


def _staleness(job: ResolvedJob) -> int:
    late = job.spec.rounds.late_updates.next_round
    return late.max_staleness if late else 0


def recover(store: FileStore, workbench: Workbench, reporter: LineReporter) -> History:
    """The history up to the newest round whose model is whole; what had to be put aside is said.

    Raises StorageError when rounds are committed and none of their models can be read.
    """
    history, warnings = store.read_history()
    problems = []
    for commit in reversed(history.commits):
        try:
            workbench.take_up(commit)
            break
        except ModelFileError as error:
            problems.append(str(error))
    else:
        if problems:
            raise StorageError(f"no stored model can be read, so this job can't go on; the newest: {problems[0]}")
    if problems:
        last = len(history.commits) - 1 - len(problems)
        aside = store.put_aside_rounds_after(last, history.commits[last + 1 :])
        history, more = store.read_history()
        warnings = (*warnings, *problems, *aside, *more, f"going on from round {last}")
    for message in (*warnings, *workbench.remember(history.commits)):
        log.warning("%s", message)
        reporter.tell("warning", {"message": message})
    return history
