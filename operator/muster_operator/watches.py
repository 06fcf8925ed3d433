"""Whether the API server's watches are alive: when each was last heard of, to the byte.

kopf watches, and begins again where a watch breaks or falls silent; what it hears it doesn't tell, and of a quiet
cluster there is nothing to tell but the bookmarks that API servers send every minute. So kopf is given a session of
ours, which listens in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from muster_operator.connection import Connection
from muster_operator.objects import RESOURCES

_KINDS = {resource.plural: kind for kind, resource in RESOURCES.items()}


class WatchLog:
    """When each kind was last heard of. `now` is any clock that only runs forward."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._heard: dict[str, float] = {}

    def heard(self, kind: str) -> None:
        """Something has come, if only that nothing has changed."""
        self._heard[kind] = self._now()

    def silences(self) -> dict[str, float]:
        """For how many seconds each watch has been silent."""
        now = self._now()
        return {kind: now - at for kind, at in sorted(self._heard.items())}


def listening_session(connection: Connection, log: WatchLog) -> aiohttp.ClientSession:
    """A session to the API server, for kopf; what comes on its watches is noted."""
    token = connection.current_token()
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=connection.tls()),
        headers={"Authorization": f"Bearer {token}"} if token else {},
        response_class=_response_heard_by(log),
    )


def _response_heard_by(log: WatchLog) -> type[aiohttp.ClientResponse]:
    class Heard(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            await super().start(connection)
            kind = _KINDS.get(self.url.path.rpartition("/")[2])
            if kind and self.url.query.get("watch") == "true" and self.ok:
                log.heard(kind)
                self.content = _Overheard(self.content, lambda: log.heard(kind))  # type: ignore[assignment]
            return self

    return Heard


class _Overheard:
    """A stream of bytes, and somebody who is told when some come."""

    def __init__(self, stream: aiohttp.StreamReader, heard: Callable[[], None]) -> None:
        self._stream = stream
        self._heard = heard

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """As aiohttp's."""
        async for chunk in self._stream.iter_chunked(size):
            self._heard()
            yield chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
