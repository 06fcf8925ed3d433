"""Clients whose data lies in places of their own: one Job a client, and what becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from muster_operator.objects import Key, Object, label_of
from operating import Cluster, conditions, ended, job_object, pool_object

COORDINATOR = "digits-coordinator"
JOBS = [f"digits-workers-wards-{index}" for index in range(3)]
CLAIM = {"type": "PersistentVolumeClaim", "persistentVolumeClaim": {"claimName": "ward-0", "subPath": "records"}}
SECRET = {"type": "Secret", "secret": {"name": "ward-1"}}
PLACES = [{"volume": CLAIM}, {"volume": SECRET, "path": "/ward"}, {"nodeSelector": {"ward": "2"}, "path": "/local"}]


@pytest.fixture
def cluster() -> Cluster:
    template = {"nodeSelector": {"disk": "ssd"}}
    pool = pool_object("wards", clients=3, data={"path": "/records", "perClient": PLACES}, template=template)
    found = Cluster(job_object(pools=("wards",)), pool)
    found.run()
    return found


def pod(cluster: Cluster, index: int) -> Object:
    found: Object = cluster.child("Job", JOBS[index])["spec"]["template"]["spec"]
    return found


def option(pod: Object, name: str) -> Any:
    command = pod["containers"][0]["command"]
    return command[command.index(name) + 1] if name in command else None


def test_each_client_has_a_job_with_its_own_place(cluster: Cluster) -> None:
    assert cluster.keys("Job") == [COORDINATOR, *JOBS]
    pods = [pod(cluster, index) for index in range(3)]
    assert [option(one, "--indices") for one in pods] == ["0", "1", "2"]
    assert [option(one, "--capacity") for one in pods] == [None, None, None]
    assert [option(one, "--data") for one in pods] == ["/records", "/ward", "/local"]
    data = [[volume for volume in one["volumes"] if volume["name"] == "data"] for one in pods]
    assert data == [
        [{"name": "data", "persistentVolumeClaim": {"claimName": "ward-0", "readOnly": True}}],
        [{"name": "data", "secret": {"secretName": "ward-1"}}],
        [],
    ]
    mounts = [[one for one in each["containers"][0]["volumeMounts"] if one["name"] == "data"] for each in pods]
    assert mounts[0] == [{"name": "data", "mountPath": "/records", "readOnly": True, "subPath": "records"}]
    assert mounts[1] == [{"name": "data", "mountPath": "/ward", "readOnly": True}]
    selectors = [one["nodeSelector"] for one in pods]
    assert selectors == [{"disk": "ssd"}, {"disk": "ssd"}, {"disk": "ssd", "ward": "2"}]


def test_a_clients_job_and_pods_can_be_found_by_its_index(cluster: Cluster) -> None:
    for index, name in enumerate(JOBS):
        job = cluster.child("Job", name)
        assert (
            label_of(job, "muster.dev/client") == label_of(job["spec"]["template"], "muster.dev/client") == str(index)
        )
        assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (1, 1)


def test_all_of_them_join_with_their_pools_bundle(cluster: Cluster) -> None:
    assert cluster.keys("Secret") == ["digits-authority", "digits-join-wards", "digits-server"]
    volumes = [volume for index in range(3) for volume in pod(cluster, index)["volumes"] if volume["name"] == "trust"]
    assert [one["secret"]["secretName"] for one in volumes] == ["digits-join-wards"] * 3


def test_they_are_counted_together(cluster: Cluster) -> None:
    cluster.say(JOBS[1], ready=0, active=1)
    [pool] = cluster.settle().status["pools"]  # type: ignore[index]
    assert (pool["clients"], pool["workersWanted"], pool["workersReady"]) == (3, 3, 2)


def test_the_trouble_of_one_is_told_with_its_name(cluster: Cluster) -> None:
    cluster.start_pod(JOBS[2], status=ended(1, "ValueError: no such scan"), index=0)
    [pool] = cluster.settle().status["pools"]  # type: ignore[index]
    assert pool["reason"] == "PodFailed"
    assert JOBS[2] in pool["message"]
    cluster.say(JOBS[1], conditions=[{"type": "Failed", "status": "True", "message": "FailedIndexes"}])
    [pool] = cluster.settle().status["pools"]  # type: ignore[index]
    assert (pool["reason"], pool["message"]) == ("WorkersFailed", "client 1: FailedIndexes")


def test_the_job_fails_only_when_all_of_them_have(cluster: Cluster) -> None:
    for name in JOBS[:2]:
        cluster.say(name, conditions=[{"type": "Failed", "status": "True", "message": "FailedIndexes"}])
    assert "Failed" not in conditions(cluster.settle().status)  # type: ignore[arg-type]
    cluster.say(JOBS[2], conditions=[{"type": "Failed", "status": "True", "message": "FailedIndexes"}])
    cluster.settle()
    assert conditions(cluster.job["status"])["Failed"] == "WorkersFailed"


def test_one_that_is_deleted_comes_back_without_disturbing_the_others(cluster: Cluster) -> None:
    kept = {name: cluster.child("Job", name)["metadata"]["uid"] for name in (COORDINATOR, JOBS[0], JOBS[2])}
    cluster.remove(Key("Job", JOBS[1]))
    cluster.settle()
    assert cluster.keys("Job") == [COORDINATOR, *JOBS]
    assert {name: cluster.child("Job", name)["metadata"]["uid"] for name in kept} == kept
