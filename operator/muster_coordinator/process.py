"""One coordinator process, from its command line to its exit code.

The port is taken before the storage is touched, so that a second coordinator started by mistake harms nobody. The
server runs on the main thread's loop, the driver in a thread of its own; when the driver comes to an end workers are
told, and the process leaves. Stopped at any moment, by a signal or a kill, it leaves a history to go on from.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Coroutine, Sequence

from muster_coordinator.access import Access, open_access
from muster_coordinator.assembly import Coordinator, Outside, assemble, server_of
from muster_coordinator.errors import CommitLost, CoordinatorError, DiskError, StorageError
from muster_coordinator.events import StopRequested
from muster_coordinator.external import read_external
from muster_coordinator.inbox import Inbox, drain, drive
from muster_coordinator.instructions import Outcome
from muster_coordinator.limits import frame_bytes, keep_memory_small
from muster_coordinator.metrics.metering import Metering
from muster_coordinator.poolwatch import PoolWatch
from muster_coordinator.ports import Clock
from muster_coordinator.recovery import HistoryError
from muster_coordinator.report import log_to_stderr
from muster_coordinator.server import ConnectionAge, add_federation, add_health, bind, build_server
from muster_coordinator.settings import Settings, read_settings
from muster_spec.clients import ClientId
from muster_spec.types import ResolvedJob
from muster_telemetry.tracing import open_tracing

log = logging.getLogger("muster.coordinator")

BAD_INPUT, FENCED, INTERNAL_ERROR, DISK = 2, 3, 70, 74
EXIT_CODES = {Outcome.COMPLETE: 0, Outcome.FAILED: 1, Outcome.SUSPENDED: 143}
GOODBYE_S = 5.0  # for workers to hear that the job is over: their longest pause between two tries
STREAMS_GRACE_S = 0.2


def main(arguments: Sequence[str], outside: Outside) -> int:
    """Run a coordinator to its end; its exit code."""
    keep_memory_small()
    settings: Settings | None = None
    try:
        settings = read_settings(arguments, os.environ)
        log_to_stderr(settings.job, settings.log_format, debug=settings.debug)
        return asyncio.run(coordinate(settings, outside))
    except CommitLost as error:
        return _say(error, FENCED, settings)
    except DiskError as error:
        return _say(error, DISK, settings)
    except CoordinatorError as error:
        return _say(error, BAD_INPUT, settings)
    except Exception:  # the last place that can say anything about a fault of our own
        log.critical("a fault of the coordinator itself; its storage is as it was, start it again", exc_info=True)
        return INTERNAL_ERROR


def _say(error: CoordinatorError, code: int, settings: Settings | None) -> int:
    """One line for people, or one for machines."""
    if settings is not None and settings.log_format == "json":
        log.error("%s", error)
    else:
        print(f"coordinator: {error}", file=sys.stderr, flush=True)
    log.debug("raised here", exc_info=error)
    return code


async def coordinate(settings: Settings, outside: Outside) -> int:
    """Serve and drive until the job is over or somebody stops it."""
    access = _open_access(settings, outside.clock)
    metering = _meter(settings.job, outside.clock)
    server = build_server(access, ConnectionAge(), frame_bytes(settings.job.clients_total), metering.interceptors)
    address = bind(server, settings.listen, access)
    loop = asyncio.get_running_loop()
    coordinator = assemble(settings, outside, access, loop, metering)
    _leave_when_told(coordinator.inbox, loop, settings)
    add_federation(server, coordinator.federation)
    health = await add_health(server)
    await server.start()
    metrics = {"metrics": metering.serve(settings.metrics)} if settings.metrics else {}
    coordinator.reporter.tell("listening", {"address": address} | metrics)
    watches = [asyncio.create_task(watch) for watch in _watches(coordinator, access, settings)]
    try:
        outcome = await _drive_in_thread(coordinator, loop)
        if coordinator.announcer:
            await coordinator.announcer.last_words()
        _tell_refusals(coordinator, access)
        _export(coordinator)
        coordinator.memory.write(coordinator.driver.progress.histories)
        if outcome is not Outcome.SUSPENDED:
            await _say_goodbye(coordinator)
        return EXIT_CODES[outcome]
    finally:
        for watch in watches:
            watch.cancel()
        await health.enter_graceful_shutdown()
        coordinator.uploads.close()
        await server.stop(STREAMS_GRACE_S)
        metering.close()


async def _say_goodbye(coordinator: Coordinator) -> None:
    """Have workers hear that the job is over. One that doesn't goes when its lease has run out."""
    if missing := await coordinator.lobby.say_goodbye(_last_at_work(coordinator), GOODBYE_S):
        log.warning("leaving before everybody has heard that the job is over: %s", "; ".join(missing))


