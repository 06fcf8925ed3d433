"""What is wanted from each client, whole, at any moment: the driver writes it, the server reads it out to workers.

Level-triggered: there are no commands that could be lost, only a state that a worker is told in full whenever it
changed. So the book holds plain data with a revision, and says which clients changed; waking their listeners is the
server's business. The driver's thread and the server's loop share it under one lock, held for microseconds.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from muster_coordinator.instructions import OrderEvaluation, OrderInitialisation, OrderTraining
from muster_coordinator.records import AssignmentId
from muster_spec.clients import ClientId

Order = OrderTraining | OrderInitialisation | OrderEvaluation

SETTLEMENTS_KEPT = 16  # per client; it hears of the newest, and of all it still holds whenever it joins


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of an update."""

    assignment: AssignmentId
    used: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the engine says to an update that was handed in."""

    accepted: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Everything that is wanted from one worker."""

    revision: int
    orders: tuple[Order, ...]
    fates: tuple[Fate, ...]
    finished: bool
    reason: str
    committed: int


class Orders(Protocol):
    """What the driver needs of the book."""

    def order(self, order: Order) -> None: ...

    def withdraw(self, client: ClientId, assignment: AssignmentId) -> None: ...

    def answer(self, client: ClientId, assignment: AssignmentId, answer: Answer) -> None: ...

    def settle(self, client: ClientId, fate: Fate) -> None: ...

    def committed(self, number: int) -> None: ...

    def finish(self, reason: str) -> None: ...

    def flush(self) -> None:
        """Everything said since the last time may be read out."""


class Wake(Protocol):
    """Called by `flush` with whom to tell, and the answers that submitters wait for."""

    def __call__(self, changed: frozenset[ClientId] | None, answers: dict[AssignmentId, Answer]) -> None: ...


@dataclass(slots=True)
class _Page:
    """One client's part of the book."""

    revision: int = 0
    orders: dict[AssignmentId, Order] = field(default_factory=dict)
    accepted: set[AssignmentId] = field(default_factory=set)
    fates: OrderedDict[AssignmentId, Fate] = field(default_factory=OrderedDict)


class OrderBook:
    """The orders of all clients. `wake` gets None for everybody."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._pages: dict[ClientId, _Page] = {}
        self._revision = 1
        self._is_finished = False
        self._finished_at = 0
        self._reason = ""
        self._committed = 0
        self._changed: set[ClientId] = set()
        self._answers: dict[AssignmentId, Answer] = {}

    # --- written by the driver ----------------------------------------------------------------------------------------

    def order(self, order: Order) -> None:
        with self._lock:
            page = self._turn_to(order.client)
            page.orders[order.assignment] = order

    def withdraw(self, client: ClientId, assignment: AssignmentId) -> None:
        with self._lock:
            page = self._turn_to(client)
            page.orders.pop(assignment, None)
            page.accepted.discard(assignment)

    def answer(self, client: ClientId, assignment: AssignmentId, answer: Answer) -> None:
        """An accepted update stays wanted: a worker that lost the answer offers it again, and hears the same."""
        with self._lock:
            self._answers[assignment] = answer
            if answer.accepted:
                self._page(client).accepted.add(assignment)

    def settle(self, client: ClientId, fate: Fate) -> None:
        with self._lock:
            page = self._turn_to(client)
            page.orders.pop(fate.assignment, None)
            page.accepted.discard(fate.assignment)
            page.fates[fate.assignment] = fate
            # Who offers it at this moment must not wait for another answer.
            self._answers.setdefault(fate.assignment, Answer(fate.used, fate.reason))
            page.fates.move_to_end(fate.assignment)
            if len(page.fates) > SETTLEMENTS_KEPT:
                page.fates.popitem(last=False)

    def committed(self, number: int) -> None:
        """Said along with whatever comes next: it wakes nobody by itself."""
        with self._lock:
            self._committed = number

    def finish(self, reason: str) -> None:
        with self._lock:
            self._is_finished = True
            self._reason = reason

    def flush(self) -> None:
        with self._lock:
            changed = self._number()
            answers, self._answers = self._answers, {}
        if changed is None or changed or answers:
            self._wake(changed, answers)

    # --- read by the server -------------------------------------------------------------------------------------------

    def notice(self, clients: Iterable[ClientId]) -> Notice:
        """What is wanted from a worker that acts for these clients."""
        with self._lock:
            pages = [self._pages[client] for client in clients if client in self._pages]
            return Notice(
                revision=max([self._finished_at, 1, *(page.revision for page in pages)]),
                orders=tuple(order for page in pages for order in page.orders.values()),
                fates=tuple(fate for page in pages for fate in page.fates.values()),
                finished=self._is_finished,
                reason=self._reason,
                committed=self._committed,
            )

    def revision(self, clients: Iterable[ClientId]) -> int:
        with self._lock:
            pages = [self._pages[client].revision for client in clients if client in self._pages]
            return max([self._finished_at, 1, *pages])

    def is_queued(self, client: ClientId) -> bool:
        """Whether there is work for this client that has not come back."""
        with self._lock:
            page = self._pages.get(client)
            return page is not None and bool(page.orders.keys() - page.accepted)

    def wanted(self, client: ClientId, assignment: AssignmentId) -> Order | None:
        """The order behind this assignment, if its work is still wanted."""
        with self._lock:
            page = self._pages.get(client)
            return page.orders.get(assignment) if page else None

    def is_accepted(self, client: ClientId, assignment: AssignmentId) -> bool:
        with self._lock:
            page = self._pages.get(client)
            return page is not None and assignment in page.accepted

    def fate(self, client: ClientId, assignment: AssignmentId) -> Fate | None:
        with self._lock:
            page = self._pages.get(client)
            return page.fates.get(assignment) if page else None

    def _number(self) -> frozenset[ClientId] | None:
        """Give everything said since the last time one revision; who is concerned, None for everybody."""
        changed = frozenset(self._changed)
        self._changed.clear()
        if changed or (self._is_finished and not self._finished_at):
            self._revision += 1
        for client in changed:
            self._pages[client].revision = self._revision
        if self._is_finished and not self._finished_at:
            self._finished_at = self._revision
            return None
        return changed

    def _page(self, client: ClientId) -> _Page:
        return self._pages.setdefault(client, _Page())

    def _turn_to(self, client: ClientId) -> _Page:
        page = self._page(client)
        self._changed.add(client)
        return page
