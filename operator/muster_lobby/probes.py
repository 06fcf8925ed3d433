"""Probes and metrics over plain HTTP, for the kubelet and for Prometheus. Nothing of it says who is in the lobby."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from muster_telemetry.address import parse_address


async def serve_probes(
    address: str, registry: CollectorRegistry, is_ready: Callable[[], bool], silence: Callable[[], str]
) -> web.AppRunner:
    """/healthz fails once nothing has been heard from the API server for too long: a new process may hear better.

    /readyz fails until everything has been heard of that there is.
    """

    async def healthz(_request: web.Request) -> web.Response:
        trouble = silence()
        return web.Response(status=500 if trouble else 200, text=trouble or "ok")

    async def readyz(_request: web.Request) -> web.Response:
        trouble = "" if is_ready() else "hasn't heard yet of all that there is"
        return web.Response(status=503 if trouble else 200, text=trouble or "ok")

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, port = parse_address(address)
    await web.TCPSite(runner, host.strip("[]"), port).start()
    return runner
