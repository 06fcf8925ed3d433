"""The end of a job, as sessions hear of it: whoever takes another's place is waited for as the other was."""

from __future__ import annotations

import asyncio

import pytest

from muster_coordinator.assembly import MachineClock
from muster_coordinator.inbox import Inbox
from muster_coordinator.lobby import Lobby
from muster_coordinator.sessions import JoinWish, Patience, Session, SessionTable

FOREVER_S = 1e6
WISH = JoinWish("worker", "p", (0,), confirms_end=True)


class Desk:
    """A lobby, whose news wait until somebody takes them."""

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.lobby = Lobby(SessionTable({"p": 2}, Patience()), self.inbox, MachineClock())

    def take_news(self) -> None:
        while posted := self.inbox.take(0):
            if posted.done:
                posted.done()

    def rejoin(self) -> asyncio.Task[Session]:
        return asyncio.create_task(self.lobby.join(WISH, (), "cpu"))

    def leave(self, patience_s: float = FOREVER_S) -> asyncio.Task[list[str]]:
        return asyncio.create_task(self.lobby.say_goodbye(frozenset(), patience_s))


async def settled() -> None:
    """Everything that can happen now has happened."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_session_in_anothers_place_is_expected_before_that_one_is_given_up() -> None:
    async def scene() -> None:
        desk = Desk()
        first = desk.rejoin()
        await settled()
        leaving = desk.leave()
        await settled()
        second = desk.rejoin()  # its stream broke under the last orders
        await settled()
        assert not leaving.done()
        desk.take_news()
        await first
        again = await second
        assert not leaving.done()
        desk.lobby.told(again)
        assert await asyncio.wait_for(leaving, 10) == []

    asyncio.run(scene())


@pytest.mark.parametrize("patience_s", [0.0, 0.01])
def test_who_has_not_confirmed_the_end_is_named_when_patience_is_over(patience_s: float) -> None:
    async def scene() -> None:
        desk = Desk()
        joining = desk.rejoin()
        await settled()
        desk.take_news()
        await joining
        assert await desk.leave(patience_s) == ["worker has not confirmed it"]

    asyncio.run(scene())
