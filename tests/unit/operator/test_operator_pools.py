"""What a ClientPool's status says: a sum over the jobs that use it."""

from __future__ import annotations

from typing import Any

import pytest

from muster_operator.objects import Object, timestamp
from muster_operator.pools import PoolSeen, pool_status, pool_transitions
from operating import START, conditions, job_object, pool_object


def job(
    name: str, wanted: int, ready: int, phase: str = "Running", connected: int | None = None, **told: str
) -> Object:
    """A FederatedJob with a status as its reconcile writes it."""
    pools = [{"name": "cloud", "workersWanted": wanted, "workersReady": ready} | told]
    status: dict[str, Any] = {"phase": phase, "specDigest": "1234", "pools": pools}
    if connected is not None:
        status["training"] = {"clients": {"pools": [{"name": "cloud", "connected": connected, "total": 6}]}}
    return job_object(name) | {"status": status}


def status_of(*jobs: Object, pool: Object | None = None) -> Object:
    return pool_status(PoolSeen(pool or pool_object(), jobs), START)


@pytest.mark.parametrize(
    ("jobs", "reason", "summary", "active", "is_ready", "is_progressing"),
    [
        ((), "Idle", "0/0", 0, True, False),
        ((job("a", 3, 3),), "WorkersReady", "3/3", 1, True, False),
        ((job("a", 3, 1),), "WorkersStarting", "1/3", 1, False, True),
        ((job("a", 3, 3), job("b", 2, 0)), "WorkersStarting", "3/5", 2, False, True),
        ((job("a", 3, 2, reason="OutOfMemory", message="m"),), "OutOfMemory", "2/3", 1, False, True),
        ((job("a", 3, 3, reason="SpecDrift", message="m"),), "WorkersReady", "3/3", 1, True, False),
        ((job("a", 0, 0, phase="Complete"), job("b", 0, 0, phase="Suspended")), "Idle", "0/0", 0, True, False),
        ((job_object("pending"),), "Idle", "0/0", 0, True, False),
    ],
)
def test_workers_are_added_up_over_jobs(
    jobs: tuple[Object, ...], reason: str, summary: str, active: int, is_ready: bool, is_progressing: bool
) -> None:
    status = status_of(*jobs)
    assert (status["reason"], status["workers"]["summary"], status["activeJobs"]) == (reason, summary, active)
    assert conditions(status).keys() == {
        kind for kind, holds in (("Ready", is_ready), ("Progressing", is_progressing)) if holds
    }
    assert status["workers"]["pending"] == status["workers"]["wanted"] - status["workers"]["ready"]


def test_clients_are_those_that_coordinators_tell_of() -> None:
    assert "clients" not in status_of(job("a", 3, 3))
    status = status_of(job("a", 3, 3, connected=6), job("b", 3, 1, connected=2), job("c", 3, 0))
    assert status["clients"] == {"connected": 8, "missing": 4}


def test_all_that_the_status_of_a_pool_says() -> None:
    pool = pool_object()
    pool["metadata"]["generation"] = 3
    told = {"reason": "OutOfMemory", "message": "job b: killed", "observedGeneration": 3}
    when = {"lastTransitionTime": timestamp(START)}
    jobs = (job("a", 3, 3, connected=6), job("b", 3, 1, connected=2, reason="OutOfMemory", message="killed"))
    assert status_of(*jobs, pool=pool) == {
        **told,
        "activeJobs": 2,
        "workers": {"summary": "4/6", "wanted": 6, "ready": 4, "pending": 2},
        "clients": {"connected": 8, "missing": 4},
        "conditions": [
            {"type": "Ready", "status": "False", **told, **when},
            {"type": "Progressing", "status": "True", **told, **when},
        ],
    }


def test_a_job_that_is_being_deleted_uses_nothing() -> None:
    going = job("a", 3, 3)
    going["metadata"]["deletionTimestamp"] = timestamp(START)
    assert status_of(going)["activeJobs"] == 0


@pytest.mark.parametrize(
    ("slurm", "said"),
    [
        ({"url": "https://s:6820", "relay": {"type": "SharedFolder"}}, "shares no folder"),
        ({"command": {"type": "Local"}}, "no sbatch"),
    ],
)
def test_what_no_cluster_can_serve_is_said_at_the_pool(slurm: dict[str, Any], said: str) -> None:
    status = status_of(pool=pool_object(type="Slurm", slurm=slurm))
    assert status["reason"] == "NotSupported"
    assert said in status["message"]
    assert conditions(status) == {"Stalled": "NotSupported"}


def test_the_trouble_names_the_job() -> None:
    status = status_of(job("a", 3, 3), job("b", 3, 2, reason="ImagePullFailed", message="pod b-1: no such image"))
    assert status["message"] == "job b: pod b-1: no such image"
    assert status_of(job("a", 3, 1))["message"] == "1 of 3 workers ready for 1 job"


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    pool = pool_object()
    pool["status"] = status_of(job("a", 3, 1))
    later = pool_status(PoolSeen(pool, (job("a", 3, 3),)), START + 60)
    times = {one["type"]: one["lastTransitionTime"] for one in later["conditions"]}
    assert times == {"Ready": timestamp(START + 60), "Progressing": timestamp(START + 60)}
    pool["status"] = later
    again = pool_status(PoolSeen(pool, (job("a", 3, 3), job("b", 1, 1))), START + 90)
    assert {one["lastTransitionTime"] for one in again["conditions"]} == {timestamp(START + 60)}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("", "Idle", []),
        ("Idle", "WorkersStarting", []),
        ("WorkersReady", "OutOfMemory", [("OutOfMemory", True)]),
        ("OutOfMemory", "OutOfMemory", []),
        ("OutOfMemory", "WorkersReady", [("WorkersReady", False)]),
        ("", "NotSupported", [("NotSupported", True)]),
    ],
)
def test_events_tell_of_trouble_and_its_end_only(before: str, after: str, told: list[tuple[str, bool]]) -> None:
    pool = pool_object() | {"status": {"reason": before}}
    news = pool_transitions(PoolSeen(pool, ()), {"reason": after, "message": "m"})
    assert [(one.reason, one.is_warning) for one in news] == told
