"""What other tools make of a job: kstatus by its documented rules, Argo CD by the check in docs/gitops.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lupa
import pytest
import yaml

from muster_operator.objects import Object
from muster_operator.pools import PoolSeen, pool_status
from operating import START, Cluster, ended, job_object, pool_object

COORDINATOR, WORKERS = "digits-coordinator", "digits-workers-cloud"
GUIDE = Path(__file__).parents[3] / "docs" / "gitops.md"


def kstatus(value: Object) -> str:
    """sigs.k8s.io/cli-utils/pkg/kstatus, README: the rules for kinds that it has no rules of its own for."""
    status = value.get("status") or {}
    if "deletionTimestamp" in value["metadata"]:
        return "Terminating"
    if "observedGeneration" in status and status["observedGeneration"] != value["metadata"]["generation"]:
        return "InProgress"
    held = {one["type"]: one["status"] for one in status.get("conditions", ())}
    if held.get("Reconciling") == "True":
        return "InProgress"
    if held.get("Stalled") == "True":
        return "Failed"
    return "Current" if held.get("Ready", "True") == "True" else "InProgress"


def argo(value: Object) -> str:
    """The health check as it stands in the guide, run by Lua."""
    block = GUIDE.read_text().partition("```yaml\n")[2].partition("```")[0]
    [script] = yaml.safe_load(block).values()
    runtime = lupa.LuaRuntime(unpack_returned_tuples=True)
    check = runtime.execute(f"return function(obj)\n{script}\nend")
    return str(check(runtime.table_from(value, recursive=True))["status"])


def new() -> Cluster:
    return Cluster(job_object(), pool_object(clients=2))


def settled() -> Cluster:
    cluster = new()
    cluster.settle()
    return cluster


def running() -> Cluster:
    cluster = new()
    cluster.run()
    return cluster


def suspending() -> Cluster:
    cluster = running()
    cluster.job["spec"]["suspend"] = True
    cluster.settle()
    return cluster


def suspended() -> Cluster:
    cluster = running()
    cluster.suspend()
    return cluster


def complete() -> Cluster:
    cluster = running()
    cluster.say(COORDINATOR, conditions=[{"type": "Complete", "status": "True"}])
    cluster.settle()
    return cluster


def failed() -> Cluster:
    cluster = settled()
    cluster.start_pod(COORDINATOR, status=ended(2, "bad input"))
    cluster.settle()
    return cluster


def without_a_pool() -> Cluster:
    cluster = Cluster(job_object())
    cluster.settle()
    return cluster


def changed() -> Cluster:
    cluster = running()
    cluster.job["metadata"]["generation"] = 2
    return cluster


def in_trouble() -> Cluster:
    cluster = settled()
    cluster.start_pod(COORDINATOR)
    cluster.start_pod(WORKERS, index=0)
    cluster.start_pod(WORKERS, index=1, status=ended(137, reason="OOMKilled"))
    cluster.say(WORKERS, ready=1)
    cluster.settle()
    return cluster


@pytest.mark.parametrize(
    ("make", "for_kstatus", "for_argo"),
    [
        (new, "Current", "Progressing"),  # kstatus takes what has no status for current; Argo CD is told better
        (settled, "InProgress", "Progressing"),
        (running, "Current", "Healthy"),
        (in_trouble, "Current", "Healthy"),  # rounds go on without the one
        (suspending, "Current", "Healthy"),
        (suspended, "Current", "Suspended"),
        (complete, "Current", "Healthy"),
        (failed, "Failed", "Degraded"),
        (without_a_pool, "Failed", "Degraded"),
        (changed, "InProgress", "Progressing"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_a_job_in_each_phase(make: Callable[[], Cluster], for_kstatus: str, for_argo: str) -> None:
    job = make().job
    assert kstatus(job) == for_kstatus
    assert argo(job) == for_argo


@pytest.mark.parametrize(
    ("ready", "pool", "expected"),
    [
        (None, {}, "Current"),
        (2, {}, "Current"),
        (1, {}, "InProgress"),
        (None, {"type": "Slurm", "slurm": {"url": "https://s:6820", "relay": {"type": "SharedFolder"}}}, "Failed"),
    ],
)
def test_a_pool(ready: int | None, pool: dict[str, Any], expected: str) -> None:
    told = {"pools": [{"name": "cloud", "workersWanted": 2, "workersReady": ready}], "phase": "Running"}
    jobs = () if ready is None else (job_object() | {"status": told | {"specDigest": "1"}},)
    value = pool_object(**pool)
    value["status"] = pool_status(PoolSeen(value, jobs), START)
    assert kstatus(value) == expected
