"""How many workers pools have, as demand, prices, nodes and time would have it. No cluster."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from muster_operator.actions import Create, Delete, Patch
from muster_operator.build.common import FEWER_SINCE
from muster_operator.elastic import FEWER_AFTER_S, STUCK_AFTER_S, Supply, clients_asked, workers_wanted
from muster_operator.objects import Object, annotation_of, timestamp
from muster_operator.pinning import Pinned, pin
from muster_spec.defaults import with_defaults
from muster_spec.pool_types import PoolSpec
from muster_spec.schemas import schema_of
from operating import START, Cluster, job_object, pool_object

COORDINATOR, WORKERS = "digits-coordinator", "digits-workers-cloud"
STATE = {"type": "Path", "path": {"path": "/shared"}}


def supply(name: str = "a", clients: int = 6, spec: dict[str, Any] | None = None, **known: Any) -> Supply:
    pool = {"spec": {"type": "Kubernetes", "clients": clients} | (spec or {})}
    whole = with_defaults(pool, schema_of("ClientPool"))["spec"]  # type: ignore[call-overload]
    return Supply(name, msgspec.convert(whole, PoolSpec), known.pop("useful", clients), **known)


def workers(least: int = 1, most: int | None = None, each: int = 1) -> dict[str, Any]:
    bounds: dict[str, Any] = {"min": least, "clientsPerWorker": each}
    return {"workers": bounds | ({"max": most} if most else {})}


def at(price: float, **spec: Any) -> dict[str, Any]:
    return {"cost": {"perHour": price}} | workers(0) | spec


FIXED = {"is_elastic": False}


@pytest.mark.parametrize(
    ("supplies", "asked", "expected"),
    [
        pytest.param([supply()], 6, {"a": 6}, id="all are asked"),
        pytest.param([supply()], 2, {"a": 6}, id="where work can't move, all clients want a worker"),
        pytest.param([supply(spec={"state": STATE})], 2, {"a": 2}, id="where it can, the cohort does"),
        pytest.param([supply(spec={"state": STATE} | workers(each=2))], 4, {"a": 2}, id="two for each worker"),
        pytest.param([supply(spec={"state": STATE} | workers(3))], 2, {"a": 3}, id="no fewer than min"),
        pytest.param([supply(spec={"state": STATE} | workers(1, 4))], 6, {"a": 4}, id="no more than max"),
        pytest.param([supply(spec={"state": STATE} | workers(0))], 6, {"a": 6}, id="min 0 of the only pool"),
        pytest.param(
            [supply("a", 6, {"state": STATE}), supply("b", 3, {"state": STATE})],
            3,
            {"a": 2, "b": 1},
            id="pools share the cohort as they share the clients",
        ),
        pytest.param([supply("a"), supply("b", spec=at(1))], 6, {"a": 6, "b": 0}, id="one that isn't needed"),
        pytest.param([supply("a"), supply("b", spec=at(1))], 7, {"a": 6, "b": 6}, id="one that is"),
        pytest.param(
            [supply("a", spec=at(3)), supply("b", spec=at(1)), supply("c", spec=at(2))],
            8,
            {"a": 0, "b": 6, "c": 6},
            id="the cheapest first",
        ),
        pytest.param(
            [supply("a", spec=at(3)), supply("b", spec=at(1), is_stuck=True), supply("c", spec=at(2))],
            8,
            {"a": 6, "b": 6, "c": 6},
            id="one that gets no nodes doesn't count, and goes on asking for some",
        ),
        pytest.param([supply("a", **FIXED), supply("b", spec=at(1))], 6, {"a": 6, "b": 0}, id="a batch system's"),
        pytest.param(
            [supply("a", **FIXED, connected=2), supply("b", spec=at(1))],
            6,
            {"a": 6, "b": 0},
            id="whoever is away for a moment is no reason to start another pool",
        ),
        pytest.param(
            [supply("a", **FIXED, connected=2), supply("b", spec=at(1), is_on=True)],
            6,
            {"a": 6, "b": 6},
            id="and none to stop one",
        ),
        pytest.param(
            [supply("a", **FIXED, connected=6), supply("b", spec=at(1), is_on=True)],
            6,
            {"a": 6, "b": 0},
            id="until they are there",
        ),
        pytest.param(
            [supply("a", useful=0), supply("b", spec=at(1))], 6, {"a": 6, "b": 6}, id="clients that may not be asked"
        ),
        pytest.param([supply("a"), supply("b", spec=at(1), useful=0)], 9, {"a": 6, "b": 0}, id="nor help"),
        pytest.param([supply("a", spec=at(1), useful=0)], 0, {"a": 0}, id="nobody is asked"),
    ],
)
def test_how_many_are_wanted(supplies: list[Supply], asked: int, expected: dict[str, int]) -> None:
    assert workers_wanted(supplies, asked) == expected


def test_a_coordinator_that_lacks_clients_gets_another_pool() -> None:
    pools = [supply("a", **FIXED, connected=0), supply("b", spec=at(2)), supply("c", spec=at(1))]
    assert workers_wanted(pools, 6) == {"a": 6, "b": 0, "c": 0}
    assert workers_wanted(pools, 6, lacks_clients=True) == {"a": 6, "b": 6, "c": 6}


@pytest.mark.parametrize(
    ("cost", "dearer"),
    [
        ({"perHour": 1.0}, {"perHour": 2.0}),
        ({}, {"perHour": 0.1}),
        ({"perHour": 1.0, "interruptionsPerHour": 0.1}, {"perHour": 1.0, "interruptionsPerHour": 0.2}),
        ({"watts": 100.0}, {"watts": 200.0}),
    ],
)
def test_what_is_cheap(cost: dict[str, float], dearer: dict[str, float]) -> None:
    pools = [supply("a", spec=workers(0) | {"cost": dearer}), supply("b", spec=workers(0) | {"cost": cost})]
    assert workers_wanted(pools, 6) == {"a": 0, "b": 6}
    assert workers_wanted(pools[::-1], 6) == {"a": 0, "b": 6}


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ({}, 6),
        ({"rounds": {"cohort": 4}}, 4),
        ({"rounds": {"cohort": 4, "overselect": 0.25}}, 5),
        ({"rounds": {"cohort": 5, "overselect": 1.0}}, 6),
        ({"rounds": {"cohort": 4}, "selection": {"type": "All"}}, 6),
        ({"selection": {"type": "Label", "label": {"matchLabels": {"site": "x"}}}}, 2),
    ],
)
def test_how_many_clients_work_at_one_time(spec: dict[str, Any], asked: int) -> None:
    pools = [pool_object(clients=4), pool_object("other", clients=2, labels={"site": "x"})]
    cluster = Cluster(job_object(pools=["cloud", "other"], **spec), *pools)
    pinned = pin(cluster.see(), cluster.install)
    assert isinstance(pinned, Pinned), pinned
    assert clients_asked(pinned.job) == asked


# --- in time ----------------------------------------------------------------------------------------------------------


def elastic(**bounds: Any) -> Cluster:
    """Six clients whose work may move, three of them in a cohort."""
    spec = {"state": STATE, "workers": {"min": 1, "clientsPerWorker": 1} | bounds}
    return Cluster(job_object(rounds={"cohort": 3}), pool_object(**spec))


def size(cluster: Cluster, name: str = WORKERS) -> tuple[int, int]:
    spec = cluster.child("Job", name)["spec"]
    return spec["completions"], spec["parallelism"]


def test_a_job_begins_with_what_its_cohort_needs() -> None:
    cluster = elastic()
    cluster.run()
    assert size(cluster) == (3, 3)
    status: Object = cluster.job["status"]
    assert status["pools"][0]["workersWanted"] == 3


def test_a_job_for_a_queue_keeps_the_size_that_was_admitted() -> None:
    cluster = elastic(min=0, max=4)
    cluster.job["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpus"}
    cluster.run()
    assert size(cluster) == (4, 4)
    cluster.now += 3600
    cluster.settle()
    assert size(cluster) == (4, 4), "though three would do"


def test_more_workers_are_had_at_once_and_by_the_same_job() -> None:
    cluster = elastic()
    cluster.run()
    before = cluster.child("Job", WORKERS)["metadata"]["uid"]
    cluster.pools = [pool_object(state=STATE, workers={"min": 5, "clientsPerWorker": 1})]
    [action] = cluster.plan().actions
    assert isinstance(action, Patch)
    assert action.body == {"spec": {"completions": 5, "parallelism": 5}}
    cluster.settle()
    assert cluster.child("Job", WORKERS)["metadata"]["uid"] == before


def test_fewer_are_had_when_that_has_been_so_for_a_while() -> None:
    cluster = elastic(min=5)
    cluster.run()
    cluster.pools = [pool_object(state=STATE, workers={"min": 1, "clientsPerWorker": 1})]
    planned = cluster.settle()
    assert size(cluster) == (5, 5)
    assert annotation_of(cluster.child("Job", WORKERS), FEWER_SINCE) == timestamp(START)
    assert planned.wake_at == START + FEWER_AFTER_S
    cluster.now += FEWER_AFTER_S - 1
    assert cluster.plan().actions == ()
    cluster.now += 1
    cluster.settle()
    assert size(cluster) == (3, 3)
    assert annotation_of(cluster.child("Job", WORKERS), FEWER_SINCE) == ""


def test_a_wish_for_fewer_that_passes_is_forgotten() -> None:
    cluster = elastic(min=5)
    cluster.run()
    cluster.pools = [pool_object(state=STATE, workers={"min": 1, "clientsPerWorker": 1})]
    cluster.settle()
    cluster.pools = [pool_object(state=STATE, workers={"min": 5, "clientsPerWorker": 1})]
    cluster.now += FEWER_AFTER_S
    cluster.settle()
    assert annotation_of(cluster.child("Job", WORKERS), FEWER_SINCE) == ""
    cluster.pools = [pool_object(state=STATE, workers={"min": 1, "clientsPerWorker": 1})]
    cluster.settle()
    assert size(cluster) == (5, 5), "it counts anew"


def test_a_lower_bound_holds_at_once() -> None:
    cluster = elastic()
    cluster.run()
    cluster.pools = [pool_object(state=STATE, workers={"min": 1, "max": 2, "clientsPerWorker": 1})]
    cluster.settle()
    assert size(cluster) == (2, 2)


def two_pools(cheap: Any = None) -> Cluster:
    """A dear pool and a cheap one, of which either has enough clients."""
    bounds = {"min": 0, "clientsPerWorker": 1}
    pools = [
        pool_object("dear", clients=3, workers=bounds, cost={"perHour": 9}),
        pool_object("cheap", clients=3, workers=bounds, cost={"perHour": 1}, **(cheap or {})),
    ]
    return Cluster(job_object(pools=["dear", "cheap"], rounds={"cohort": 3}), *pools)


DEAR, CHEAP = "digits-workers-dear", "digits-workers-cheap"


def unschedulable(cluster: Cluster, since: float) -> Object:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available",
        "lastTransitionTime": timestamp(since),
    }
    return cluster.start_pod(CHEAP, index=0, status={"phase": "Pending", "conditions": [condition]})


def test_a_pool_that_isnt_needed_has_a_job_that_rests() -> None:
    cluster = two_pools()
    cluster.run()
    assert size(cluster, CHEAP) == (3, 3)
    assert size(cluster, DEAR) == (1, 0), "with nothing to complete it would be over"
    assert [pool["workersWanted"] for pool in cluster.job["status"]["pools"]] == [0, 3]
    assert cluster.job["status"]["reason"] == "Running"
    assert cluster.plan().actions == ()


def test_where_pods_find_no_node_the_next_pool_is_taken_and_given_back_later() -> None:
    cluster = two_pools()
    cluster.settle()
    cluster.start_pod(COORDINATOR)
    pod = unschedulable(cluster, START)
    planned = cluster.settle()
    assert size(cluster, DEAR) == (1, 0)
    assert planned.wake_at == START + STUCK_AFTER_S
    cluster.now += STUCK_AFTER_S
    cluster.settle()
    assert size(cluster, DEAR) == (3, 3)
    assert size(cluster, CHEAP) == (3, 3), "a cluster that grows may still bring nodes for it"
    pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    cluster.objects[next(key for key in cluster.objects if key.name == pod["metadata"]["name"])] = pod
    cluster.settle()
    assert size(cluster, DEAR) == (3, 3)
    cluster.now += FEWER_AFTER_S
    [action] = cluster.plan().actions
    assert isinstance(action, Patch)
    assert action.body["spec"] == {"parallelism": 0}
    cluster.settle()
    assert size(cluster, DEAR) == (3, 0)
    assert cluster.plan().actions == ()


def test_pods_that_are_refused_are_like_pods_without_nodes() -> None:
    cluster = two_pools()
    cluster.settle()
    cluster.refusals = {cluster.child("Job", CHEAP)["metadata"]["uid"]: "exceeded quota: gpus"}
    cluster.settle()
    assert size(cluster, DEAR) == (3, 3)


def test_no_quorum_brings_the_next_pool_once_all_workers_that_are_wanted_are_there() -> None:
    cluster = two_pools()
    cluster.run()
    pools = [{"name": "cheap", "total": 3, "connected": 1}, {"name": "dear", "total": 3, "connected": 0}]
    cluster.job["status"]["training"] = {"reason": "NoQuorum", "message": "", "clients": {"pools": pools}}
    cluster.say(CHEAP, ready=0, active=3)
    cluster.settle()
    assert size(cluster, DEAR) == (1, 0), "its pods are about to start"
    cluster.say(CHEAP, ready=3, active=3)
    cluster.settle()
    assert size(cluster, DEAR) == (3, 3)
    del cluster.job["status"]["training"]["reason"]
    cluster.now += 2 * FEWER_AFTER_S
    cluster.settle()
    assert size(cluster, DEAR) == (3, 3), "there are still too few clients of the other pool"


def test_there_is_nobody_between_jobs() -> None:
    cluster = elastic()
    cluster.run()
    planned = cluster.suspend()
    assert cluster.child("Job", WORKERS)["spec"]["suspend"] is True
    assert planned.status is not None
    assert planned.status["pools"][0]["workersWanted"] == 0


def test_no_pool_is_ever_written_and_no_job_made_anew() -> None:
    cluster = two_pools()
    cluster.settle()
    for seconds in range(0, 900, 50):
        cluster.now = START + seconds
        actions = cluster.step().actions
        assert not [one for one in actions if isinstance(one, (Create, Delete))]
        if seconds == 100:
            unschedulable(cluster, cluster.now)
