"""What the API server has told so far: the External pools and what each is offered, kept up as objects change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from muster_lobby.offers import Offer, Pool, offers_for, pools_named, read_pool
from muster_operator.objects import Object

Place: TypeAlias = tuple[str, str]
"""Namespace and name."""


class World:
    """A listener. `on_offers` hears of the pools (their uids) whose offers or standing have changed."""

    def __init__(self, on_change: Callable[[str], None]) -> None:
        self._on_change = on_change
        self._jobs: dict[Place, Object] = {}
        self._pools: dict[Place, Object] = {}
        self._users: dict[Place, set[Place]] = {}  # jobs that name a pool
        self._offers: dict[str, tuple[Offer, ...]] = {}
        self._by_uid: dict[str, Pool] = {}
        self.revision = 0  # of the authorities: it grows when any of them changes

    # --- what is heard ------------------------------------------------------------------------------------------------

    def all_of(self, kind: str, namespace: str | None, objects: list[Object]) -> None:
        known = self._jobs if kind == "FederatedJob" else self._pools
        there = {_place(value) for value in objects}
        gone = [place for place in known if place not in there and namespace in (None, place[0])]
        for place in gone:
            self.changed(kind, known[place], is_gone=True)
        for value in objects:
            self.changed(kind, value, is_gone=False)

    def changed(self, kind: str, value: Object, *, is_gone: bool) -> None:
        if kind == "FederatedJob":
            self._change_job(value, is_gone=is_gone)
        else:
            self._change_pool(value, is_gone=is_gone)

    def _change_job(self, job: Object, *, is_gone: bool) -> None:
        place = _place(job)
        before = self._jobs.pop(place, None)
        if not is_gone:
            self._jobs[place] = job
        named = {name for each in (before, job) if each for name in pools_named(each)}
        for pool in ((place[0], name) for name in named):
            users = self._users.setdefault(pool, set())
            (users.discard if is_gone or pool[1] not in pools_named(job) else users.add)(place)
            if not users:
                del self._users[pool]
            self._renew(pool)

    def _change_pool(self, value: Object, *, is_gone: bool) -> None:
        place = _place(value)
        before = self._pools.pop(place, None)
        if before is not None and (is_gone or before["metadata"]["uid"] != value["metadata"]["uid"]):
            self._forget(str(before["metadata"]["uid"]))
        if not is_gone:
            self._pools[place] = value
            self._renew(place)

    def _renew(self, place: Place) -> None:
        """What follows for a pool from what is known now."""
        value = self._pools.get(place)
        if value is None:
            return
        pool, uid = read_pool(value), str(value["metadata"]["uid"])
        if pool is None:
            self._forget(uid)
            return
        before, offered = self._by_uid.get(uid), self._offers.get(uid)
        self._by_uid[uid], self._offers[uid] = pool, offers_for(pool, self._jobs_naming(place))
        self.revision += (before.authority if before else "") != pool.authority
        if (before, offered) != (pool, self._offers[uid]):
            self._on_change(uid)

    def _forget(self, uid: str) -> None:
        self._offers.pop(uid, None)
        if self._by_uid.pop(uid, None) is not None:
            self.revision += 1
            self._on_change(uid)

    def _jobs_naming(self, place: Place) -> list[Object]:
        return [self._jobs[job] for job in self._users.get(place, ()) if job in self._jobs]

    # --- what is asked ------------------------------------------------------------------------------------------------

    def pool(self, uid: str) -> Pool | None:
        return self._by_uid.get(uid)

    def pools(self) -> Iterator[Pool]:
        return iter(list(self._by_uid.values()))

    def object_of(self, pool: Pool) -> Object | None:
        """The pool as the API server has it."""
        return self._pools.get((pool.namespace, pool.name))

    def offers(self, uid: str) -> tuple[Offer, ...]:
        return self._offers.get(uid, ())

    def jobs_of(self, pool: Pool) -> dict[str, str]:
        """The names of the jobs that name a pool, by uid."""
        jobs = self._jobs_naming((pool.namespace, pool.name))
        return {str(job["metadata"]["uid"]): str(job["metadata"]["name"]) for job in jobs}


def _place(value: Object) -> Place:
    return str(value["metadata"].get("namespace", "")), str(value["metadata"]["name"])
