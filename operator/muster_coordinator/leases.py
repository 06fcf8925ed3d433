"""Which worker should act for which clients of a pool, where workers lease them: who gets some, who has too many.

Pure: the session table says who is here and asks. No client is taken from a worker: who has too many is asked, and lets
go of those that it is not at work for. A plan that is asked for again with nothing changed wants nothing new.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from muster_spec.clients import ClientId


@dataclass(frozen=True, slots=True)
class Holder:
    """A worker that leases clients: those that it has, the newest last, and what it can take.

    `share` is how many it takes while other workers may still come, `asks` those that it acted for before, `allowed`
    those that its certificate speaks for (None: all).
    """

    name: str
    clients: tuple[ClientId, ...]
    capacity: int
    share: int
    asks: frozenset[ClientId] = frozenset()
    allowed: frozenset[ClientId] | None = None

    def may_have(self, client: ClientId) -> bool:
        return self.allowed is None or client in self.allowed


@dataclass(frozen=True, slots=True)
class Handover:
    """Let go of `count` of these, rather of the first ones."""

    count: int
    clients: tuple[ClientId, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """How things are in one pool.

    `free` are to be given away now, and `unclaimed` ones up to everybody's share, since more workers may still come;
    `kept` more wait for the worker that they had. `queued` clients have work that is not done; where `moves_freely`,
    what they keep between rounds outlives a worker, so that one may do the work of another.
    """

    holders: tuple[Holder, ...]
    free: tuple[ClientId, ...] = ()
    unclaimed: tuple[ClientId, ...] = ()
    kept: int = 0
    moves_freely: bool = False
    queued: AbstractSet[ClientId] = frozenset()


@dataclass(frozen=True, slots=True)
class Leases:
    """What is to change, by the names of holders."""

    gifts: Mapping[str, tuple[ClientId, ...]] = field(default_factory=dict)
    handovers: Mapping[str, Handover] = field(default_factory=dict)


def plan_leases(standing: Standing) -> Leases:
    """Free clients to whoever has fewest; and whom to ask for some, so that all have as many, or as much to do."""
    if not standing.holders:
        return Leases()
    totals = Counter({holder.name: len(holder.clients) for holder in standing.holders})
    nobodys = len(standing.free) + len(standing.unclaimed)
    targets = even_shares(standing.holders, totals, totals.total() + nobodys)
    gifts = _gifts(standing, targets)
    lacking = {
        holder.name: targets[holder.name] - totals[holder.name] - len(gifts.get(holder.name, ()))
        for holder in standing.holders
    }
    left = standing.kept + nobodys - sum(map(len, gifts.values()))
    if standing.moves_freely:
        lacking = _far_below(targets, lacking)
    return Leases(gifts, _work_to_share(standing, gifts) or _handovers(standing, lacking, left))


def even_shares(holders: Iterable[Holder], has: Mapping[str, int], total: int) -> dict[str, int]:
    """`total` over all, as evenly as their capacities allow. What can't be divided stays with who has most."""
    rest, left, shares = sorted(holders, key=lambda one: one.capacity), total, dict[str, int]()
    while rest and rest[0].capacity <= left // len(rest):
        smallest = rest.pop(0)
        shares[smallest.name] = smallest.capacity
        left -= smallest.capacity
    level, extra = divmod(left, len(rest)) if rest else (0, 0)
    for place, holder in enumerate(sorted(rest, key=lambda one: -has[one.name])):
        shares[holder.name] = level + (place < extra)
    return shares


# --- giving -----------------------------------------------------------------------------------------------------------


def _gifts(standing: Standing, targets: Mapping[str, int]) -> dict[str, tuple[ClientId, ...]]:
    """Free clients: work to who has least to do, others to who asks for them, then to who lacks most."""
    given = {holder.name: list[ClientId]() for holder in standing.holders}
    left = dict.fromkeys(standing.free)
    if standing.moves_freely:
        _give_work(standing, given, left)
    _give(standing.holders, targets, given, left)
    shares = {holder.name: min(targets[holder.name], max(holder.share, 1)) for holder in standing.holders}
    _give(standing.holders, shares, given, dict.fromkeys(standing.unclaimed))
    return {name: tuple(clients) for name, clients in given.items() if clients}


