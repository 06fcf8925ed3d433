"""The API server, as little of it as the operator needs: JSON over HTTPS, and errors that say what to do.

Only what is asked for here leaves the process. kopf has its own connections, for its watches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple, Protocol

import aiohttp
import msgspec

from muster_operator.connection import Connection
from muster_operator.errors import ApiError, Conflict, NotFound, TryLater
from muster_operator.objects import MANAGER, RESOURCES, Key, Object

JSON = "application/json"
_APPLY = "application/apply-patch+yaml"  # which JSON is, too
_MERGE = "application/merge-patch+json"
_TIMEOUT = aiohttp.ClientTimeout(total=30)
_TRIES = 4
_PAUSE_S = 0.5

Observer = Callable[[str, str, str], None]
"""Told of each request: `before` or `after`, the method, the path. A test may raise in it, or kill the process."""


class Listing(NamedTuple):
    """All objects of a kind, and the version to watch them from."""

    objects: Sequence[Object]
    version: str


class Meter(Protocol):
    """Told how the API server answers."""

    def answered(self, verb: str, resource: str, code: int, seconds: float) -> None: ...

    def retried(self) -> None: ...


class Unmetered:
    """Nobody counts."""

    def answered(self, verb: str, resource: str, code: int, seconds: float) -> None:
        """Nothing to do."""

    def retried(self) -> None:
        """Nothing to do."""


def unobserved(_moment: str, _method: str, _path: str) -> None:
    """Nobody is told."""


class Api:
    """Requests to one API server. Close it when done."""

    def __init__(self, connection: Connection, observer: Observer = unobserved, meter: Meter | None = None) -> None:
        self._connection = connection
        self._observer = observer
        self._meter = meter or Unmetered()
        self._session = aiohttp.ClientSession(
            timeout=_TIMEOUT, connector=aiohttp.TCPConnector(ssl=connection.tls(), limit=16)
        )

    async def close(self) -> None:
        await self._session.close()

    async def get(self, kind: str, namespace: str, name: str) -> Object:
        return await self._ask("GET", path_of(kind, namespace, name))

    async def list(self, kind: str, namespace: str | None, selector: str = "") -> list[Object]:
        """All objects of a kind, each with its kind in it, which lists leave out."""
        query = {"labelSelector": selector} if selector else {}
        answer = await self._ask("GET", path_of(kind, namespace), query=query)
        head = {"apiVersion": RESOURCES[kind].api_version, "kind": kind}
        return [head | item for item in answer["items"]]

    async def find(self, kind: str, namespace: str, name: str) -> Object | None:
        """An object by its name, for whom it is enough to be allowed to list."""
        answer = await self._ask("GET", path_of(kind, namespace), query={"fieldSelector": f"metadata.name={name}"})
        return next(iter(answer["items"]), None)

    async def listing(self, kind: str, namespace: str | None) -> Listing:
        """All objects of a kind, each with its kind in it, and the version to watch from."""
        answer = await self._ask("GET", path_of(kind, namespace))
        head = {"apiVersion": RESOURCES[kind].api_version, "kind": kind}
        return Listing([head | item for item in answer["items"]], str(answer["metadata"]["resourceVersion"]))

    async def watch(self, kind: str, namespace: str | None, version: str, lasts_s: int) -> AsyncIterator[Object]:
        """What happens to objects of a kind after that version, as the API server's events, for so long.

        Raises TryLater where it is out of reach, and ApiError where it won't (410: that version is forgotten; list).
        """
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        query["timeoutSeconds"] = str(lasts_s)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=lasts_s + 10)
        try:
            async with self._session.get(
                self._connection.server + path_of(kind, namespace),
                params=query,
                headers=self._headers(),
                timeout=timeout,
            ) as response:
                if response.status >= 400:
                    raise _error(response.status, response.headers.get("Retry-After", ""), await response.read())
                async for event in _events(response.content):
                    yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TryLater(0, "Unreachable", f"the watch broke: {error or type(error).__name__}") from error

    async def events_of(self, namespace: str, uid: str, reason: str) -> Sequence[Object]:
        """The Events of that reason about one object."""
        fields = f"involvedObject.uid={uid},reason={reason}"
        answer = await self._ask("GET", path_of("Event", namespace), query={"fieldSelector": fields})
        items: Sequence[Object] = answer["items"]
        return items

    async def create(self, manifest: Object, *, is_dry_run: bool = False) -> Object:
        """Make it; or, as a dry run, hear whether it might be made."""
        metadata = manifest["metadata"]
        path = path_of(manifest["kind"], metadata["namespace"])
        query = {"fieldManager": MANAGER} | ({"dryRun": "All"} if is_dry_run else {})
        return await self._ask("POST", path, manifest, query=query)

    async def apply(self, manifest: Object, subresource: str = "", manager: str = MANAGER) -> Object:
        """Server-side apply. We win: these fields are ours."""
        metadata = manifest["metadata"]
        path = path_of(manifest["kind"], metadata["namespace"], metadata["name"], subresource)
        query = {"fieldManager": manager, "force": "true"}
        return await self._ask("PATCH", path, manifest, query=query, content=_APPLY)

    async def patch(self, key: Key, namespace: str, uid: str, body: Object) -> Object:
        """Merge fields into exactly this object."""
        path = path_of(key.kind, namespace, key.name)
        exact = body | {"metadata": body.get("metadata", {}) | {"uid": uid}}
        return await self._ask("PATCH", path, exact, query={"fieldManager": MANAGER}, content=_MERGE)

    async def replace(self, manifest: Object) -> Object:
        """Replace what hasn't changed since it was read."""
        metadata = manifest["metadata"]
        return await self._ask("PUT", path_of(manifest["kind"], metadata["namespace"], metadata["name"]), manifest)

    async def delete(self, key: Key, namespace: str, uid: str) -> None:
        """Remove exactly this object, and then what it owns."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        await self._ask("DELETE", path_of(key.kind, namespace, key.name), options)

    async def _ask(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        query: dict[str, str] | None = None,
        content: str = JSON,
    ) -> Object:
        """One request, tried again while the server is busy or restarts. Every request here may be sent twice."""
        for left in reversed(range(_TRIES)):
            try:
                answer = await self._observed(method, path, body, query or {}, content)
            except TryLater as error:
                if not left:
                    raise
                self._meter.retried()
                pause_s = _PAUSE_S * 2 ** (_TRIES - 1 - left)
                await asyncio.sleep(pause_s if error.after_s is None else error.after_s)
            else:
                return answer
        raise AssertionError("the last try returns or raises")

    async def _observed(
        self, method: str, path: str, body: Object | None, query: dict[str, str], content: str
    ) -> Object:
        self._observer("before", method, path)
        try:
            return await self._send(method, path, body, query, content)
        finally:
            self._observer("after", method, path)  # whatever the answer was

    def _headers(self) -> dict[str, str]:
        token = self._connection.current_token()
        return {"Accept": JSON} | ({"Authorization": f"Bearer {token}"} if token else {})

    async def _send(self, method: str, path: str, body: Object | None, query: dict[str, str], content: str) -> Object:
        headers = self._headers() | {"Content-Type": content}
        data = msgspec.json.encode(body) if body is not None else None
        url = self._connection.server + path
        began, code = time.monotonic(), 0
        try:
            async with self._session.request(method, url, params=query, data=data, headers=headers) as response:
                raw = await response.read()
                code = response.status
                if response.status >= 400:
                    raise _error(response.status, response.headers.get("Retry-After", ""), raw)
                return _object(raw)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TryLater(
                0, "Unreachable", f"the API server doesn't answer: {error or type(error).__name__}"
            ) from error
        finally:
            self._meter.answered(method, _resource_in(path), code, time.monotonic() - began)


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[Object]:
    """A line an event. Lines are as long as objects are, so they are put together from what comes."""
    rest = b""
    async for piece in content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in filter(None, lines):
            event = _object(line)
            if event.get("type") == "ERROR":
                told = event.get("object") or {}
                raise _error(int(told.get("code") or 500), "", msgspec.json.encode(told))
            yield event


def _object(raw: bytes) -> Object:
    value: Any = msgspec.json.decode(raw) if raw else {}
    return value if isinstance(value, dict) else {}


def _error(status: int, retry_after: str, raw: bytes) -> ApiError:
    try:
        told = _object(raw)
    except msgspec.DecodeError:
        told = {"message": raw[:200].decode(errors="replace")}
    reason, message = str(told.get("reason") or status), str(told.get("message") or "")
    if status == 404:
        return NotFound(status, reason, message)
    if status == 409:
        return Conflict(status, reason, message)
    if status in {401, 408, 429} or status >= 500:
        after_s = min(float(retry_after), 10.0) if retry_after.isdecimal() else None
        return TryLater(status, reason, message, after_s)
    return ApiError(status, reason, message)


def _resource_in(path: str) -> str:
    """``/api/v1/namespaces/lab/pods/one/status`` → ``pods``."""
    parts = path.split("/")[3 if path.startswith("/api/") else 4 :]
    return parts[2] if parts[0] == "namespaces" and len(parts) > 2 else parts[0]


def path_of(kind: str, namespace: str | None, name: str = "", subresource: str = "") -> str:
    """Where the API serves an object, or all of a kind."""
    resource = RESOURCES[kind]
    root = "/api" if "/" not in resource.api_version else "/apis"
    place = f"/namespaces/{namespace}" if namespace else ""
    rest = "".join(f"/{part}" for part in (name, subresource) if part)
    return f"{root}/{resource.api_version}{place}/{resource.plural}{rest}"
