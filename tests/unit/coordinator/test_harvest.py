"""Which workers have brought nothing, and what the lobby says of them."""

from __future__ import annotations

import asyncio

from muster_coordinator.assembly import MachineClock
from muster_coordinator.harvest import Harvest
from muster_coordinator.inbox import Inbox
from muster_coordinator.lobby import Lobby
from muster_coordinator.orders import Answer
from muster_coordinator.records import AssignmentId
from muster_coordinator.sessions import JoinWish, Leasing, Patience, SessionTable
from muster_spec.clients import ClientId

A, B, C = (ClientId(f"p/{index}") for index in range(3))


def fruitless(harvest: Harvest) -> list[ClientId]:
    return [client for client in (A, B, C) if harvest.is_fruitless(client)]


def test_an_update_of_one_client_makes_its_workers_visit_worth_while() -> None:
    harvest = Harvest()
    harvest.came("one", [A, B])
    assert fruitless(harvest) == [A, B]  # nobody came for the third
    harvest.brought(B)
    assert fruitless(harvest) == []
    harvest.brought(C)
    assert fruitless(harvest) == []


def test_a_worker_that_joins_again_is_the_same_and_another_begins_anew() -> None:
    harvest = Harvest()
    harvest.came("one", [A, B])
    harvest.brought(A)
    harvest.came("one", [A, B, C])
    assert fruitless(harvest) == []
    harvest.came("two", [B])
    assert fruitless(harvest) == [B]


def test_the_lobby_tells_of_those_that_there_is_work_for() -> None:
    async def scene() -> None:
        busy = {A, B}
        inbox = Inbox()
        lobby = Lobby(SessionTable({"p": 3}, Patience(), Leasing(is_queued=busy.__contains__)), inbox, MachineClock())
        for index in (0, 1, 2):
            joining = asyncio.create_task(lobby.join(JoinWish(f"worker-{index}", "p", (index,)), (), "cpu"))
            await asyncio.sleep(0)
            while posted := inbox.take(0):
                if posted.done:
                    posted.done()
            await joining
        assert lobby.fruitless("p", 3) == [0, 1]
        lobby.wake(frozenset(), {AssignmentId(f"1.0.{A}"): Answer(accepted=True)})
        lobby.wake(frozenset(), {AssignmentId(f"1.0.{B}"): Answer(accepted=False)})
        assert lobby.fruitless("p", 3) == [1]

    asyncio.run(scene())
