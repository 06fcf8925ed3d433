"""What becomes of a part that can't be made because its name is there: ours and not seen yet, or somebody else's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from muster_operator.actions import Create, Patch
from muster_operator.api import Api
from muster_operator.apply import Outcome, apply_actions
from muster_operator.connection import Connection
from muster_operator.objects import MANAGED_BY, MANAGER, Key, Object

SECRET: Object = {"kind": "Secret", "metadata": {"name": "digits-authority", "namespace": "lab"}}


async def outcome_of(found: list[Any], action: Create | Patch) -> tuple[Outcome, list[str]]:
    """Against a server that says that all is there already, and shows these; what it was asked for is returned, too."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(f"{request.method} {request.path}?{request.query.get('fieldSelector', '')}")
        if request.method == "GET":
            return web.json_response({"items": found})
        return web.json_response({"reason": "AlreadyExists", "message": "it is there"}, status=409)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    api = Api(Connection(f"http://127.0.0.1:{runner.addresses[0][1]}"))
    try:
        return await apply_actions(api, "lab", [action]), asked
    finally:
        await api.close()
        await runner.cleanup()


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        pytest.param([{"metadata": {}}], Outcome([], ["Secret/digits-authority"], was_stale=False), id="somebody's"),
        pytest.param(
            [{"metadata": {"labels": {MANAGED_BY: MANAGER}}}], Outcome([], [], was_stale=True), id="ours, unseen so far"
        ),
        pytest.param([], Outcome([], [], was_stale=True), id="gone by now"),
    ],
)
def test_who_has_the_name(found: list[Any], outcome: Outcome) -> None:
    told, asked = asyncio.run(outcome_of(found, Create(SECRET)))
    assert told == outcome
    assert asked[1:] == ["GET /api/v1/namespaces/lab/secrets?metadata.name=digits-authority"]


def test_a_change_of_what_is_there_asks_for_nothing_more() -> None:
    told, asked = asyncio.run(outcome_of([], Patch(Key("Secret", "digits-authority"), "uid", {})))
    assert told == Outcome([], [], was_stale=True)
    assert len(asked) == 1
