"""Who acts for which client: leases of clients to worker sessions.

The server asks this table on every call, and tells the engine who has come and who is gone. It decides with the time
it is given and knows no network. A worker either names the clients it is for, and then the newest worker has them (a
requeued SLURM job replaces the one that hangs), or it leases as many free ones as it can. Leases move between workers
that can do that: leases.py says which ones, and here they are carried out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from muster_coordinator.leases import Handover, Holder, Standing, plan_leases
from muster_coordinator.logtails import Budget
from muster_spec.clients import ClientId, client_id, split_client_id
from muster_spec.types import ResolvedJob
from muster_wire.trust.identity import Identity
from muster_wire.version import CURRENT, Version


@dataclass(frozen=True, slots=True)
class JoinWish:
    """What a worker asks for. With a capacity the indices are only preferred; without one they are its own."""

    worker: str
    pool: str
    indices: tuple[int, ...] = ()
    capacity: int = 0
    identity: Identity | None = None  # what its certificate says; None where the channel knows no certificates
    version: Version = CURRENT  # of the wire, that both will speak
    confirms_end: bool = False
    leases_move: bool = False  # it hands clients over and fetches others, and waits without any
    share: int = 0  # how many to take while others may still come for the rest; 0: as many as it can


@dataclass(frozen=True, slots=True)
class Patience:
    """After how many seconds a session counts as lost, and for how long clients without a worker wait for one."""

    silent_s: float = 10.0  # nothing heard, though its stream looks open
    broken_s: float = 5.0  # its stream broke and it has not come back
    return_s: float = 6.0  # for the worker that they had before the coordinator was restarted
    come_s: float = 10.0  # for a worker more, since the last new one came


@dataclass(frozen=True, slots=True)
class Leasing:
    """How a table gives clients away.

    After a restart (`began` then) workers come back with what they had. `moves_freely` names the pools whose clients'
    state outlives a worker, `is_queued` says whether there is work for a client that has not come back.
    """

    began: float = 0.0
    is_restarted: bool = False
    moves_freely: AbstractSet[str] = frozenset()
    is_queued: Callable[[ClientId], bool] = lambda _: False


class JoinRefusedError(Exception):
    """This wish can't be granted: `retry` says whether waiting may help."""

    def __init__(self, reason: str, *, retry: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry = retry


@dataclass(slots=True)
class Lease:
    """Of a worker whose clients may change: what it can take, what waits for it to fetch, what it is asked for."""

    capacity: int
    share: int
    asks: frozenset[ClientId] = frozenset()  # it acted for them before, and somebody else does now
    due: tuple[ClientId, ...] = ()
    handover: Handover | None = None
    changes: int = 0  # of the last two: each is news


@dataclass(slots=True)
class Session:
    """One worker process, connected or lately so."""

    id: str
    worker: str
    pool: str
    clients: tuple[ClientId, ...]  # the newest last
    heard_at: float
    streams: int = 0
    broken_at: float | None = None
    displaced: set[str] = field(default_factory=set)  # workers that this one replaced: they may not take it back
    identity: Identity | None = None  # only calls with this one may use the session
    version: Version = CURRENT
    confirms_end: bool = False  # its worker says when it has heard that the job is over; of others one hopes so
    budget: Budget = field(default_factory=Budget)  # of its log
    lease: Lease | None = None

    @property
    def reserved(self) -> tuple[ClientId, ...]:
        """The clients that nobody else may have."""
        return (*self.clients, *(self.lease.due if self.lease else ()))

    def lost_because(self, now: float, patience: Patience) -> str | None:
        if self.broken_at is not None and now - self.broken_at >= patience.broken_s:
            return f"its connection broke {now - self.broken_at:.0f} s ago"
        if now - self.heard_at >= patience.silent_s:
            return f"not heard of for {now - self.heard_at:.0f} s"
        return None


@dataclass(frozen=True, slots=True)
class Joined:
    """A wish granted, the clients that nobody acts for any more because of it, and who else has to hear of it."""

    session: Session
    closed: tuple[Session, ...]
    lost: tuple[ClientId, ...]
    concerned: tuple[Session, ...] = ()


class SessionTable:
    """All sessions of one job."""

    def __init__(self, pools: Mapping[str, int], patience: Patience, leasing: Leasing | None = None) -> None:
        self._pools = dict(pools)
        self._patience = patience
        self._leasing = leasing or Leasing()
        self._sessions: dict[str, Session] = {}
        self._holders: dict[ClientId, Session] = {}
        self._orphans: set[ClientId] = set()  # had a worker, which nobody has to wait for
        self._last_arrival: dict[str, float] = {}  # of a new worker that leases, by pool

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def __len__(self) -> int:
        return len(self._sessions)

    def join(self, wish: JoinWish, session_id: str, now: float) -> Joined:
        """Open a session for the clients that this worker may have. Raises JoinRefusedError."""
        clients = self._grant(wish)
        session = Session(
            session_id,
            wish.worker,
            wish.pool,
            clients,
            heard_at=now,
            broken_at=now,
            identity=wish.identity,
            version=wish.version,
            confirms_end=wish.confirms_end,
            lease=_lease_of(wish, clients),
        )
        closed = [s for s in self if _is_same_worker(s, wish) or set(s.reserved) & set(clients)]
        freed = {client for other in closed for client in other.reserved}
        for other in closed:
            session.displaced |= other.displaced | {other.worker}
            self._remove(other)
        if wish.worker not in session.displaced:
            self._last_arrival[wish.pool] = now
        session.displaced.discard(wish.worker)
        self._sessions[session.id] = session
        self._hold(session, clients)
        concerned = self._share_out(wish.pool, now)
        _fetch(session)
        lost = tuple(sorted(client for client in freed if client not in self._holders))
        return Joined(session, tuple(closed), lost, tuple(each for each in concerned if each is not session))

    def get(self, session_id: str, now: float) -> Session | None:
        """The session of this name, which has just been heard of."""
        session = self._sessions.get(session_id)
        if session is not None:
            session.heard_at = now
        return session

    def holder(self, client: ClientId) -> Session | None:
        """Who acts for this client now."""
        return self._holders.get(client)

    def has_work(self, client: ClientId) -> bool:
        """Whether this client is asked for something that has not come back."""
        return self._leasing.is_queued(client)

    def stream_opened(self, session: Session) -> None:
        session.streams += 1
        session.broken_at = None

    def stream_closed(self, session: Session, now: float) -> None:
        session.streams -= 1
        if session.streams == 0:
            session.broken_at = now

    def expire(self, now: float) -> list[tuple[Session, str]]:
        """Close every session whose worker is lost, with the reason."""
        lost = [(session, reason) for session in self if (reason := session.lost_because(now, self._patience))]
        for session, _ in lost:
            self._remove(session)
        return lost

    def balance(self, now: float) -> list[Session]:
        """Let leases move as they should by now; the sessions that have to hear of it."""
        return [session for pool in self._pools for session in self._share_out(pool, now)]

    def _hold(self, session: Session, clients: tuple[ClientId, ...]) -> None:
        self._holders.update(dict.fromkeys(clients, session))
        self._orphans.difference_update(clients)

    def _remove(self, session: Session) -> None:
        del self._sessions[session.id]
        for client in session.reserved:
            if self._holders.get(client) is session:
                del self._holders[client]
                self._orphans.add(client)

    # --- leases that move ---------------------------------------------------------------------------------------------

    def _share_out(self, pool: str, now: float) -> list[Session]:
        movers = {session.id: session for session in self if session.pool == pool and session.lease}
        if not movers:
            return []
        leases = plan_leases(self._standing(pool, movers, now))
        return [
            session
            for name, session in movers.items()
            if self._change(session, leases.gifts.get(name, ()), leases.handovers.get(name))
        ]

    def _standing(self, pool: str, movers: Mapping[str, Session], now: float) -> Standing:
        everybody = [client_id(pool, index) for index in range(self._pools[pool])]
        nobodys = [client for client in everybody if client not in self._holders]
        orphans = tuple(client for client in nobodys if client in self._orphans)
        others = tuple(client for client in nobodys if client not in self._orphans)
        is_awaited = self._leasing.is_restarted and now < self._leasing.began + self._patience.return_s
        is_early = now < self._last_arrival[pool] + self._patience.come_s
        return Standing(
            tuple(map(self._holder, movers.values())),
            free=orphans if is_awaited or is_early else tuple(nobodys),
            unclaimed=others if is_early and not is_awaited else (),
            kept=len(others) if is_awaited else 0,
            moves_freely=pool in self._leasing.moves_freely,
            queued=self._queued(pool, everybody),
        )

    def _queued(self, pool: str, everybody: list[ClientId]) -> AbstractSet[ClientId]:
        if pool not in self._leasing.moves_freely:
            return frozenset()
        return {client for client in everybody if self._leasing.is_queued(client)}

    def _holder(self, session: Session) -> Holder:
        lease, identity = session.lease or Lease(0, 0), session.identity
        allowed = None
        if identity and identity.spans:
            indices = filter(identity.covers, range(self._pools[session.pool]))
            allowed = frozenset(client_id(session.pool, index) for index in indices)
        return Holder(session.id, session.reserved, lease.capacity, lease.share, lease.asks, allowed)

    def _change(self, session: Session, gift: tuple[ClientId, ...], handover: Handover | None) -> bool:
        lease = session.lease
        if lease is None or (not gift and handover == lease.handover):
            return False
        lease.due += gift
        lease.handover = handover
        lease.changes += 1
        self._hold(session, gift)
        return True

    # --- what may be granted ------------------------------------------------------------------------------------------

    def _grant(self, wish: JoinWish) -> tuple[ClientId, ...]:
        self._check(wish)
        named = [client_id(wish.pool, index) for index in wish.indices]
        if wish.capacity and wish.leases_move:
            return self._kept(wish, named)
        granted = self._lease(wish, named) if wish.capacity else [c for c in named if not self._is_replaced(wish, c)]
        if not granted:
            raise JoinRefusedError(self._nothing_free(wish), retry=True)
        return tuple(granted)

    def _check(self, wish: JoinWish) -> None:
        if (identity := wish.identity) and (identity.pool != wish.pool or not all(map(identity.covers, wish.indices))):
            asked = f"{wish.pool}/{','.join(map(str, wish.indices[:8]))}" if wish.indices else wish.pool
            raise JoinRefusedError(f"a certificate for {identity.uri} doesn't speak for {asked}", retry=False)
        size = self._pools.get(wish.pool)
        if size is None:
            raise JoinRefusedError(
                f"this job has no pool {wish.pool!r}; it has {', '.join(sorted(self._pools))}", retry=False
            )
        if outside := [index for index in wish.indices if index >= size]:
            raise JoinRefusedError(
                f"pool {wish.pool} has clients 0 to {size - 1}, so there is no client {outside[0]}", retry=False
            )
        if len(set(wish.indices)) != len(wish.indices):
            raise JoinRefusedError("a client's index is named twice", retry=False)
        if not wish.indices and not wish.capacity:
            raise JoinRefusedError("name the clients' indices, or how many clients this worker can take", retry=False)

    def _lease(self, wish: JoinWish, preferred: list[ClientId]) -> list[ClientId]:
        everybody = [client_id(wish.pool, index) for index in range(self._pools[wish.pool])]
        wanted = [*preferred, *(client for client in everybody if client not in preferred)]
        return sorted(
            [client for client in wanted if self._is_free(wish, client)][: wish.capacity], key=everybody.index
        )

    def _kept(self, wish: JoinWish, named: list[ClientId]) -> tuple[ClientId, ...]:
        """What it has, and what waits for it; anything more is a matter of sharing out."""
        due = [
            client
            for session in self
            if _is_same_worker(session, wish) and session.lease
            for client in session.lease.due
        ]
        mine = dict.fromkeys(client for client in [*named, *due] if self._is_free(wish, client))
        return tuple(mine)[: wish.capacity]

    def _is_free(self, wish: JoinWish, client: ClientId) -> bool:
        if wish.identity and not wish.identity.covers(split_client_id(client)[1]):
            return False
        holder = self._holders.get(client)
        return holder is None or holder.worker == wish.worker

    def _is_replaced(self, wish: JoinWish, client: ClientId) -> bool:
        holder = self._holders.get(client)
        return holder is not None and wish.worker in holder.displaced

    def _nothing_free(self, wish: JoinWish) -> str:
        if wish.capacity:
            return f"all {self._pools[wish.pool]} clients of pool {wish.pool} have a worker; waiting for one to leave"
        holder = self._holders[client_id(wish.pool, wish.indices[0])]
        return f"a newer worker ({holder.worker}) acts for these clients now; waiting for it to leave"


def _is_same_worker(session: Session, wish: JoinWish) -> bool:
    """Names are the workers' own choice, so one says nothing about a session of another pool."""
    return session.worker == wish.worker and session.pool == wish.pool


def _lease_of(wish: JoinWish, granted: tuple[ClientId, ...]) -> Lease | None:
    if not wish.capacity or not wish.leases_move:
        return None
    asks = frozenset(client_id(wish.pool, index) for index in wish.indices).difference(granted)
    return Lease(wish.capacity, wish.share or wish.capacity, asks)


def _fetch(session: Session) -> None:
    """What is due to a worker that joins comes with the answer."""
    if session.lease:
        session.clients, session.lease.due = session.reserved, ()


def pool_sizes(job: ResolvedJob) -> dict[str, int]:
    """How many clients each pool has, in the job's order."""
    return {pool.name: pool.spec.clients for pool in job.pools}


def first_ordinals(job: ResolvedJob) -> dict[str, int]:
    """Where each pool's clients begin among all the job's clients."""
    ordinals, total = {}, 0
    for pool in job.pools:
        ordinals[pool.name] = total
        total += pool.spec.clients
    return ordinals
