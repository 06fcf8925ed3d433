"""One lobby process, from its command line to its exit code.

The port opens once everything has been heard of that there is: a worker whose pool isn't known yet would be told that
there is none, for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass

from muster_coordinator.assembly import MachineClock
from muster_coordinator.errors import InputError
from muster_coordinator.external import AuthorityFile
from muster_coordinator.guard import Guard
from muster_coordinator.refusals import Refusals
from muster_coordinator.tls import ServerCertificates
from muster_lobby.announcer import Announcer
from muster_lobby.attendance import Attendance
from muster_lobby.door import LobbyAdmission, PoolRoots
from muster_lobby.keys import SecretKeys
from muster_lobby.metrics import LobbyMetrics, Sights
from muster_lobby.probes import serve_probes
from muster_lobby.server import bind, build_server
from muster_lobby.service import Lobby, Service
from muster_lobby.settings import Settings, read_settings
from muster_lobby.world import World
from muster_operator.api import Api
from muster_operator.connection import Connection, find_connection
from muster_operator.errors import OperatorError
from muster_operator.following import Follower
from muster_telemetry.logs import start_logging

log = logging.getLogger("muster.lobby")

BAD_INPUT = 2
GRACE_S = 1.0
KINDS = ("ClientPool", "FederatedJob")


def main(arguments: Sequence[str]) -> int:
    """Run until told to stop. 0 stopped, 2 bad settings."""
    try:
        settings = read_settings(arguments)
        start_logging(settings.log_format)
        asyncio.run(attend(settings, find_connection(os.environ)))
    except (InputError, OperatorError) as error:
        print(f"lobby: {error}", file=sys.stderr)
        return BAD_INPUT
    return 0


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that runs."""

    api: Api
    world: World
    attendance: Attendance
    followers: tuple[Follower, ...]
    guard: Guard
    service: Service
    metrics: LobbyMetrics

    @property
    def is_ready(self) -> bool:
        return all(follower.is_known.is_set() for follower in self.followers)

    def silence(self) -> str:
        """What hasn't been heard of for too long."""
        return next(filter(None, (follower.silence() for follower in self.followers)), "")


async def attend(settings: Settings, connection: Connection) -> None:
    """Follow the API server, serve workers, until a signal comes."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    certificates_of = AuthorityFile(("--tls-ca", settings.authority))
    async with contextlib.AsyncExitStack() as stack:
        parts = await stack.enter_async_context(_assemble(settings, connection, certificates_of))
        certificates = ServerCertificates(settings.tls, MachineClock(), PoolRoots(parts.world, certificates_of))
        announcer = Announcer(parts.api, parts.world, parts.attendance)
        work: list[Coroutine[None, None, None]] = [follower.run() for follower in parts.followers]
        tasks = [asyncio.create_task(each) for each in (*work, parts.guard.watch(), announcer.run())]
        stack.callback(_cancel, tasks)
        if settings.metrics:
            probes = await serve_probes(settings.metrics, parts.metrics.registry, lambda: parts.is_ready, parts.silence)
            stack.push_async_callback(probes.cleanup)
        if not await _known(parts, stop):
            return
        server = build_server(parts.guard, Lobby(parts.service).handlers())
        address = bind(server, settings.listen, certificates)
        await server.start()
        stack.push_async_callback(server.stop, GRACE_S)
        print(json.dumps({"event": "listening", "address": address}), flush=True)
        log.info("listening at %s", address)
        await stop.wait()


async def _known(parts: Parts, stop: asyncio.Event) -> bool:
    """Wait until all has been heard of; False if it is to stop first."""
    stopped = asyncio.create_task(stop.wait())
    known = asyncio.create_task(_all(parts))
    await asyncio.wait((stopped, known), return_when=asyncio.FIRST_COMPLETED)
    _cancel([stopped, known])
    return not stop.is_set()


async def _all(parts: Parts) -> None:
    for follower in parts.followers:
        await follower.is_known.wait()


def _cancel(tasks: Sequence[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()


@contextlib.asynccontextmanager
async def _assemble(settings: Settings, connection: Connection, own: AuthorityFile) -> AsyncIterator[Parts]:
    api, clock, refusals, attendance = Api(connection), MachineClock(), Refusals(), Attendance()
    world = World(attendance.wake)
    guard = Guard(LobbyAdmission(world, clock), refusals)
    followers = tuple(
        Follower(api, kind, namespace, world, time.monotonic)
        for kind in KINDS
        for namespace in (settings.namespaces or (None,))
    )
    sights = Sights(
        attendance.totals,
        lambda: len(list(world.pools())),
        lambda: sum(len(world.offers(pool.uid)) for pool in world.pools()),
        refusals.totals,
    )
    metrics = LobbyMetrics(sights)
    service = Service(world, attendance, guard, SecretKeys(api), own, clock, refusals, metrics.enrolled)
    try:
        yield Parts(api, world, attendance, followers, guard, service, metrics)
    finally:
        await api.close()
