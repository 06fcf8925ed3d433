"""Stands between an operator and its API server, and spoils what passes when a test says so.

A reverse proxy on loopback: requests go on to the real server as they came, with the operator's own token. Leases
always pass, so that the operator stays the one that acts.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length", "content-encoding"}


class Meddler:
    """Set what is to go wrong; it does for whatever comes after that, and for watches that are open."""

    def __init__(self, server: str, authority: bytes) -> None:
        self.fails = False  # every request is answered with 500
        self.is_silent = False  # nothing comes on a watch any more
        self.delay_s = 0.0  # before a request goes on
        self._server = server
        self._tls = ssl.create_default_context(cadata=authority.decode())

    async def pass_on(self, request: web.Request) -> web.StreamResponse:
        is_watch = request.query.get("watch") == "true"
        if "/leases" not in request.path:
            if self.fails and not is_watch:
                return web.json_response({"message": "spoilt", "reason": "Spoilt"}, status=500)
            if is_watch:
                await self._while_silent()
            else:
                await asyncio.sleep(self.delay_s)
        return await self._send(request)

    async def _while_silent(self) -> None:
        while self.is_silent:  # noqa: ASYNC110 - a test's thread sets it
            await asyncio.sleep(0.1)

    async def _send(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._tls), auto_decompress=False) as session,
            session.request(
                request.method, self._server + request.path_qs, headers=headers, data=await request.read() or None
            ) as answer,
        ):
            kept = {
                name: value for name, value in answer.headers.items() if name.lower() not in HOP - {"content-encoding"}
            }
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            with suppress(ConnectionResetError):  # whoever asked is gone
                async for chunk in answer.content.iter_any():
                    if request.query.get("watch") == "true":
                        await self._while_silent()
                    await response.write(chunk)
            return response


@contextmanager
def meddler(kubeconfig: Path) -> Iterator[tuple[Meddler, Path]]:
    """A proxy before the server of a kubeconfig, and the kubeconfig that leads to it."""
    config = json.loads(kubeconfig.read_text())
    cluster = config["clusters"][0]["cluster"]
    proxy = Meddler(cluster["server"], base64.b64decode(cluster["certificate-authority-data"]))
    with _served(proxy) as address:
        config["clusters"][0]["cluster"] = {"server": f"http://{address}"}
        path = kubeconfig.with_suffix(".meddled")
        path.write_text(json.dumps(config))
        yield proxy, path


@contextmanager
def _served(proxy: Meddler) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def do(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", proxy.pass_on)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def stop() -> None:
        await runner.cleanup()
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0.1)  # for connections to close behind them

    runner = do(start())
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        proxy.is_silent = False
        do(stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
