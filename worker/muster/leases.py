"""The clients that a worker acts for, and how it lets go of some that others wait for.

Two threads meet here: the one that works takes a client in hand, the one that listens lets go of those that aren't in
hand and of which no update is held. So a client is never worked for in two places, and what is trained is handed in
by whoever trained it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from muster.orders import Handover
from muster.task import Client
from muster_spec.clients import ClientId


class Leases:
    """Thread-safe. `changed` is called when clients were let go and the coordinator has to hear of it."""

    def __init__(self, clients: Mapping[ClientId, Client] | None = None) -> None:
        self._lock = threading.Lock()
        self._clients = dict(clients or {})
        self._in_hand: ClientId | None = None
        self._is_fixed = False  # while the coordinator is told which they are
        self._left: set[ClientId] = set()  # let go since the last grant
        self._heeded: tuple[Handover, int] | None = None  # the newest request, and how many were let go for it
        self.changed: Callable[[], None] = lambda: None

    @property
    def clients(self) -> Mapping[ClientId, Client]:
        """Those that this worker acts for, the newest last."""
        with self._lock:
            return dict(self._clients)

    @contextmanager
    def fixed(self) -> Iterator[None]:
        """Nobody is let go meanwhile."""
        with self._lock:
            self._is_fixed = True
        try:
            yield
        finally:
            with self._lock:
                self._is_fixed = False

    def grant(self, clients: Mapping[ClientId, Client]) -> None:
        """It acts for these now, and for no others."""
        with self._lock:
            self._clients = dict(clients)
            self._left.clear()

    def has_left(self, client: ClientId) -> bool:
        """Whether it was let go, and the coordinator may not know yet."""
        with self._lock:
            return client in self._left

    @contextmanager
    def hand(self, client: ClientId) -> Iterator[Client | None]:
        """Work for a client: it stays until this is over. None if this worker doesn't act for it, or no longer."""
        with self._lock:
            found = self._clients.get(client)
            self._in_hand = client if found else None
        try:
            yield found
        finally:
            with self._lock:
                self._in_hand = None

    def let_go(self, handover: Handover | None, release: Callable[[ClientId], bool]) -> bool:
        """Whether any was let go of those that are asked for. `release` forgets a client, or says that it can't."""
        with self._lock:
            gone = self._let_go(handover, release) if handover and not self._is_fixed else 0
        if gone:
            self.changed()
        return gone > 0

    def _let_go(self, handover: Handover, release: Callable[[ClientId], bool]) -> int:
        before = self._heeded[1] if self._heeded and self._heeded[0] is handover else 0
        gone = 0
        for client in handover.clients:
            is_there = client in self._clients and client != self._in_hand
            if before + gone < handover.count and is_there and release(client):
                del self._clients[client]
                self._left.add(client)
                gone += 1
        self._heeded = (handover, before + gone)
        return gone
