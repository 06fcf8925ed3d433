"""What is offered to an External pool: a function of the objects that the API server has."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from muster_coordinator.external import Standing
from muster_lobby.offers import Pool, offers_for, read_pool
from muster_lobby.world import World
from muster_spec.terms import Terms

Object = dict[str, Any]


def pool_object(name: str = "site", *, uid: str = "p-1", authority: str = "PEM", **external: Any) -> Object:
    status = {"enrolment": {"certificateAuthority": authority}} if authority else {}
    return {
        "kind": "ClientPool",
        "metadata": {"name": name, "namespace": "lab", "uid": uid},
        "spec": {"type": "External", "clients": 4, "external": external},
        "status": status,
    }


def job_object(name: str = "job", *, created: str = "2026-01-01T00:00:00Z", **status: Any) -> Object:
    pools = [
        {"name": "site", "clients": 4, "workersWanted": 2, "endpoint": "fl.example.org:443", "image": "w@sha256:1"},
        {"name": "cloud", "clients": 6, "workersWanted": 6},
    ]
    whole = {"phase": "Running", "pools": pools, "coordinator": {"certificateAuthority": "JOB PEM"}} | status
    return {
        "kind": "FederatedJob",
        "metadata": {"name": name, "namespace": "lab", "uid": f"uid-{name}", "creationTimestamp": created},
        "spec": {"task": {"entrypoint": "a:B"}, "pools": [{"name": "site"}, {"name": "cloud"}], "rounds": {"total": 7}},
        "status": whole,
    }


def read(value: Object) -> Pool:
    found = read_pool(value)
    assert found is not None
    return found


def connected(count: int, **training: Any) -> Object:
    return {"training": {"clients": {"pools": [{"name": "site", "connected": count, "total": 4}]}} | training}


def test_an_offer_says_all_that_a_worker_needs() -> None:
    [offer] = offers_for(read(pool_object()), [job_object()])
    assert (offer.job, offer.namespace, offer.name, offer.pool) == ("uid-job", "lab", "job", "site")
    assert (offer.coordinator, offer.authorities) == ("fl.example.org:443", "JOB PEM")
    assert (offer.capacity, offer.share) == (4, 2)
    terms = msgspec.json.decode(offer.terms, type=Terms)
    assert (terms.task.entrypoint, terms.rounds, terms.image) == ("a:B", 7, "w@sha256:1")
    assert terms.least_updates == 5  # half of ten


@pytest.mark.parametrize(
    ("status", "is_offered"),
    [
        ({}, True),
        ({"phase": "Starting"}, True),
        ({"phase": "Pending"}, False),
        ({"phase": "Suspended"}, False),
        ({"phase": "Complete"}, False),
        ({"phase": "Failed"}, False),
        ({"coordinator": {}}, False),
        ({"pools": []}, False),
        ({"pools": [{"name": "site", "clients": 4}]}, False),
        (connected(0), True),
        (connected(3), True),
        (connected(4), False),
        (connected(0, phase="Finished"), False),
        ({"training": {}}, True),
    ],
)
def test_a_job_is_offered_while_it_runs_and_lacks_clients(status: Object, is_offered: bool) -> None:
    assert bool(offers_for(read(pool_object()), [job_object(**status)])) is is_offered


def test_the_oldest_job_is_offered_first_and_a_revoked_pool_gets_nothing() -> None:
    jobs = [job_object("b", created="2026-01-02T00:00:00Z"), job_object("c"), job_object("a")]
    assert [offer.name for offer in offers_for(read(pool_object()), jobs)] == ["a", "c", "b"]
    assert offers_for(read(pool_object(revoked=True)), jobs) == ()


def test_a_job_that_cant_be_read_is_offered_without_terms() -> None:
    job = job_object()
    job["spec"]["rounds"]["newerField"] = 1
    [offer] = offers_for(read(pool_object()), [job])
    assert offer.terms == ""


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("PEM", 86_400.0, Standing())),
        ({"certificateValidity": "12h"}, ("PEM", 43_200.0, Standing())),
        ({"certificateValidity": "soon"}, ("PEM", 86_400.0, Standing())),
        ({"revoked": True}, ("PEM", 86_400.0, Standing(is_revoked=True))),
    ],
)
def test_a_pool_is_what_its_object_says(change: Object, expected: tuple[str, float, Standing]) -> None:
    pool = read(pool_object(**change))
    assert (pool.authority, pool.certificate_s, pool.standing) == expected


def test_pools_of_ours_and_pools_that_go_are_none() -> None:
    ours, going = pool_object(), pool_object()
    ours["spec"]["type"] = "Kubernetes"
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert read_pool(ours) is None
    assert read_pool(going) is None


# --- the world --------------------------------------------------------------------------------------------------------


class Changes(list[str]):
    """What the world has said, and the world."""

    def __init__(self) -> None:
        self.world = World(self.append)

    def hear(self, value: Object, *, is_gone: bool = False) -> list[str]:
        self.clear()
        self.world.changed(value["kind"], value, is_gone=is_gone)
        return list(self)


@pytest.fixture
def changes() -> Changes:
    return Changes()


def names(changes: Changes, uid: str = "p-1") -> list[str]:
    return [offer.name for offer in changes.world.offers(uid)]


def test_offers_follow_the_objects_whatever_comes_first(changes: Changes) -> None:
    assert changes.hear(job_object("a")) == []
    assert changes.hear(pool_object()) == ["p-1"]
    assert names(changes) == ["a"]
    assert changes.hear(job_object("b")) == ["p-1"]
    assert names(changes) == ["a", "b"]
    assert changes.hear(job_object("a", phase="Complete")) == ["p-1"]
    assert names(changes) == ["b"]
    assert changes.hear(job_object("b"), is_gone=True) == ["p-1"]
    assert names(changes) == []


def test_what_changes_nothing_wakes_nobody(changes: Changes) -> None:
    changes.hear(pool_object())
    changes.hear(job_object("a"))
    assert changes.hear(job_object("a") | {"metadata": job_object("a")["metadata"] | {"resourceVersion": "9"}}) == []
    assert changes.hear(job_object("a", **connected(1))) == []
    other = job_object("c")
    other["spec"]["pools"] = [{"name": "cloud"}]
    assert changes.hear(other) == []


def test_the_authorities_revision_moves_with_them(changes: Changes) -> None:
    world = changes.world
    changes.hear(pool_object(authority=""))
    assert world.revision == 0
    changes.hear(pool_object())
    first = world.revision
    changes.hear(pool_object(revoked=True))
    assert world.revision == first
    changes.hear(pool_object(authority="another"))
    assert world.revision > first


def test_a_pool_of_the_same_name_is_another(changes: Changes) -> None:
    changes.hear(pool_object())
    changes.hear(job_object("a"))
    assert set(changes.hear(pool_object(uid="p-2"))) == {"p-1", "p-2"}
    assert changes.world.pool("p-1") is None
    assert (names(changes, "p-1"), names(changes, "p-2")) == ([], ["a"])
    changes.hear(pool_object(uid="p-2"), is_gone=True)
    assert list(changes.world.pools()) == []


def test_a_list_is_all_there_is(changes: Changes) -> None:
    world = changes.world
    world.all_of("ClientPool", None, [pool_object(), pool_object("other", uid="p-2")])
    world.all_of("FederatedJob", None, [job_object("a"), job_object("b")])
    world.all_of("FederatedJob", None, [job_object("b")])
    assert names(changes) == ["b"]
    elsewhere = copy.deepcopy(pool_object("there", uid="p-3"))
    elsewhere["metadata"]["namespace"] = "elsewhere"
    world.all_of("ClientPool", "elsewhere", [elsewhere])
    world.all_of("ClientPool", "lab", [pool_object()])
    assert {pool.uid for pool in world.pools()} == {"p-1", "p-3"}
    pool = world.pool("p-1")
    assert pool is not None
    assert world.jobs_of(pool) == {"uid-b": "b"}
