"""A task whose code comes from a config map: what is pinned, what workers see, and what a later change means."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from mounted import Kubelet
from muster.loading import load_task
from muster_operator.objects import Key
from muster_operator.pinning import CODE_AGAIN_S, read_pinned
from operating import START, Cluster, conditions, job_object, pool_object

SOURCE = {"type": "ConfigMap", "configMap": {"name": "my-code"}}
CODE = {"from_a_map.py": "import muster\n\n\nclass Mine(muster.Task):\n    pass\n", "beside.py": ""}
WORKERS = "digits-workers-cloud"


def started(code: dict[str, str]) -> Cluster:
    found = Cluster(job_object(task={"entrypoint": "from_a_map:Mine", "source": SOURCE}), pool_object())
    found.code = code
    found.settle()
    return found


@pytest.fixture
def cluster() -> Cluster:
    return started(CODE)


def code_maps(cluster: Cluster) -> list[str]:
    return [name for name in cluster.keys("ConfigMap") if "-code-" in name]


def mount_of(cluster: Cluster) -> Any:
    container = cluster.child("Job", WORKERS)["spec"]["template"]["spec"]["containers"][0]
    [found] = [one for one in container["volumeMounts"] if one["name"] == "code"]
    return found


def test_workers_find_the_code_on_their_import_path(cluster: Cluster, tmp_path: Path) -> None:
    [config] = [name for name in cluster.keys("ConfigMap") if "-spec-" in name]
    task = read_pinned(cluster.child("ConfigMap", config)).spec.task
    assert task.source is not None
    assert task.source.path is not None
    assert mount_of(cluster) == {"name": "code", "mountPath": task.source.path.path, "readOnly": True}
    folder = str(Kubelet(cluster, tmp_path).folder(WORKERS, "code"))
    sys.path.insert(0, folder)
    try:
        plain = type(task)(task.entrypoint, {}, task.initial_model)
        assert type(load_task(plain)).__name__ == "Mine"
    finally:
        sys.path.remove(folder)


def test_the_copy_is_the_jobs_own_and_immutable(cluster: Cluster) -> None:
    [name] = code_maps(cluster)
    assert cluster.child("ConfigMap", name)["immutable"] is True
    assert cluster.child("ConfigMap", name)["data"] == CODE


def test_a_change_is_drift_and_changes_nothing_that_runs(cluster: Cluster) -> None:
    before = dict(cluster.objects)
    cluster.code = CODE | {"from_a_map.py": "raise SystemExit"}
    planned = cluster.settle()
    assert cluster.objects == before
    assert planned.status is not None
    [pool] = planned.status["pools"]
    assert pool["reason"] == "SpecDrift"
    assert "ConfigMap my-code with the task's code has changed" in pool["message"]
    cluster.code = None
    assert "is gone" in str(cluster.settle().status)


def test_the_copy_comes_back_as_it_was_whatever_has_become_of_the_original(cluster: Cluster) -> None:
    [name] = code_maps(cluster)
    cluster.remove(Key("ConfigMap", name))
    cluster.code = None
    cluster.settle()
    assert cluster.child("ConfigMap", name)["data"] == CODE


def test_more_rounds_keep_the_code(cluster: Cluster) -> None:
    job, before = cluster.child("Job", WORKERS), code_maps(cluster)
    cluster.job["spec"]["rounds"]["total"] += 5
    cluster.code = None
    cluster.settle()
    assert cluster.child("Job", WORKERS) == job
    assert code_maps(cluster) == before


@pytest.mark.parametrize(("code", "words"), [(None, "there is no ConfigMap my-code"), ({}, "nothing under data")])
def test_a_job_waits_for_its_code(code: dict[str, str] | None, words: str) -> None:
    cluster = Cluster(job_object(task={"entrypoint": "a:B", "source": SOURCE}), pool_object())
    cluster.code = code
    planned = cluster.settle()
    assert planned.status is not None
    assert conditions(planned.status) == {"Stalled": "SourceNotFound"}
    assert words in planned.status["message"]
    assert planned.wake_at == START + CODE_AGAIN_S
    cluster.code = CODE
    cluster.settle()
    assert cluster.keys("Job") == ["digits-coordinator", WORKERS]


def test_other_code_means_other_workers() -> None:
    jobs = [started(CODE | {"beside.py": text}).child("Job", WORKERS) for text in ("a = 1", "a = 2")]
    assert len({job["metadata"]["annotations"]["muster.dev/inputs"] for job in jobs}) == 2