def _give(
    holders: Sequence[Holder],
    targets: Mapping[str, int],
    given: Mapping[str, list[ClientId]],
    left: dict[ClientId, None],
) -> None:
    room = {one.name: targets[one.name] - len(one.clients) - len(given[one.name]) for one in holders}
    for holder in holders:
        for client in sorted(holder.asks & left.keys()):
            if room[holder.name] > 0 and holder.may_have(client):
                given[holder.name].append(client)
                room[holder.name] -= 1
                del left[client]
    _spread(holders, room, given, list(left))


def _give_work(standing: Standing, given: Mapping[str, list[ClientId]], left: dict[ClientId, None]) -> None:
    loads = {
        one.name: (sum(client in standing.queued for client in one.clients), len(one.clients))
        for one in standing.holders
    }
    for client in [client for client in left if client in standing.queued]:
        able = [
            one
            for one in standing.holders
            if one.may_have(client) and len(one.clients) + len(given[one.name]) < one.capacity
        ]
        if able:
            name = min(able, key=lambda one: loads[one.name]).name
            given[name].append(client)
            loads[name] = (loads[name][0] + 1, loads[name][1] + 1)
            del left[client]


def _spread(
    holders: Sequence[Holder], room: Mapping[str, int], given: Mapping[str, list[ClientId]], left: Sequence[ClientId]
) -> None:
    lacking = [(-room[one.name], place) for place, one in enumerate(holders) if room[one.name] > 0]
    heapq.heapify(lacking)
    for client in left:
        refused = []
        while lacking:
            lack, place = heapq.heappop(lacking)
            if holders[place].may_have(client):
                given[holders[place].name].append(client)
                if lack + 1 < 0:
                    heapq.heappush(lacking, (lack + 1, place))
                break
            refused.append((lack, place))
        for each in refused:
            heapq.heappush(lacking, each)


# --- asking back ------------------------------------------------------------------------------------------------------


def _far_below(targets: Mapping[str, int], lacking: Mapping[str, int]) -> dict[str, int]:
    """Where work moves to whoever is idle, only a worker with less than half of its share is worth a move at rest."""
    return {name: lack if lack < 0 or 2 * lack > targets[name] else 0 for name, lack in lacking.items()}


def _handovers(standing: Standing, lacking: Mapping[str, int], left: int) -> dict[str, Handover]:
    """Who has too many, and for how many somebody waits whom none of the clients that are left will do for."""
    takers = [holder for holder in standing.holders if lacking[holder.name] > 0]
    wanted = sum(lacking[holder.name] for holder in takers) - left
    found = {}
    for holder in sorted(standing.holders, key=lambda one: lacking[one.name]):
        count = min(wanted, -lacking[holder.name])
        candidates = _candidates(holder.clients, takers) if count > 0 else ()
        if candidates:
            found[holder.name] = Handover(min(count, len(candidates)), candidates)
            wanted -= found[holder.name].count
    return found


def _work_to_share(standing: Standing, gifts: Mapping[str, tuple[ClientId, ...]]) -> dict[str, Handover]:
    """Who has a queue, and for how many of it somebody sits idle: where work may move."""
    if not standing.moves_freely:
        return {}
    queues = {
        holder.name: tuple(
            client for client in (*holder.clients, *gifts.get(holder.name, ())) if client in standing.queued
        )
        for holder in standing.holders
    }
    lengths = {name: len(queue) for name, queue in queues.items()}
    targets = even_shares(standing.holders, lengths, sum(lengths.values()))
    idle = [holder for holder in standing.holders if not queues[holder.name] and len(holder.clients) < holder.capacity]
    wanted = len(idle)
    found = {}
    for holder in sorted(standing.holders, key=lambda one: -lengths[one.name]):
        count = min(wanted, lengths[holder.name] - max(targets[holder.name], 1))
        candidates = _candidates(queues[holder.name], idle) if count > 0 else ()
        if candidates:
            found[holder.name] = Handover(min(count, len(candidates)), candidates)
            wanted -= found[holder.name].count
    return found


def _candidates(clients: Sequence[ClientId], takers: Sequence[Holder]) -> tuple[ClientId, ...]:
    """Those that somebody may have: first whom they ask for, then the newest, of whom the least is known here."""
    asked = frozenset[ClientId]().union(*(taker.asks for taker in takers))
    newest_first = [client for client in reversed(clients) if any(taker.may_have(client) for taker in takers)]
    return tuple(sorted(newest_first, key=lambda client: client not in asked))
