"""An API server in a few lines, for tests of the lobby: lists, watches, Secrets and status, over plain HTTP."""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

Object = dict[str, Any]
PLURALS = {"federatedjobs": "FederatedJob", "clientpools": "ClientPool", "secrets": "Secret"}
GIVE_UP_S = 10


class FakeApiServer:
    """Objects by kind and name. Whatever tests put here is heard by those who watch."""

    def __init__(self, namespace: str = "lab") -> None:
        self.namespace = namespace
        self.url = ""
        self.applied: list[Object] = []  # what was written to a status
        self.secrets_read: list[str] = []
        self._objects: dict[tuple[str, str], Object] = {}
        self._versions = itertools.count(1)
        self._version = 0
        self._events: list[tuple[int, str, Object]] = []
        self._changed = asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._is_over = False

    # --- what tests do ------------------------------------------------------------------------------------------------

    def put(self, value: Object) -> None:
        self._do(lambda: self._put(value))

    def get(self, kind: str, name: str) -> Object:
        return copy.deepcopy(self._objects[kind, name])

    def change(self, kind: str, name: str, **parts: Any) -> None:
        """Merge into the parts (spec, status) of an object."""
        value = self.get(kind, name)
        for part, fields in parts.items():
            value[part] = _merged(value.get(part, {}), fields)
        self.put(value)

    def remove(self, kind: str, name: str) -> None:
        def do() -> None:
            self._tell("DELETED", self._objects.pop((kind, name)))

        self._do(do)

    def forget_watches(self) -> None:
        """As after a restart of etcd: whoever watches has to list again."""
        self._do(self._events.clear)

    @contextmanager
    def running(self, folder: Path) -> Iterator[Path]:
        """Serve; a kubeconfig."""
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        runner = asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(GIVE_UP_S)
        path = folder / "kubeconfig"
        cluster = {"name": "fake", "cluster": {"server": self.url}}
        context = {"name": "fake", "context": {"cluster": "fake", "user": "fake"}}
        user = {"name": "fake", "user": {"token": "of-the-lobby"}}
        path.write_text(
            json.dumps({"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "fake"})
        )
        try:
            yield path
        finally:
            self._is_over = True
            self._do(self._wake)
            asyncio.run_coroutine_threadsafe(runner.cleanup(), self._loop).result(GIVE_UP_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(GIVE_UP_S)
            self._loop.close()

    # --- inside -------------------------------------------------------------------------------------------------------

    def _do(self, action: Any) -> None:
        async def run() -> None:
            action()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(GIVE_UP_S)

    def _put(self, value: Object) -> None:
        self._version = next(self._versions)
        metadata = value["metadata"] | {"namespace": self.namespace, "resourceVersion": str(self._version)}
        value = value | {"metadata": metadata}
        self._objects[value["kind"], metadata["name"]] = value
        self._tell("MODIFIED", value)

    def _tell(self, kind: str, value: Object) -> None:
        self._events.append((self._version, kind, value))
        self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _serve(self) -> web.AppRunner:
        app = web.Application()
        for root in ("/apis/muster.dev/v1alpha1", "/api/v1"):
            for place in ("", "/namespaces/{namespace}"):
                app.router.add_get(f"{root}{place}/{{plural}}", self._list)
            app.router.add_get(f"{root}/namespaces/{{namespace}}/{{plural}}/{{name}}", self._read)
            app.router.add_patch(f"{root}/namespaces/{{namespace}}/{{plural}}/{{name}}/status", self._apply)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _list(self, request: web.Request) -> web.StreamResponse:
        kind = PLURALS[request.match_info["plural"]]
        if "watch" in request.query:
            return await self._watch(request, kind)
        items = [value for (each, _), value in self._objects.items() if each == kind]
        return web.json_response({"items": items, "metadata": {"resourceVersion": str(self._version)}})

    async def _watch(self, request: web.Request, kind: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        since, ends_at = (
            int(request.query["resourceVersion"]),
            self._loop.time() + float(request.query["timeoutSeconds"]),
        )
        while self._loop.time() < ends_at and not self._is_over:
            changed = self._changed
            for version, what, value in self._events:
                if version > since and value["kind"] == kind:
                    await response.write(json.dumps({"type": what, "object": value}).encode() + b"\n")
            since = max([since, *(version for version, _, _ in self._events)])
            try:
                await asyncio.wait_for(changed.wait(), ends_at - self._loop.time())
            except TimeoutError:
                break
        return response

    async def _read(self, request: web.Request) -> web.Response:
        kind, name = PLURALS[request.match_info["plural"]], request.match_info["name"]
        value = self._objects.get((kind, name))
        if kind == "Secret":
            self.secrets_read.append(name)
        if value is None:
            return web.json_response({"reason": "NotFound", "message": f"no {name}"}, status=404)
        return web.json_response(value)

    async def _apply(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        self.applied.append(body)
        value = copy.deepcopy(self._objects[PLURALS[request.match_info["plural"]], request.match_info["name"]])
        value["status"] = value.get("status", {}) | body["status"]
        self._put(value)
        return web.json_response(value)


def _merged(value: Any, fields: Any) -> Any:
    if not isinstance(fields, dict) or not isinstance(value, dict):
        return fields
    return value | {name: _merged(value.get(name, {}), each) for name, each in fields.items()}