def _open_access(settings: Settings, clock: Clock) -> Access:
    external = read_external(settings.job, settings.security.pool_authorities)
    return open_access(settings.security, settings.job.uid, clock, external)


def _meter(job: ResolvedJob, clock: Clock) -> Metering:
    return Metering(job, clock, open_tracing("coordinator", {"muster.job": f"{job.namespace}/{job.name}"}))


def _tell_refusals(coordinator: Coordinator, access: Access) -> None:
    """What was refused in all, if anything was."""
    counts = {cause.value: count for cause, count in access.refusals.totals().items() if count}
    if counts:
        coordinator.reporter.tell("refused", {"causes": counts})


def _watches(coordinator: Coordinator, access: Access, settings: Settings) -> list[Coroutine[None, None, None]]:
    """What looks around once a second for as long as the server runs."""
    watches = [coordinator.lobby.watch()]
    if access.guard:
        watches.append(access.guard.watch())
    if coordinator.announcer:
        watches.append(coordinator.announcer.run())
    if settings.account and access.external:
        watches.append(PoolWatch(server_of(settings.account, settings.job), access.external).run())
    return watches


def _leave_when_told(inbox: Inbox, loop: asyncio.AbstractEventLoop, settings: Settings) -> None:
    def stop(reason: str) -> None:
        inbox.post(StopRequested(reason))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, f"stopped by {number.name}")
    if settings.exit_with_stdin:
        threading.Thread(target=_outlive_nobody, args=(inbox,), name="stdin", daemon=True).start()


def _outlive_nobody(inbox: Inbox) -> None:
    """Whoever started this process holds the other end of its standard input for as long as it lives."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    inbox.post(StopRequested("whoever started this coordinator is gone"))


async def _drive_in_thread(coordinator: Coordinator, loop: asyncio.AbstractEventLoop) -> Outcome:
    ended: asyncio.Future[Outcome] = loop.create_future()

    def drive_to_the_end() -> None:
        try:
            outcome = _drive(coordinator)
        except BaseException as error:  # noqa: BLE001 - carried to the main thread, which knows what to do about it
            loop.call_soon_threadsafe(ended.set_exception, error)
        else:
            loop.call_soon_threadsafe(ended.set_result, outcome)
            drain(coordinator.inbox)

    threading.Thread(target=drive_to_the_end, name="driver", daemon=True).start()
    return await ended


def _drive(coordinator: Coordinator) -> Outcome:
    try:
        coordinator.driver.start(coordinator.history)
    except HistoryError as error:
        raise StorageError(f"{coordinator.store.place}: {error}; put the missing records back from a copy") from error
    return drive(coordinator.driver, coordinator.inbox, coordinator.clock).outcome


def _last_at_work(coordinator: Coordinator) -> frozenset[ClientId]:
    last = coordinator.driver.progress.last
    return frozenset(update.client for update in last.used) if last else frozenset()


def _export(coordinator: Coordinator) -> None:
    """The models that people look for, under names that they would look for."""
    progress = coordinator.driver.progress
    for digest, name in ((progress.model, "final"), (progress.best.model if progress.best else "", "best")):
        if digest:
            coordinator.store.export_model(digest, f"{name}.safetensors")
