"""External pools in memory for the operator's plans: an installation with a lobby, and a pool's own small cluster."""

from __future__ import annotations

import copy
import itertools
from typing import Any

from muster_operator.actions import Action, Apply, CreateAuthority, Delete, Issue, Plan
from muster_operator.build.common import Routes
from muster_operator.build.pools import LobbyAccount
from muster_operator.issuing import content_of, encoded, read_authority, with_authority
from muster_operator.objects import Key, Object, key_of, timestamp
from muster_operator.poolplan import plan_pool
from muster_operator.pools import Lobby, PoolSeen
from muster_operator.settings import Install, LobbyInstall
from operating import START, Cluster, job_object, pool_object

ACCOUNT = LobbyAccount("muster-system", "muster-lobby")
LOBBY = Lobby("fl.example.org:443", "LOBBY PEM", ACCOUNT)
ROUTES = Routes("gateway", "edge", "fl.example.org")
INSTALL = Install(
    "coordinator:1",
    "worker@sha256:1",
    lobby=LobbyInstall("fl.example.org:443", "muster-lobby", ACCOUNT),
    routes=ROUTES,
)


def site(name: str = "site", **spec: Any) -> Object:
    """An External pool."""
    return pool_object(name, type="External", **({"clients": 4} | spec))


class SiteCluster:
    """One External pool and what it has. `now` is moved by the tests."""

    def __init__(self, pool: Object, lobby: Lobby | None = LOBBY) -> None:
        self.pool, self.lobby, self.now = pool, lobby, START
        self.jobs: list[Object] = []
        self.objects: dict[Key, Object] = {}
        self._uids = itertools.count(1)

    def plan(self) -> Plan:
        children = copy.deepcopy(self.objects)
        for each in children.values():
            each.pop("data", None)  # plans see no keys
        return plan_pool(PoolSeen(copy.deepcopy(self.pool), tuple(self.jobs), children), self.lobby, self.now)

    def settle(self) -> Plan:
        for _ in range(6):
            planned = self.plan()
            for action in planned.actions:
                self.carry_out(action)
            if planned.status is not None:
                told = {name: each for name, each in self.pool.get("status", {}).items() if name == "lobby"}
                self.pool["status"] = planned.status | told
            if not planned.actions:
                return planned
        raise AssertionError(f"it doesn't come to rest: {planned.actions}")

    def carry_out(self, action: Action) -> None:
        match action:
            case CreateAuthority(manifest):
                assert key_of(manifest) not in self.objects
                self._put(with_authority(action, self.now))
            case Issue(manifest):
                authority = self.objects[action.authority]
                data = encoded(content_of(action, read_authority(action.authority, authority)))
                self._put(manifest | {"data": data})
            case Apply(manifest):
                self._put(manifest)
            case Delete(key, uid, _):
                assert self.objects.pop(key)["metadata"]["uid"] == uid
            case _:
                raise AssertionError(action)

    def _put(self, manifest: Object) -> None:
        before = self.objects.get(key_of(manifest))
        uid = before["metadata"]["uid"] if before else f"uid-{next(self._uids)}"
        made = {"uid": uid, "creationTimestamp": timestamp(self.now)}
        self.objects[key_of(manifest)] = copy.deepcopy(manifest | {"metadata": manifest["metadata"] | made})

    def names(self) -> list[str]:
        return sorted(map(str, self.objects))


def outside_cluster(*pools: Object, **spec: Any) -> Cluster:
    """A job with External pools, in an installation with a lobby."""
    names = [pool["metadata"]["name"] for pool in pools]
    cluster = Cluster(job_object(pools=names, **spec), *pools)
    cluster.install = INSTALL
    return cluster
