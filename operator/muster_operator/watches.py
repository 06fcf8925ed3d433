"""Whether the watches live, and what their lists hold, told where it can't lie: at the level of HTTP.

kopf opens each watch anew every half minute, and each of its requests passes here. It is shown who we are, waits out a
token that is no longer taken, and is noted if it opens a watch. A watch that was not opened for longer than one may
last is dead, whatever the reason: probes fail then, and say which one it is.

Lists are read here, and kopf is handed empty ones: it would begin a worker for each object to tell us what we have read
already, a minute's work of the processor for a thousand jobs. What changes afterwards it tells, event by event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import aiohttp
import msgspec

from muster_operator.connection import Connection
from muster_operator.index import Census
from muster_operator.objects import Object

log = logging.getLogger("muster.operator")

LASTS_S = 30
"""The API server ends a watch after this time."""
GIVEN_UP_S = 40
"""We end it after this time: it has stalled."""
DEAD_S = 75.0
_AGAIN_S = 2.0
_TARDY_S = 5.0


Deliver: TypeAlias = Callable[[str, Object, bool], None]
"""Told of each object of a list: its kind, the object, and whether it is gone."""
Recall: TypeAlias = Callable[[str, str], Object | None]
"""What is known of an object, by its kind and uid."""


class _Read(aiohttp.ClientResponse):
    """An answer that may have been read already; what is left of it is what its reader gets."""

    left: Object | None = None

    async def json(self, **options: Any) -> Any:
        return self.left if self.left is not None else await super().json(**options)


class Watches:
    """A middleware for kopf's session. `paths` are those that have to be watched, each with its kind and namespace.

    `deliver` and `recall` are where objects of lists go, and where they can be found again.
    """

    def __init__(
        self, connection: Connection, paths: Mapping[str, tuple[str, str | None]], now: Callable[[], float]
    ) -> None:
        self.census = Census(paths)
        self.deliver: Deliver = lambda _kind, _object, _is_gone: None
        self.recall: Recall = lambda _kind, _uid: None
        self._connection = connection
        self._now = now
        self._kinds = {path: kind for path, (kind, _) in paths.items()}
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
        elif response.ok and path in self._kinds and isinstance(response, _Read):
            page = msgspec.json.decode(await response.read())
            self._take(path, page, is_first="continue" not in request.url.query)
            response.left = page | {"items": []}
        return response

    def _take(self, path: str, page: Object, *, is_first: bool) -> None:
        """Tell of all that is in a page, and after the last one of all that was known and isn't in any."""
        kind, items = self._kinds[path], page.get("items") or ()
        for item in items:
            self.told(kind, item)
            self.deliver(kind, item, False)
        uids = [item["metadata"]["uid"] for item in items]
        is_last = not page.get("metadata", {}).get("continue")
        for uid in self.census.listed(path, uids, is_first=is_first, is_last=is_last):
            gone = self.recall(kind, uid)
            self.census.heard(kind, uid, "", is_gone=True)
            if gone is not None:
                log.info("%s %s has gone unheard of", kind, gone["metadata"]["name"])
                self.deliver(kind, gone, True)

    def told(self, kind: str, body: Object, *, is_gone: bool = False) -> None:
        """An event has told of an object."""
        metadata = body["metadata"]
        self.census.heard(kind, metadata["uid"], metadata.get("namespace", ""), is_gone=is_gone)

    def _note(self, path: str) -> None:
        """A watch was opened. One that was ended by the server in time needs no word."""
        gap_s = self._now() - self._opened[path]
        if gap_s > LASTS_S + _TARDY_S:
            log.warning("the watch %s had stalled or was refused: opened anew after %.0f s", path, gap_s)
        self._opened[path] = self._now()

    def session(self) -> aiohttp.ClientSession:
        """A session for kopf, which closes it."""
        connector = aiohttp.TCPConnector(ssl=self._connection.tls(), limit=0)
        return aiohttp.ClientSession(connector=connector, middlewares=(self,), response_class=_Read)

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
