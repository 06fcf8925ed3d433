"""One worker process: dials a coordinator, joins for its clients, works until the job is over.

`run_worker` is what ``muster worker`` and the embedded runner's forked processes call. Importing this module imports
neither torch nor grpc: a process that is going to fork may do it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

from muster.errors import MusterError, RelayError
from muster_telemetry.logs import LogFormat, bound, start_logging

Ranks = Literal["mpi", "distributed"]

if TYPE_CHECKING:
    from muster.credentials import Credentials
    from muster.desk import Desk
    from muster.logtail import LogTail
    from muster.site.shop import Site
    from muster_spec.terms import Terms

log = logging.getLogger(__name__)

EXIT_BAD_INPUT = 2
_WARNINGS = (signal.SIGUSR1,)  # of mpirun, which hands it on to the ranks and lives on, as it doesn't with SIGTERM


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """TLS with files that somebody renews. Without a certificate of its own a worker needs the job's token."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""  # what the coordinator's certificate has to name, if that isn't the host dialled


@dataclass(frozen=True, slots=True)
class Join:
    """A join bundle as text, and where it came from, for errors. One in a file is read again: somebody may renew it."""

    text: str = field(repr=False)
    place: str
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What a worker is told when it starts; everything else comes from its coordinator.

    `indices` are the pool's clients it is for; without them it takes up to `capacity` free ones, and no more than
    `share` (0: no limit) while other workers may still come for the rest. `data` is the directory that tasks read from,
    or one for each index, where clients' data lies in different places; `state` is one that outlives this process and
    keeps client state and updates. Without `security` the channel is plain; `Join` holds a join bundle and where that
    came from. `terms` are those that its site has agreed to: work for anything else is refused. `audit` is where the
    site's log is.
    """

    coordinator: str
    pool: str
    token: str = field(repr=False, default="")
    indices: tuple[int, ...] = ()
    capacity: int = 1
    share: int = 0
    data: Path | Mapping[int, Path] | None = None
    state: Path | None = None
    security: TlsFiles | Join | None = None
    log_format: LogFormat = "text"
    ranks: Ranks | None = None  # this process is one of several that are one worker, started by MPI or by torch's way
    metrics: str | None = None  # HOST:PORT to serve them at
    terms: Terms | None = None
    audit: Path | None = None
    keeps_credential: bool = True  # where there is a folder for state
    relay: Path | None = None  # a folder that leads to the coordinator, where this machine can't dial it

    def data_of(self, index: int) -> Path | None:
        """Where the data of one client lies."""
        return self.data.get(index) if isinstance(self.data, Mapping) else self.data


def run_worker(settings: WorkerSettings) -> int:
    """Work until there is no more to do. Logs to stderr.

    Returns:
        The exit code: 0 the job is over, 1 the coordinator was lost for good or something unforeseen, 2 the coordinator
        refuses this worker or a folder can't be used, 130 and 143 stopped by SIGINT and SIGTERM.
    """
    start_logging(settings.log_format, fields={"pool": settings.pool})
    from muster.desk import Desk

    use_memory_again()
    desk = Desk()
    with _signals(desk, _WARNINGS if settings.ranks else ()), _log_kept() as tail:
        try:
            if settings.ranks is None:
                return _work(settings, desk, tail)
            from muster.site.running import run_rank

            return run_rank(settings.ranks, desk, partial(_work, settings, desk, tail))
        except MusterError as error:
            log.error("%s", error)  # noqa: TRY400 -- one plain line; what raised has logged its traceback
            return EXIT_BAD_INPUT


def use_memory_again() -> None:
    """Have what one frame or model was in be used for the next one, from the beginning on."""
    from muster_wire.heap import LARGEST_KEPT, keep_freed

    keep_freed(LARGEST_KEPT, 2 * LARGEST_KEPT)


def _work(settings: WorkerSettings, desk: Desk, tail: LogTail, site: Site | None = None) -> int:
    with _way(settings) as address:
        return _work_for(replace(settings, coordinator=address), desk, tail, site)


def _work_for(settings: WorkerSettings, desk: Desk, tail: LogTail, site: Site | None) -> int:
    from muster.audit import AuditLog
    from muster.connection import Connection
    from muster.courier import Courier
    from muster.membership import Membership
    from muster.witness import Watch

    watch = Watch(settings.pool, settings.metrics, AuditLog(settings.audit) if settings.audit else None)
    connection = Connection(settings.coordinator, settings.token, _credentials(settings), watch.carry)
    name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    membership = Membership(settings, name, connection, site)
    courier = Courier(connection, desk, membership.join, tail, membership.heed)
    membership.on_change(courier.rejoin)
    try:
        if courier.connect():
            workshop = membership.build_workshop()
            loop = membership.build_loop(desk, watch, workshop)
            courier.start()
            with bound(job=membership.job):
                workshop.prepare()
                loop.run()
    finally:
        courier.stop()
        watch.close()
    return _conclude(desk)


def _credentials(settings: WorkerSettings) -> Credentials:
    from muster.channel import enrol
    from muster.credentials import BundleSource, EnrolledCredentials, FileCredentials, Fixed, Material

    match settings.security:
        case None:
            return Fixed(Material())
        case TlsFiles() as files:
            return FileCredentials(files, time.time)
        case Join(text, place, file):
            source = BundleSource(text, place, file)
            folder = settings.state if settings.keeps_credential else None
            return EnrolledCredentials(source, partial(enrol, settings.coordinator), folder, time.time)


def _conclude(desk: Desk) -> int:
    ending = desk.ending
    if ending is None:
        return 0
    log.log(logging.INFO if ending.code in {0, 130, 143} else logging.ERROR, "leaving: %s", ending.reason)
    return ending.code


@contextmanager
def _way(settings: WorkerSettings) -> Iterator[str]:
    """Where to dial, for as long as this lasts."""
    if settings.relay is None:
        yield settings.coordinator
        return
    from muster_wire.relay import far_end

    with ExitStack() as stack:
        try:
            address = stack.enter_context(far_end(settings.relay))
        except OSError as error:
            raise RelayError(
                f"--relay {settings.relay}: {error.strerror}; is the bridge there, which makes it?"
            ) from error
        yield address


@contextmanager
def _log_kept() -> Iterator[LogTail]:
    """What is logged meanwhile is kept for a coordinator that asks for it."""
    from muster.logtail import LogTail

    tail = LogTail()
    logging.getLogger().addHandler(tail)
    try:
        yield tail
    finally:
        logging.getLogger().removeHandler(tail)


@contextmanager
def _signals(desk: Desk, warnings: tuple[signal.Signals, ...] = ()) -> Iterator[None]:
    """SIGTERM and SIGINT end the work at the next batch; they are a main thread's to hear, so others just work.

    So do `warnings`, which count as SIGTERM.
    """
    from muster.desk import Ending

    def end(number: int, _: FrameType | None) -> None:
        counted = signal.SIGTERM if number in warnings else number
        desk.end(Ending(128 + counted, f"stopped by {signal.Signals(number).name}"))

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT, *warnings)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
