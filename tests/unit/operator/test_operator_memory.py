"""What a job is remembered by is kept twice: whichever is lost, it goes on, or stays ended, as if nothing had been."""

from __future__ import annotations

import base64
import json
import random
import zlib
from typing import Any

import pytest

from muster_operator.build.memory import COPY, restored
from muster_operator.objects import Key, Object, annotation_of, timestamp
from operating import START, Cluster, conditions, job_object, pool_object

COORDINATOR, WORKERS = "digits-coordinator", "digits-workers-cloud"
ACCOUNT = Key("ServiceAccount", COORDINATOR)
SOURCE = {"type": "ConfigMap", "configMap": {"name": "my-code"}}


def running(code: dict[str, str] | None = None, **spec: Any) -> Cluster:
    task = {"task": {"entrypoint": "a:B", "source": SOURCE}} if code else {}
    cluster = Cluster(job_object(**task, **spec), pool_object())
    cluster.code = code
    cluster.run()
    return cluster


def config_of(cluster: Cluster) -> Key:
    [name] = [name for name in cluster.keys("ConfigMap") if "-spec-" in name]
    return Key("ConfigMap", name)


def memory_of(cluster: Cluster) -> list[Object]:
    """Without what the API server says of objects."""
    found = [cluster.objects[key] for key in (config_of(cluster), ACCOUNT)]
    return [{"annotations": dict(one["metadata"]["annotations"]), "data": one.get("data")} for one in found]


def lose(cluster: Cluster, kind: str) -> None:
    cluster.remove(config_of(cluster) if kind == "ConfigMap" else ACCOUNT)


def complete(cluster: Cluster) -> None:
    cluster.say(COORDINATOR, conditions=[{"type": "Complete", "status": "True"}])
    cluster.settle()


@pytest.mark.parametrize("kind", ["ConfigMap", "ServiceAccount"])
def test_a_failed_job_stays_failed(kind: str) -> None:
    cluster = running(runPolicy={"activeDeadlineSeconds": 100})
    cluster.now += 100
    cluster.settle()
    before = memory_of(cluster)
    cluster.now += 1000
    lose(cluster, kind)
    cluster.pools.clear()
    del cluster.job["status"]
    cluster.settle()
    assert conditions(cluster.job["status"])["Failed"] == "DeadlineExceeded"
    assert cluster.job["status"]["completionTime"] == timestamp(START + 100)
    assert all(cluster.child("Job", name)["spec"]["suspend"] for name in (COORDINATOR, WORKERS))
    assert memory_of(cluster) == before


@pytest.mark.parametrize("kind", ["ConfigMap", "ServiceAccount"])
def test_a_complete_job_stays_complete(kind: str) -> None:
    cluster = running(runPolicy={"ttlSecondsAfterFinished": 5000})
    complete(cluster)
    cluster.remove(Key("Job", COORDINATOR))
    cluster.now += 1000
    lose(cluster, kind)
    assert cluster.settle().wake_at == START + 5000
    assert conditions(cluster.job["status"]) == {"Complete": "Completed"}
    assert cluster.job["status"]["startTime"] == timestamp(START)
    assert cluster.keys("Job") == [WORKERS]


@pytest.mark.parametrize("kind", ["ConfigMap", "ServiceAccount"])
def test_a_running_job_goes_on_as_it_was_pinned(kind: str) -> None:
    cluster = running(code={"a.py": "B = 1\n"})
    before, jobs = memory_of(cluster), {name: cluster.child("Job", name) for name in cluster.keys("Job")}
    cluster.pools = [pool_object(clients=9, template={"image": "newer:2"})]
    cluster.code = {"a.py": "B = 2\n"}
    lose(cluster, kind)
    planned = cluster.settle()
    assert planned.status is not None
    assert planned.status["pools"][0]["reason"] == "SpecDrift"
    assert memory_of(cluster) == before
    assert {name: cluster.child("Job", name) for name in cluster.keys("Job")} == jobs


