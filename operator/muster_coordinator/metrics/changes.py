"""What each thing that the engine tells adds to the counters. Pure: a tally and an event in, a tally and changes out.

Labels are pools and never clients: a pool has a bounded number of them, a federation has not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

Details: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """Add to a counter, or put into a histogram."""

    family: str
    amount: float
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Tally:
    """Who has already failed in this attempt: whoever then is missing without having failed was too slow."""

    failed: frozenset[str] = frozenset()


Changed: TypeAlias = tuple[Tally, list[Change]]


def changes_of(tally: Tally, kind: str, details: Details) -> Changed:
    """What follows from one event; nothing from those that nobody counts."""
    rule = _RULES.get(kind)
    return rule(tally, details) if rule else (tally, [])


def _by_pool(family: str, clients: Iterable[str]) -> list[Change]:
    pools = Counter(pool_of(client) for client in clients)
    return [Change(family, count, (("pool", pool),)) for pool, count in sorted(pools.items())]


def pool_of(client: str) -> str:
    """``pool/index`` → ``pool``."""
    return client.rpartition("/")[0]


def _joined(tally: Tally, details: Details) -> Changed:
    return tally, _by_pool("muster_clients_joined", details["clients"])


def _lost(tally: Tally, details: Details) -> Changed:
    return tally, _by_pool("muster_clients_lost", details["clients"])


def _planned(tally: Tally, details: Details) -> Changed:
    return tally if details.get("more") else Tally(), _by_pool("muster_clients_asked", details["cohort"])


def _received(tally: Tally, details: Details) -> Changed:
    pool = (("pool", pool_of(details["client"])),)
    changes = [Change("muster_updates_received", 1, pool), Change("muster_update_bytes", details["bytes"], pool)]
    if details["trainMs"]:
        changes.append(Change("muster_client_train_seconds", details["trainMs"] / 1000, pool))
    return tally, changes


def _rejected(tally: Tally, details: Details) -> Changed:
    changes = _by_pool("muster_clients_failed", [details["client"]])
    return replace(tally, failed=tally.failed | {details["client"]}), changes


def _committed(tally: Tally, details: Details) -> Changed:
    missing = details["failed"].keys() - tally.failed
    slow = missing - set(details["queued"])
    if not details["round"]:  # the first model is no round
        return Tally(), []
    changes = [
        Change("muster_rounds_committed", 1),
        Change("muster_round_seconds", details["seconds"]),
        Change("muster_updates_used", details["used"]),
        *_by_pool("muster_stragglers", slow),
    ]
    return Tally(), changes


def _failed_attempt(tally: Tally, _details: Details) -> Changed:
    return tally, [Change("muster_round_attempts_failed", 1)]


def _warning(tally: Tally, _details: Details) -> Changed:
    return tally, [Change("muster_warnings", 1)]


_RULES: Mapping[str, Callable[[Tally, Details], Changed]] = {
    "joined": _joined,
    "lost": _lost,
    "planned": _planned,
    "received": _received,
    "rejected": _rejected,
    "committed": _committed,
    "failedAttempt": _failed_attempt,
    "warning": _warning,
}
