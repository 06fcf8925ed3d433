"""What batch systems have for clients: who waits in a queue and until when, and for how long those that run may go on.

Bridges say it again and again, each the whole of its pool; what one has not said for a while is forgotten, so a bridge
that died misleads nobody for long. Pure: times are on the engine's clock, and now is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from muster_spec.clients import ClientId

STALE_S = 180.0  # a bridge whose site doesn't answer looks up every 72 s, and may wait a minute for each answer
SLACK = 1.25  # of the time that a client usually takes: it varies


@dataclass(frozen=True, slots=True)
class Allocation:
    """One client's. None: nobody knows. `ends` is when its worker may be told to leave, `lasts_s` its whole length."""

    is_running: bool
    starts: float | None = None
    ends: float | None = None
    lasts_s: float | None = None

    def has_time_for(self, usual_s: float, deadline_s: float, now: float) -> bool:
        """Whether a round that is opened now finds this client still there: by its own pace (nan: not known), else by
        the deadline. In the first half of its allocation it always does, for it will never have more time.
        """
        if self.ends is None:
            return True
        needed_s = min(SLACK * usual_s, deadline_s) if usual_s == usual_s else deadline_s  # noqa: PLR0124 -- nan
        if self.lasts_s is not None:
            needed_s = min(needed_s, self.lasts_s / 2)
        return self.ends - now >= needed_s


@dataclass(frozen=True, slots=True)
class Queues:
    """All that the bridges have said, and when each said it."""

    allocations: Mapping[ClientId, Allocation] = field(default_factory=dict)
    reported: Mapping[str, float] = field(default_factory=dict)

    def told(self, pool: str, allocations: Mapping[ClientId, Allocation], now: float) -> Queues:
        """A bridge has spoken for its pool."""
        others = {client: each for client, each in self.allocations.items() if _pool_of(client) != pool}
        return Queues({**others, **allocations}, {**self.reported, pool: now})

    def fresh(self, now: float) -> Queues:
        """Without what was said too long ago."""
        stale = {pool for pool, when in self.reported.items() if now >= when + STALE_S}
        if not stale:
            return self
        kept = {client: each for client, each in self.allocations.items() if _pool_of(client) not in stale}
        return Queues(kept, {pool: when for pool, when in self.reported.items() if pool not in stale})

    @property
    def stale_at(self) -> float | None:
        """When the first of these reports is no longer believed."""
        return min(self.reported.values()) + STALE_S if self.reported else None

    def waiting(self, here: Mapping[ClientId, str]) -> Iterator[tuple[ClientId, Allocation]]:
        """Those that wait in a queue; whoever is here doesn't, whatever was said a moment ago."""
        for client, allocation in self.allocations.items():
            if not allocation.is_running and client not in here:
                yield client, allocation


def next_start(waiting: Iterable[tuple[ClientId, Allocation]]) -> float | None:
    """When the first of them is expected to begin."""
    return min((each.starts for _, each in waiting if each.starts is not None), default=None)


def _pool_of(client: ClientId) -> str:
    return client.rpartition("/")[0]
