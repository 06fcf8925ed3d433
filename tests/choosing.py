"""Requests to selectors whose clients have a known past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muster_coordinator.histories import Histories, RoundSeen, blank
from muster_coordinator.selection import Request
from muster_spec.clients import ClientId, client_id


def names(count: int, pool: str = "a") -> tuple[ClientId, ...]:
    return tuple(client_id(pool, index) for index in range(count))


def histories_of(count: int, rounds: Sequence[RoundSeen] = (), **columns: Any) -> Histories:
    """A table with these columns filled in; all else is not known."""
    table = blank(count).copy()
    for name, values in columns.items():
        table[name] = values
    return Histories(table, tuple(rounds))


def request_for(
    wanted: int, clients: Sequence[ClientId], histories: Histories, number: int = 5, seed: int = 1
) -> Request:
    """Everybody is here."""
    ordinals = {client: ordinal for ordinal, client in enumerate(clients)}
    return Request(seed, number, 0, wanted, clients, histories, ordinals)
