"""`python -m muster_operator`: one operator process, from its environment to its exit code."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time

from muster_operator.api import Api, Observer, unobserved
from muster_operator.connection import Connection, find_connection
from muster_operator.errors import OperatorError
from muster_operator.handlers import KopfWorld, Queues, build_registry, place_kopf_line, run_kopf, watched
from muster_operator.keeper import LobbyKeeper
from muster_operator.lease import Lease
from muster_operator.metrics import OperatorMetrics, Sights
from muster_operator.objects import CHILDREN, ROUTED
from muster_operator.queue import WorkQueue
from muster_operator.reconcile import Reconciler
from muster_operator.service import Line, Service, serve_probes, tell_of_silence
from muster_operator.settings import Settings, read_settings
from muster_operator.watches import Watches
from muster_telemetry.logs import LogFormat, start_logging

log = logging.getLogger("muster.operator")

STOPPED, BAD_INPUT, LEASE_LOST = 0, 2, 1


def main() -> int:
    """Run until told to stop. 0 stopped, 1 the lease was lost (start again), 2 bad settings."""
    try:
        settings = read_settings(os.environ)
        log_to_stderr(settings.log_format, settings.log_level)
        return asyncio.run(operate(settings, find_connection(os.environ)))
    except OperatorError as error:
        print(f"operator: {error}", file=sys.stderr)
        return BAD_INPUT


def log_to_stderr(log_format: LogFormat, level: str = "INFO") -> None:
    """Our lines and kopf's alike."""
    start_logging(log_format, level=logging.getLevelNamesMapping()[level]).addFilter(place_kopf_line)
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # a line for each event of each watch


async def operate(settings: Settings, connection: Connection, observer: Observer = unobserved) -> int:
    """Watch and reconcile until a signal comes or the lease is lost. The observer hears of every request."""
    children = ROUTED if settings.install.routes else CHILDREN
    metrics, watches = OperatorMetrics(), Watches(connection, watched(settings.namespaces, children), time.monotonic)
    api = Api(connection, observer, metrics)
    world, clock = KopfWorld(), asyncio.get_running_loop().time
    queues = Queues(WorkQueue(clock), WorkQueue(clock))
    ready, stop = asyncio.Event(), asyncio.Event()
    lease = Lease(api, settings.lease_namespace, settings.identity, time.time)
    keeper = _keeper(settings, api, world, queues)
    reconciler = Reconciler(api, world, settings.install, time.time, lambda: keeper.lobby if keeper else None)
    jobs = Line("FederatedJob", queues.jobs, reconciler.reconcile, world.jobs, settings.reconcilers)
    pools = Line("ClientPool", queues.pools, reconciler.reconcile_pool, world.pools, at_once=1)
    service = Service((jobs, pools), lease, metrics, watches.census.is_over, (keeper.run,) if keeper else ())
    metrics.look_at(Sights(lambda: service.is_leading, service.standings, world.phases, watches.silences))
    probes = await serve_probes(service, watches.silence, settings.probe_port, metrics.registry)
    # Begun before kopf, which takes whatever is begun after it for its own, and waits for it in vain.
    working = asyncio.create_task(_work(service, settings, stop))
    besides = [asyncio.create_task(_take_signals(ready, stop)), asyncio.create_task(tell_of_silence(watches.silence))]
    try:
        await run_kopf(build_registry(world, queues, connection, watches, children), settings.namespaces, ready, stop)
    finally:
        stop.set()
        for task in besides:
            task.cancel()
        is_lost = await working
        await lease.release()
        await probes.cleanup()
        await api.close()
    return LEASE_LOST if is_lost else STOPPED


def _keeper(settings: Settings, api: Api, world: KopfWorld, queues: Queues) -> LobbyKeeper | None:
    """Who keeps the lobby's certificate. Once there is another authority, every bundle has to name it."""
    install = settings.install.lobby

    def look_at_pools() -> None:
        for key in world.pools():
            queues.pools.add(key)

    return LobbyKeeper(api, install, settings.lease_namespace, time.time, look_at_pools) if install else None


async def _work(service: Service, settings: Settings, stop: asyncio.Event) -> bool:
    """Reconcile until told to stop. Whether it came to an end by itself, which is a lease lost or a fault."""
    work = asyncio.create_task(service.run(settings.resync_s))
    work.add_done_callback(lambda _: stop.set())
    await stop.wait()
    is_lost = work.done()
    work.cancel()
    [result] = await asyncio.gather(work, return_exceptions=True)
    if isinstance(result, Exception):
        log.error("the operator stopped working: %s", result, exc_info=result)
    return is_lost


async def _take_signals(ready: asyncio.Event, stop: asyncio.Event) -> None:
    """Signals stop us first, and kopf with us: what is half done is left to the next operator."""
    await ready.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


if __name__ == "__main__":
    sys.exit(main())
