"""The operator as a running thing: it waits for its lease, then keeps a few reconcilers busy, until it is stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from muster_operator.errors import ApiError
from muster_operator.lease import Lease
from muster_operator.metrics import OperatorMetrics
from muster_operator.queue import JobKey, WorkQueue
from muster_operator.reconcile import Reconciler
from muster_telemetry.logs import bound

log = logging.getLogger("muster.operator")


class Service:
    """`jobs` lists every job there is, for the periodic look at all of them."""

    def __init__(
        self,
        reconciler: Reconciler,
        queue: WorkQueue,
        lease: Lease,
        jobs: Callable[[], Collection[JobKey]],
        metrics: OperatorMetrics,
    ) -> None:
        self.is_leading = False
        self.is_over = False
        self._reconciler = reconciler
        self._queue = queue
        self._lease = lease
        self._jobs = jobs
        self._metrics = metrics

    async def run(self, reconcilers: int, resync_s: float) -> None:
        """Work for as long as the lease is held. Returns when it is lost: the process is to end then."""
        try:
            await self._lease.acquire()
            self.is_leading = True
            async with asyncio.TaskGroup() as group:
                work = [group.create_task(self._work()) for _ in range(reconcilers)]
                work.append(group.create_task(self._resync(resync_s)))
                await self._lease.hold()
                for task in work:
                    task.cancel()
        finally:
            self.is_leading = False
            self.is_over = True

    async def _work(self) -> None:
        while True:
            key = await self._queue.take()
            with bound(namespace=key[0], job=key[1]):
                await self._look(key)

    async def _look(self, key: JobKey) -> None:
        began, result = self._queue.now(), "done"
        try:
            again_s = await self._reconciler.reconcile(*key)
        except ApiError as error:
            result = "refused"
            log.warning("%s/%s: %s; again in %.1f s", *key, error, self._queue.failed(key))
        except Exception:
            result = "fault"
            # A fault of ours with one job must not stop all others; it is tried again, ever more seldom.
            log.exception("%s/%s: a fault of the operator itself; again in %.1f s", *key, self._queue.failed(key))
        else:
            self._queue.done(key, again_s)
        finally:
            self._metrics.reconciled("FederatedJob", result, self._queue.now() - began)

    async def _resync(self, every_s: float) -> None:
        """Look at everything now and then, spread out: should an event ever be lost, it is made up for."""
        while True:
            await asyncio.sleep(every_s)
            keys = list(self._jobs())
            for number, key in enumerate(keys):
                self._queue.add(key, every_s / 2 * number / len(keys))


async def serve_probes(service: Service, port: int, registry: CollectorRegistry) -> web.AppRunner:
    """/healthz fails once the service has ended; /readyz until it leads; /metrics are for Prometheus."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(status=500, text="ended") if service.is_over else web.Response(text="ok")

    async def readyz(_request: web.Request) -> web.Response:
        return web.Response(text="ok") if service.is_leading else web.Response(status=503, text="waits for its lease")

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
