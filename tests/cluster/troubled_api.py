"""Stands between an operator and its API server, and makes trouble as a file says, for as long as it says so.

    python troubled_api.py FILE        prints its port; asks the API server of KUBECONFIG as whoever asks it

busy: 429 to all. conflicts: 409 to all that would change something but a lease. away: connections are cut. stalled:
watches that are open then stay open, and tell nothing any more; new ones do.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import aiohttp
import yarl
from aiohttp import web

from muster_operator.connection import Connection, find_connection

_PASSED_ON = ("Authorization", "Content-Type", "Accept")


class Trouble:
    """What the file says."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> str:
        return self._path.read_text() if self._path.exists() else ""

    def has_stalled(self, watch_begun: float) -> bool:
        """Whether a watch that was begun then is to tell nothing now."""
        return self.now() == "stalled" and watch_begun < self._path.stat().st_mtime


async def main(trouble: Trouble, connection: Connection) -> None:
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=connection.tls(), limit=0),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=False,
    ) as session:

        async def answer(request: web.Request) -> web.StreamResponse:
            return _refusal(request, trouble.now()) or await _pass_on(request, trouble, session, connection.server)

        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()


def _refusal(request: web.Request, trouble: str) -> web.Response | None:
    if trouble == "away":
        assert request.transport is not None
        request.transport.abort()
        return web.Response()
    if trouble == "busy":
        return _status(429, "TooManyRequests")
    if trouble == "conflicts" and request.method != "GET" and "/leases" not in request.path:
        return _status(409, "Conflict")
    return None


def _status(code: int, reason: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "reason": reason, "message": "made by a test"}
    return web.json_response(body | {"status": "Failure", "details": {}}, status=code, headers={"Retry-After": "1"})


async def _pass_on(
    request: web.Request, trouble: Trouble, session: aiohttp.ClientSession, server: str
) -> web.StreamResponse:
    begun = time.time()
    headers = {name: request.headers[name] for name in _PASSED_ON if name in request.headers}
    url = yarl.URL(server + request.raw_path, encoded=True)
    async with session.request(request.method, url, headers=headers, data=await request.read() or None) as found:
        answer = web.StreamResponse(status=found.status, headers={"Content-Type": found.headers["Content-Type"]})
        await answer.prepare(request)
        async for chunk in found.content.iter_any():
            while "watch=true" in request.query_string and trouble.has_stalled(begun):  # noqa: ASYNC110 - it's a file
                await asyncio.sleep(0.2)
            if trouble.now() == "away":
                assert request.transport is not None
                request.transport.abort()
            await answer.write(chunk)
        await answer.write_eof()
        return answer


if __name__ == "__main__":
    asyncio.run(main(Trouble(Path(sys.argv[1])), find_connection(os.environ)))
