"""When a watch counts as dead, what happens to a token that isn't taken, and a lease that can't be had or renewed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from muster_operator.api import Api
from muster_operator.connection import Connection
from muster_operator.handlers import Patience, watched
from muster_operator.lease import Lease
from muster_operator.watches import DEAD_S, LASTS_S, Watches

JOBS, PODS = "/apis/muster.dev/v1alpha1/federatedjobs", "/api/v1/pods"
KINDS: dict[str, tuple[str, str | None]] = {JOBS: ("FederatedJob", None), PODS: ("Pod", None)}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def with_server(
    answer: Callable[[web.Request], Awaitable[web.Response]], use: Callable[[str], Awaitable[None]]
) -> None:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        await use(f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        await runner.cleanup()


def after_requests(clock: Clock, *requests: str, status: int = 200) -> str:
    """The silence, two minutes after these requests, which took a minute each."""
    told: list[str] = []

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"metadata": {}, "items": []}, status=status)

    async def use(url: str) -> None:
        watches = Watches(Connection(url), KINDS, clock)
        async with watches.session() as session:
            for path in requests:
                clock.now += 60
                await (await session.get(url + path)).release()
            told.append(watches.silence())

    asyncio.run(with_server(answer, use))
    return told[0]


def test_watches_that_are_opened_again_and_again_live() -> None:
    assert after_requests(Clock(), f"{JOBS}?watch=true", f"{PODS}?watch=true", f"{JOBS}?watch=true") == ""


@pytest.mark.parametrize(
    "requests",
    [
        (f"{JOBS}?watch=true", f"{JOBS}?watch=true"),
        (f"{JOBS}?watch=true", f"{PODS}?limit=500", f"{JOBS}?watch=true"),  # a list is no watch
    ],
)
def test_of_two_watches_the_dead_one_is_named(requests: tuple[str, ...]) -> None:
    assert after_requests(Clock(), *requests) == f"no watch {PODS} for {60 * len(requests)} s"


def test_a_watch_that_is_refused_is_no_watch() -> None:
    assert after_requests(Clock(), f"{JOBS}?watch=true", f"{JOBS}?watch=true", status=403).startswith("no watch")


def test_a_watch_has_more_time_than_it_may_last() -> None:
    clock = Clock()
    watches = Watches(Connection("http://nowhere"), KINDS, clock)
    clock.now += DEAD_S
    assert watches.silence() == ""
    assert DEAD_S > 2 * LASTS_S
    clock.now += 1
    assert watches.silence() != ""


def test_every_kind_is_watched_in_every_namespace() -> None:
    everywhere, some = watched(()), watched(("a", "b"))
    assert everywhere[JOBS] == ("FederatedJob", None)
    assert some["/api/v1/namespaces/b/pods"] == ("Pod", "b")
    assert len(some) == 2 * len(everywhere)


def test_of_a_kind_in_two_namespaces_the_longer_silence_counts() -> None:
    clock = Clock()
    watches = Watches(Connection("http://nowhere"), {"/a": ("Pod", "a"), "/b": ("Pod", "b")}, clock)
    clock.now += 7
    assert watches.silences() == {"Pod": 7}


def test_an_expired_token_is_waited_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    token = tmp_path / "token"
    token.write_text("expired")
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        token.write_text("new")
        return web.json_response({}, status=401 if seen[-1] == "Bearer expired" else 200)

    async def use(url: str) -> None:
        watches = Watches(Connection(url, token_file=token), KINDS, Clock())
        async with watches.session() as session:
            assert (await session.get(url + JOBS)).status == 200

    asyncio.run(with_server(answer, use))
    assert seen == ["Bearer expired", "Bearer new"]
    assert "doesn't take our token" in caplog.text


def test_kopf_never_gives_up() -> None:
    waits: Iterator[float] = iter(Patience())
    assert max(next(waits) for _ in range(1000)) < 10


def test_lists_are_read_page_by_page_and_kopf_gets_empty_ones() -> None:
    told: list[tuple[str, str, bool]] = []
    left = {"after-next", "after-"}

    async def answer(request: web.Request) -> web.Response:
        more = "" if "continue" in request.query else "next"
        items = [{"metadata": {"uid": f"after-{more}", "name": f"after-{more}"}} for _ in left & {f"after-{more}"}]
        page = {"kind": "JobList", "metadata": {"continue": more}, "items": items}
        return web.json_response(page if request.path == JOBS else {"metadata": {}, "items": None})

    async def use(url: str) -> None:
        watches = Watches(Connection(url), KINDS, Clock())
        watches.deliver = lambda kind, body, is_gone: told.append((kind, body["metadata"]["name"], is_gone))
        watches.recall = lambda _kind, uid: {"metadata": {"uid": uid, "name": uid}}
        async with watches.session() as session:
            first = await (await session.get(url + JOBS)).json()
            assert first == {"kind": "JobList", "metadata": {"continue": "next"}, "items": []}
            await session.get(url + PODS)
            assert not watches.census.is_over.is_set()
            await session.get(f"{url}{JOBS}?continue=next")
            assert watches.census.is_over.is_set()
            assert told == [("FederatedJob", "after-next", False), ("FederatedJob", "after-", False)]
            left.discard("after-next")
            told.clear()
            await session.get(url + JOBS)
            await session.get(f"{url}{JOBS}?continue=next")
            assert told == [("FederatedJob", "after-", False), ("FederatedJob", "after-next", True)]

    asyncio.run(with_server(answer, use))


def test_what_isnt_a_list_of_ours_is_left_to_kopf() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"versions": ["v1"]})

    async def use(url: str) -> None:
        watches = Watches(Connection(url), KINDS, Clock())
        async with watches.session() as session:
            assert await (await session.get(f"{url}/api")).json() == {"versions": ["v1"]}

    asyncio.run(with_server(answer, use))


# --- the lease --------------------------------------------------------------------------------------------------------


def test_a_lease_is_waited_for_while_the_api_server_is_away(caplog: pytest.LogCaptureFixture) -> None:
    left = [503] * 4  # as often as one request is tried

    async def answer(request: web.Request) -> web.Response:
        status = left.pop() if left else {"GET": 404}.get(request.method, 201)
        return web.json_response({}, status=status, headers={"Retry-After": "0"})

    async def use(url: str) -> None:
        api = Api(Connection(url))
        await Lease(api, "lab", "me", Clock()).acquire()
        await api.close()

    asyncio.run(with_server(answer, use))
    assert "can't be taken: 503" in caplog.text


def test_a_lease_is_given_up_in_time_though_its_renewal_hangs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    times = iter([0.0, 19.8, 19.9, 20.1])

    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(3600)
        return web.Response()

    async def use(url: str) -> None:
        api = Api(Connection(url))
        async with asyncio.timeout(10):
            await Lease(api, "lab", "me", lambda: next(times)).hold()
        await api.close()

    asyncio.run(with_server(answer, use))
    assert "no answer in time" in caplog.text
    assert "couldn't be renewed for 20 s" in caplog.text
