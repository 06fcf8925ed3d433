"""The operator as a running thing: it waits for its lease, then keeps a few reconcilers busy, until it is stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass
from typing import Literal

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from muster_operator.errors import ApiError
from muster_operator.lease import Lease
from muster_operator.metrics import OperatorMetrics
from muster_operator.queue import JobKey, Standing, WorkQueue
from muster_telemetry.logs import bound

log = logging.getLogger("muster.operator")

_LISTEN_S = 5.0


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of thing that is looked at. `everything` lists all there are, for the periodic look at all of them."""

    kind: Literal["FederatedJob", "ClientPool"]
    queue: WorkQueue
    look: Callable[[str, str], Awaitable[float | None]]
    everything: Callable[[], Collection[JobKey]]
    at_once: int


_FIELDS = {"FederatedJob": "job", "ClientPool": "pool"}  # of log lines


class Service:
    """Works on its lines for as long as it holds the lease, once all is known that there is to see."""

    def __init__(
        self,
        lines: Sequence[Line],
        lease: Lease,
        metrics: OperatorMetrics,
        knows: asyncio.Event,
        besides: Sequence[Callable[[], Coroutine[None, None, None]]] = (),
    ) -> None:
        self.is_leading = False
        self.is_over = False
        self._lines = lines
        self._lease = lease
        self._metrics = metrics
        self._knows = knows
        self._besides = besides  # what else is done while the lease is held

    def standings(self) -> dict[str, Standing]:
        """How much there is to do, of each kind."""
        return {line.kind: line.queue.standing() for line in self._lines}

    async def run(self, resync_s: float) -> None:
        """Work for as long as the lease is held. Returns when it is lost: the process is to end then."""
        try:
            await self._lease.acquire()
            self.is_leading = True
            async with asyncio.TaskGroup() as group:
                work = [group.create_task(self._work(line)) for line in self._lines for _ in range(line.at_once)]
                work += [group.create_task(_resync(line, resync_s)) for line in self._lines]
                work += [group.create_task(run()) for run in self._besides]
                await self._lease.hold()
                for task in work:
                    task.cancel()
        finally:
            self.is_leading = False
            self.is_over = True

    async def _work(self, line: Line) -> None:
        await self._knows.wait()
        while True:
            key = await line.queue.take()
            with bound(namespace=key[0], **{_FIELDS[line.kind]: key[1]}):
                await self._look(line, key)

    async def _look(self, line: Line, key: JobKey) -> None:
        began, result, queue = line.queue.now(), "done", line.queue
        try:
            again_s = await line.look(*key)
        except ApiError as error:
            result = "refused"
            log.warning("%s/%s: %s; again in %.1f s", *key, error, queue.failed(key))
        except Exception:
            result = "fault"
            # A fault of ours with one object must not stop all others; it is tried again, ever more seldom.
            log.exception("%s/%s: a fault of the operator itself; again in %.1f s", *key, queue.failed(key))
        else:
            queue.done(key, again_s)
        finally:
            self._metrics.reconciled(line.kind, result, queue.now() - began)


async def _resync(line: Line, every_s: float) -> None:
    """Look at everything now and then, spread out: should an event ever be lost, it is made up for."""
    while True:
        await asyncio.sleep(every_s)
        keys = list(line.everything())
        for number, key in enumerate(keys):
            line.queue.add(key, every_s / 2 * number / len(keys))


async def tell_of_silence(silence: Callable[[], str]) -> None:
    """Say in the log when a watch has died, and when all live again. Probes say the same to those who ask."""
    before = ""
    while True:
        now = silence()
        if bool(now) != bool(before):
            log.log(logging.ERROR if now else logging.INFO, "%s", now or "all watches live again")
        before = now
        await asyncio.sleep(_LISTEN_S)


async def serve_probes(
    service: Service, silence: Callable[[], str], port: int, registry: CollectorRegistry
) -> web.AppRunner:
    """/healthz fails once the service has ended or sees nothing any more; /readyz does, too, until it leads.

    /metrics are for Prometheus.
    """

    async def healthz(_request: web.Request) -> web.Response:
        trouble = "ended" if service.is_over else silence()
        return web.Response(status=500 if trouble else 200, text=trouble or "ok")

    async def readyz(_request: web.Request) -> web.Response:
        trouble = silence() if service.is_leading else "waits for its lease"
        return web.Response(status=503 if trouble else 200, text=trouble or "ok")

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
