"""The client against a server that answers as told: what is tried again, what is an error, and what is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from muster_operator.api import Api
from muster_operator.connection import Connection, find_connection
from muster_operator.errors import ApiError, Conflict, NotFound, OperatorError, SettingsError, TryLater
from muster_operator.lease import Lease
from muster_operator.objects import Key, Object
from muster_operator.settings import read_settings

ANY = {"kind": "Lease", "metadata": {"name": "one", "namespace": "lab"}, "items": [{"metadata": {}}]}


class Server:
    """Answers with the given statuses in turn, then 200; keeps what it was asked."""

    def __init__(self, *statuses: int) -> None:
        self._statuses = list(statuses)
        self.asked: list[str] = []
        self.tokens: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path_qs}")
        self.tokens.append(request.headers.get("Authorization", ""))
        status = self._statuses.pop(0) if self._statuses else 200
        body = {"reason": "Because", "message": "told so"} if status >= 400 else ANY
        return web.json_response(body, status=status, headers={"Retry-After": "0"})

    async def serve(self, use: Callable[[Server], Awaitable[None]]) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            await use(self)
        finally:
            await runner.cleanup()


def ask(*statuses: int, connection: Connection | None = None) -> tuple[Server, OperatorError | None]:
    """One GET; what the server saw and what was raised."""
    server = Server(*statuses)
    raised: list[OperatorError] = []

    async def use(server: Server) -> None:
        api = Api(connection or Connection(server.url))
        try:
            await api.get("Job", "lab", "one")
        except OperatorError as error:
            raised.append(error)
        finally:
            await api.close()

    asyncio.run(server.serve(use))
    return server, raised[0] if raised else None


@pytest.mark.parametrize("status", [401, 429, 500, 503])
def test_a_busy_server_is_asked_again(status: int) -> None:
    server, error = ask(status)
    assert len(server.asked) == 2
    assert error is None


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (409, Conflict), (403, ApiError), (422, ApiError)])
def test_a_plain_no_is_not_asked_again(status: int, kind: type[ApiError]) -> None:
    server, error = ask(status)
    assert len(server.asked) == 1
    assert type(error) is kind
    assert "told so" in str(error)


def test_a_server_that_stays_away_is_an_error_to_try_later() -> None:
    server, error = ask(503, 503, 503, 503, 503)
    assert len(server.asked) == 4
    assert isinstance(error, TryLater)


def test_a_server_that_is_not_there_is_an_error_to_try_later() -> None:
    server, error = ask(connection=Connection("http://127.0.0.1:1"))
    assert server.asked == []
    assert isinstance(error, TryLater)


def test_paths_name_group_version_namespace_and_kind() -> None:
    server = Server()
    job: Object = {"kind": "Job", "metadata": {"name": "one", "namespace": "lab"}}
    service: Object = {"kind": "Service", "metadata": {"name": "one", "namespace": "lab"}}

    async def use(server: Server) -> None:
        api = Api(Connection(server.url))
        await api.create(job)
        await api.apply(service)
        await api.apply(job, "status")
        await api.patch(Key("Pod", "one"), "lab", "u", {})
        await api.delete(Key("Job", "one"), "lab", "u")
        assert (await api.list("Pod", None, "a=b"))[0]["kind"] == "Pod"
        await api.close()

    asyncio.run(server.serve(use))
    assert server.asked == [
        "POST /apis/batch/v1/namespaces/lab/jobs?fieldManager=muster-operator",
        "PATCH /api/v1/namespaces/lab/services/one?fieldManager=muster-operator&force=true",
        "PATCH /apis/batch/v1/namespaces/lab/jobs/one/status?fieldManager=muster-operator&force=true",
        "PATCH /api/v1/namespaces/lab/pods/one?fieldManager=muster-operator",
        "DELETE /apis/batch/v1/namespaces/lab/jobs/one",
        "GET /api/v1/pods?labelSelector=a%3Db",
    ]


def test_a_renewed_token_is_used_at_once(tmp_path: Path) -> None:
    token = tmp_path / "token"
    server = Server()

    async def use(server: Server) -> None:
        api = Api(Connection(server.url, token_file=token))
        for text in ("old\n", "new\n"):
            token.write_text(text)
            await api.get("Job", "lab", "one")
        await api.close()

    asyncio.run(server.serve(use))
    assert server.tokens == ["Bearer old", "Bearer new"]


def test_a_lease_that_another_took_is_not_renewed() -> None:
    """Of two who replace it, one is told of a conflict: the server's resourceVersion is the referee."""
    server = Server(200, 409)

    async def use(server: Server) -> None:
        api = Api(Connection(server.url))
        lease = Lease(api, "lab", "me", lambda: 0.0)
        assert await lease._try() is False
        await api.close()

    asyncio.run(server.serve(use))


# --- how it is told ---------------------------------------------------------------------------------------------------

IMAGES = {"MUSTER_COORDINATOR_IMAGE": "c", "MUSTER_WORKER_IMAGE": "w"}


def test_settings_are_read_from_the_environment() -> None:
    settings = read_settings(IMAGES | {"MUSTER_NAMESPACES": "a,b", "MUSTER_RESYNC_SECONDS": "7"})
    assert settings.namespaces == ("a", "b")
    assert settings.resync_s == 7
    assert read_settings(IMAGES).namespaces == ()


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "MUSTER_COORDINATOR_IMAGE"),
        ({"MUSTER_COORDINATOR_IMAGE": "c"}, "MUSTER_WORKER_IMAGE"),
        (IMAGES | {"MUSTER_PROBE_PORT": "x"}, "MUSTER_PROBE_PORT"),
        (IMAGES | {"MUSTER_RECONCILERS": "0"}, "MUSTER_RECONCILERS"),
        (IMAGES | {"MUSTER_WORKER_CERTIFICATE_MINUTES": "10081"}, "MUSTER_WORKER_CERTIFICATE_MINUTES"),
        (IMAGES | {"MUSTER_LOG_LEVEL": "loud"}, "MUSTER_LOG_LEVEL"),
    ],
)
def test_wrong_settings_are_named(environment: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        read_settings(environment)


def test_a_token_file_is_read_at_every_request(tmp_path: Path) -> None:
    path = tmp_path / "config"
    context = {"name": "a", "context": {"cluster": "c", "user": "u"}}
    cluster = {"name": "c", "cluster": {"server": "https://s"}}
    user = {"name": "u", "user": {"tokenFile": "token"}}
    whole = {"current-context": "a", "contexts": [context], "clusters": [cluster], "users": [user]}
    path.write_text(json.dumps(whole))
    (tmp_path / "token").write_text("first\n")
    connection = find_connection({"KUBECONFIG": str(path)})
    assert connection.current_token() == "first"
    (tmp_path / "token").write_text("second")
    assert connection.current_token() == "second"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "can't be read"),
        ("current-context: none", "names no server"),
        (
            json.dumps(
                {
                    "current-context": "a",
                    "contexts": [{"name": "a", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [{"name": "c", "cluster": {"server": "s"}}],
                    "users": [{"name": "u", "user": {"exec": {}}}],
                }
            ),
            "by a plugin",
        ),
    ],
)
def test_a_kubeconfig_that_cant_be_used_is_told_of(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(SettingsError, match=said):
        find_connection({"KUBECONFIG": str(path)})
