"""Whether the watches live, told where they can't lie: at the level of HTTP.

kopf opens each watch anew every half minute, and each of its requests passes here. It is shown who we are, waits out a
token that is no longer taken, and is noted if it opens a watch. A watch that was not opened for longer than one may
last is dead, whatever the reason: probes fail then, and say which one it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import aiohttp
import msgspec

from muster_operator.connection import Connection
from muster_operator.index import Beginning

log = logging.getLogger("muster.operator")

LASTS_S = 30
"""The API server ends a watch after this time."""
GIVEN_UP_S = 40
"""We end it after this time: it has stalled."""
DEAD_S = 75.0
_AGAIN_S = 2.0
_TARDY_S = 5.0


class _Metadata(msgspec.Struct):
    uid: str = ""
    more: str = msgspec.field(default="", name="continue")


class _Object(msgspec.Struct):
    metadata: _Metadata


class _Page(msgspec.Struct):
    """As little of a list as has to be read to know whom it names."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    items: list[_Object] | None = None


_PAGE = msgspec.json.Decoder(_Page)


class Watches:
    """A middleware for kopf's session. `paths` are those that have to be watched, each with the kind that it shows."""

    def __init__(self, connection: Connection, paths: Mapping[str, str], now: Callable[[], float]) -> None:
        self.beginning = Beginning(paths)
        self._connection = connection
        self._now = now
        self._kinds = paths
        self._opened = dict.fromkeys(paths, now())

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Carry out one request of kopf's, again and again while our token isn't taken: a new one will come."""
        while True:
            token = self._connection.current_token()
            if token:
                request.headers["Authorization"] = f"Bearer {token}"
            response = await handler(request)
            if response.status != 401:
                break
            response.release()
            log.warning("the API server doesn't take our token for %s; again in %.0f s", request.url.path, _AGAIN_S)
            await asyncio.sleep(_AGAIN_S)
        path = request.url.path
        if response.ok and path in self._kinds and "watch" in request.url.query:
            self._note(path)
        elif response.ok and path in self._kinds:
            page = _PAGE.decode(await response.read())  # which keeps it for kopf to read, too
            uids = [one.metadata.uid for one in page.items or ()]
            self.beginning.listed(path, uids, is_last=not page.metadata.more)
        return response

    def _note(self, path: str) -> None:
        """A watch was opened. One that was ended by the server in time needs no word."""
        gap_s = self._now() - self._opened[path]
        if gap_s > LASTS_S + _TARDY_S:
            log.warning("the watch %s had stalled or was refused: opened anew after %.0f s", path, gap_s)
        self._opened[path] = self._now()

    def session(self) -> aiohttp.ClientSession:
        """A session for kopf, which closes it."""
        connector = aiohttp.TCPConnector(ssl=self._connection.tls(), limit=0)
        return aiohttp.ClientSession(connector=connector, middlewares=(self,))

    def silences(self) -> dict[str, float]:
        """Seconds since a watch of each kind was opened; of a kind in several namespaces, the longest."""
        now = self._now()
        return {
            kind: now - min(at for path, at in self._opened.items() if self._kinds.get(path) == kind)
            for kind in sorted(set(self._kinds.values()))
        }

    def silence(self) -> str:
        """The watch that has been dead for longest, in a sentence; empty if all live."""
        path = min(self._kinds, key=lambda each: self._opened[each])
        silent_s = self._now() - self._opened[path]
        return f"no watch {path} for {silent_s:.0f} s" if silent_s > DEAD_S else ""