@pytest.mark.parametrize("kind", ["ConfigMap", "ServiceAccount"])
def test_its_clocks_go_on(kind: str) -> None:
    cluster = running(runPolicy={"activeDeadlineSeconds": 100, "preRunningDeadlineSeconds": 50})
    cluster.now += 60
    lose(cluster, kind)
    assert cluster.settle().wake_at == START + 100
    cluster.suspend()
    cluster.now += 1000
    lose(cluster, kind)
    cluster.settle()
    assert cluster.job["status"]["phase"] == "Suspended"
    cluster.job["spec"]["suspend"] = False
    cluster.start_pod(COORDINATOR)
    assert cluster.settle().wake_at == cluster.now + 40


def test_a_total_that_grew_is_remembered() -> None:
    cluster = running(rounds={"total": 5})
    cluster.job["spec"]["rounds"]["total"] = 9
    cluster.settle()
    before = memory_of(cluster)
    lose(cluster, "ConfigMap")
    cluster.settle()
    assert memory_of(cluster) == before


def test_what_does_not_fit_is_not_copied_and_the_ledger_is() -> None:
    code = {"big.py": random.Random(1).randbytes(200_000).hex()}
    cluster = running(code, runPolicy={"activeDeadlineSeconds": 100})
    account = cluster.objects[ACCOUNT]["metadata"]["annotations"]
    assert COPY not in account
    cluster.now += 60
    lose(cluster, "ConfigMap")
    assert cluster.settle().wake_at == START + 100
    cluster.now += 40
    cluster.settle()
    lose(cluster, "ConfigMap")
    cluster.settle()
    assert conditions(cluster.job["status"])["Failed"] == "DeadlineExceeded"


def test_a_copy_with_a_lot_of_code_is_small_enough_for_an_object() -> None:
    source = "".join(f"def train_{n}(model, data):\n    return model.step(data, rate={n / 7})\n" for n in range(8000))
    account = running({"a.py": source}).objects[ACCOUNT]["metadata"]["annotations"]
    assert len(source) > 500_000
    assert COPY in account
    assert sum(len(name) + len(text) for name, text in account.items()) < 256 * 1024


def packed(raw: bytes) -> str:
    return base64.b64encode(zlib.compress(raw)).decode()


@pytest.mark.parametrize(
    "copy",
    [
        "",
        "no base64",
        base64.b64encode(b"not packed").decode(),
        packed(b"no json"),
        packed(b'{"job.json": 1}'),
        packed(json.dumps({"job.json": " " * 8_000_000}).encode()),
        packed(b'{"job.json": "{}"}')[:-12],
    ],
    ids=["none", "text", "bytes", "json", "types", "bomb", "torn"],
)
def test_a_copy_that_cant_be_read_is_none(copy: str) -> None:
    assert restored({"metadata": {"annotations": {COPY: copy}}}) is None


def test_a_copy_that_is_damaged_leaves_the_ledger() -> None:
    cluster = running()
    complete(cluster)
    before = memory_of(cluster)
    cluster.objects[ACCOUNT]["metadata"]["annotations"][COPY] = packed(b'{"job.json": "{}"}')
    lose(cluster, "ConfigMap")
    cluster.settle()
    assert cluster.job["status"]["phase"] == "Complete"
    assert memory_of(cluster) == before


def test_an_account_that_is_not_the_jobs_says_nothing_of_it() -> None:
    old = running()
    complete(old)
    account = old.objects[ACCOUNT]
    del account["metadata"]["ownerReferences"]
    cluster = Cluster(job_object(), pool_object())
    cluster.objects[ACCOUNT] = account
    cluster.now += 1000
    cluster.settle()
    assert cluster.job["status"]["phase"] != "Complete"
    assert annotation_of(cluster.objects[ACCOUNT], "operator.muster.dev/started") == timestamp(START + 1000)
