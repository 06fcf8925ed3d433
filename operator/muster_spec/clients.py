"""Names of clients: ``pool/index``, the same in every round, restart and requeue."""

from __future__ import annotations

from typing import NewType

ClientId = NewType("ClientId", str)


def client_id(pool: str, index: int) -> ClientId:
    """The name of one client of a pool."""
    return ClientId(f"{pool}/{index}")


def split_client_id(client: ClientId) -> tuple[str, int]:
    """The pool and the index of a client."""
    pool, _, index = client.rpartition("/")
    return pool, int(index)
