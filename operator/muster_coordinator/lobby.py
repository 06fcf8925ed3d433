"""The server's side of sessions: who is connected, who waits for news, and telling the engine of comings and goings.

Everything here runs on the server's loop. The session table decides; this module turns its decisions into events for
the driver and into wake-ups for the streams that wait. An idle worker costs one waiting coroutine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections import defaultdict
from collections.abc import Sequence

from muster_coordinator.assignments import client_of
from muster_coordinator.events import ClientsJoined, ClientsLost
from muster_coordinator.harvest import Harvest
from muster_coordinator.inbox import Inbox
from muster_coordinator.orders import Answer
from muster_coordinator.ports import Clock
from muster_coordinator.records import AssignmentId
from muster_coordinator.sessions import JoinWish, Lease, Session, SessionTable
from muster_spec.clients import ClientId, client_id
from muster_spec.wording import counted

EXPIRY_CHECK_S = 1.0

log = logging.getLogger("muster.coordinator")


class Listener:
    """One Listen stream: its session's news arrive here."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.revision = 0  # of the newest orders sent
        self.given = ""  # the version of the model that went along with orders last
        self.is_current = True

    def dismiss(self) -> None:
        self.is_current = False
        self.news.set()


class Lobby:
    """Sessions, listeners, and those who wait for the engine's answer to an update."""

    def __init__(self, table: SessionTable, inbox: Inbox, clock: Clock) -> None:
        self._table = table
        self._inbox = inbox
        self._clock = clock
        self._listeners: dict[str, Listener] = {}
        self._waiting: defaultdict[AssignmentId, list[asyncio.Future[Answer]]] = defaultdict(list)
        self._harvest = Harvest()
        self._seen: set[ClientId] = set()
        self._told: set[str] = set()  # sessions that have heard that the job is over, as far as one can know
        self._untold: set[str] | None = None  # those that have not; None: nobody waits for them yet
        self._awaited: frozenset[ClientId] = frozenset()  # clients that have not come yet to hear it
        self._all_told = asyncio.Event()

    # --- sessions -----------------------------------------------------------------------------------------------------

    async def join(self, wish: JoinWish, held: tuple[AssignmentId, ...], device: str) -> Session:
        """Open a session, once the engine knows of it: so the first orders are whole. Raises JoinRefusedError."""
        joined = self._table.join(wish, secrets.token_hex(16), self._clock.now())
        self._harvest.came(wish.worker, joined.session.clients)
        self._expect(joined.session)  # before the one whose place it takes is given up: nobody leaves in between
        for session in joined.closed:
            self._dismiss(session)
            self._lose(session, f"{wish.worker} took its place", frozenset(joined.lost))
        self._tell_of_leases(joined.concerned)
        clients = joined.session.clients
        theirs = tuple(assignment for assignment in held if client_of(assignment) in clients)
        if clients:
            await self._post(ClientsJoined(wish.worker, clients, theirs, device))
        joined.session.heard_at = joined.session.broken_at = self._clock.now()
        return joined.session

    def _expect(self, session: Session) -> None:
        self._seen.update(session.clients)
        self._awaited -= self._seen
        if self._untold is not None:
            self._untold.add(session.id)

    async def _post(self, event: ClientsJoined) -> None:
        """Post an event and wait until the driver has done all that follows from it."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        self._inbox.post(event, lambda: _call_on(loop, done))
        await done.wait()

    def find(self, session_id: str) -> Session | None:
        return self._table.get(session_id, self._clock.now())

    def present(self, pool: str, clients: int) -> list[int]:
        """Which of the clients of a pool, so many in all, somebody acts for."""
        return [index for index in range(clients) if self._table.holder(client_id(pool, index))]

    def fruitless(self, pool: str, clients: int) -> list[int]:
        """Which of the clients of a pool there is work for, of which their newest worker has handed in nothing."""
        of_index = {index: client_id(pool, index) for index in range(clients)}
        return [
            index
            for index, client in of_index.items()
            if self._harvest.is_fruitless(client) and self._table.has_work(client)
        ]

    def count(self) -> int:
        """How many sessions there are."""
        return len(self._table)

    async def watch(self) -> None:
        """Notice, for as long as the server runs, who has not been heard of."""
        while True:
            await asyncio.sleep(EXPIRY_CHECK_S)
            for session, reason in self._table.expire(self._clock.now()):
                self._dismiss(session)
                self._lose(session, reason, frozenset(session.reserved))
            self._tell_of_leases(self._table.balance(self._clock.now()))

    def _lose(self, session: Session, reason: str, lost: frozenset[ClientId]) -> None:
        """Of these clients, the engine hears that nobody acts for them any more. Those that were to be fetched it still
        knows under the worker that they had.
        """
        due = session.lease.due if session.lease else ()
        for clients, worker in ((session.clients, session.worker), (due, "")):
            gone = tuple(client for client in clients if client in lost)
            if gone:
                self._inbox.post(ClientsLost(gone, reason, worker))

    def _tell_of_leases(self, sessions: Sequence[Session]) -> None:
        for session in sessions:
            log.info("%s: %s", session.worker, _news_of(session))
            if listener := self._listeners.get(session.id):
                listener.news.set()

    def _dismiss(self, session: Session) -> None:
        listener = self._listeners.pop(session.id, None)
        if listener is not None:
            listener.dismiss()
        self.told(session)

    # --- listening ----------------------------------------------------------------------------------------------------

    def open_stream(self, session: Session) -> Listener:
        """A new stream takes the place of one that may be dead without anybody having noticed."""
        if old := self._listeners.pop(session.id, None):
            old.dismiss()
        self._listeners[session.id] = listener = Listener()
        self._table.stream_opened(session)
        return listener

    def sent_revision(self, session: Session) -> int:
        """Of the newest orders that this session's stream carried; 0 without a stream."""
        listener = self._listeners.get(session.id)
        return listener.revision if listener else 0

    def close_stream(self, session: Session, listener: Listener) -> None:
        self._table.stream_closed(session, self._clock.now())
        if self._listeners.get(session.id) is listener:
            del self._listeners[session.id]

    def wake(self, changed: frozenset[ClientId] | None, answers: dict[AssignmentId, Answer]) -> None:
        """There is news for these clients, or for everybody: None, which is only said at the end of the job."""
        for assignment, answer in answers.items():
            self._answer(assignment, answer)
        for listener in self._listeners_of(changed):
            listener.news.set()

    def _listeners_of(self, changed: frozenset[ClientId] | None) -> list[Listener]:
        if changed is None:
            return list(self._listeners.values())
        sessions = {session.id for client in changed if (session := self._table.holder(client))}
        return [self._listeners[session] for session in sessions if session in self._listeners]

    async def say_goodbye(self, expected: frozenset[ClientId], patience_s: float) -> list[str]:
        """Wait until every worker has heard that the job is over, so that none waits out its lease; who has not.

        A coordinator that was restarted at the very end gives the workers of the `expected` clients time to come back.
        """
        self._untold = {session.id for session in self._table} - self._told
        self._awaited = expected - self._seen
        self._check_told()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._all_told.wait(), patience_s)
        silent = [f"{session.worker} has not confirmed it" for session in self._table if session.id in self._untold]
        return silent + [f"{client} has not come back" for client in sorted(self._awaited)]

    def told(self, session: Session) -> None:
        """This worker has heard that the job is over, or will not."""
        self._told.add(session.id)
        if self._untold is not None:
            self._untold.discard(session.id)
            self._check_told()

    def _check_told(self) -> None:
        if not self._untold and not self._awaited:
            self._all_told.set()

    # --- answers ------------------------------------------------------------------------------------------------------

    def expect_answer(self, assignment: AssignmentId) -> asyncio.Future[Answer]:
        """To be called before the update is posted; everybody who waits for this assignment hears the same."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[assignment].append(future)
        return future

    def _answer(self, assignment: AssignmentId, answer: Answer) -> None:
        if answer.accepted:
            self._harvest.brought(client_of(assignment))
        for future in self._waiting.pop(assignment, ()):
            if not future.done():
                future.set_result(answer)


def _news_of(session: Session) -> str:
    """What a worker is told of its leases, for people."""
    lease = session.lease or Lease(0, 0)
    asked = f"asked for {lease.handover.count} of its {len(session.clients)} clients" if lease.handover else ""
    due = f"{counted(len(lease.due), 'client')} to fetch" if lease.due else ""
    return ", ".join(filter(None, (asked, due))) or "keeps the clients that it has"


def _call_on(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(done.set)
