"""What workers have brought in: which clients' newest worker has come, and may have gone, without handing in anything.

A batch system that ends jobs before a training is over would see the same worker again and again, to no end. Its bridge
can't know, for workers hand in their work here. It lives on the server's loop, and as long as its coordinator.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from muster_spec.clients import ClientId


@dataclass(slots=True)
class Visit:
    """One worker process's, however often it joined, and whether it has handed in an update of any of its clients."""

    worker: str
    has_brought: bool = False


class Harvest:
    """Of each client, the visit of the worker that acts for it, or did last."""

    def __init__(self) -> None:
        self._visits: dict[ClientId, Visit] = {}

    def came(self, worker: str, clients: Iterable[ClientId]) -> None:
        """A worker has joined for these, perhaps again."""
        theirs = [*clients]
        visits = (self._visits.get(client) for client in theirs)
        visit = next((each for each in visits if each and each.worker == worker), Visit(worker))
        self._visits |= dict.fromkeys(theirs, visit)

    def brought(self, client: ClientId) -> None:
        """An update of this client was accepted."""
        if visit := self._visits.get(client):
            visit.has_brought = True

    def is_fruitless(self, client: ClientId) -> bool:
        """Whether a worker came for it, and nothing of that worker's has come in."""
        visit = self._visits.get(client)
        return visit is not None and not visit.has_brought
