"""The number of workers, on a real API server with the real job controller: it changes, and the Job stays the same one.

There is no kubelet here: pods are created and removed, and none runs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from operator_runs import Kubectl, Lab, wait_until

DEAR, CHEAP = "job/digits-workers-dear", "job/digits-workers-cheap"
MANIFEST = """
apiVersion: muster.dev/v1alpha1
kind: ClientPool
metadata: {name: cheap}
spec:
  type: Kubernetes
  clients: 4
  cost: {perHour: 1}
  workers: {min: 1, max: 2, clientsPerWorker: 1}
---
apiVersion: muster.dev/v1alpha1
kind: ClientPool
metadata: {name: dear}
spec:
  type: Kubernetes
  clients: 4
  cost: {perHour: 9}
  workers: {min: 0, clientsPerWorker: 1}
---
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {name: digits}
spec:
  task: {entrypoint: "a:B"}
  pools: [{name: dear}, {name: cheap}]
  rounds: {total: 5, cohort: 4}
"""
LONG_AGO = {"metadata": {"annotations": {"operator.muster.dev/fewer-since": "2020-01-01T00:00:00Z"}}}


@pytest.fixture
def lab(crds: Kubectl, namespace: str, tmp_path: Path) -> Iterator[Lab]:
    """With a running operator, a job of a cheap pool and a dear one, and its children."""
    lab = Lab(crds, namespace, tmp_path)
    with lab.operator():
        lab.apply(MANIFEST)
        wait_until(lambda: {"Job/digits-workers-dear", "Job/digits-workers-cheap"} <= lab.children(), "all is there")
        yield lab


def size(lab: Lab, job: str) -> tuple[int, int]:
    spec = lab.get(job)["spec"]
    return spec["completions"], spec["parallelism"]


def pods(lab: Lab, pool: str) -> list[str]:
    """The indices of a pool's pods that aren't on their way out."""
    found: Any = json.loads(lab.tell("get", "pods", "-l", f"muster.dev/pool={pool}", "-o", "json"))["items"]
    there = [one["metadata"] for one in found if "deletionTimestamp" not in one["metadata"]]
    return sorted(one["annotations"]["batch.kubernetes.io/job-completion-index"] for one in there)


def bounds(lab: Lab, pool: str, **workers: int) -> None:
    lab.patch({"spec": {"workers": {"clientsPerWorker": 1} | workers}}, f"clientpool/{pool}")


def test_workers_come_and_go_while_the_job_stays_the_same_one(lab: Lab) -> None:
    wait_until(lambda: pods(lab, "cheap") == ["0", "1"], "as many as max lets the pool have")
    assert size(lab, DEAR) == (1, 0), "the other pool isn't needed"
    uids = {job: lab.get(job)["metadata"]["uid"] for job in (DEAR, CHEAP)}
    bounds(lab, "cheap", min=1, max=4)
    wait_until(lambda: pods(lab, "cheap") == ["0", "1", "2", "3"], "more at once")
    bounds(lab, "cheap", min=1, max=1)
    wait_until(lambda: pods(lab, "cheap") == ["0"], "a lower bound holds at once")
    wait_until(lambda: size(lab, CHEAP) == (1, 1), "both numbers change together")
    bounds(lab, "dear", min=1)
    wait_until(lambda: pods(lab, "dear") == ["0", "1", "2", "3"], "from none to as many as its clients need")
    bounds(lab, "dear", min=0)
    fewer = "operator.muster.dev/fewer-since"
    wait_until(lambda: fewer in lab.get(DEAR)["metadata"]["annotations"], "that there are too many is written down")
    assert size(lab, DEAR) == (4, 4)
    lab.patch(LONG_AGO, DEAR)
    wait_until(lambda: pods(lab, "dear") == [], "and after a while there are none")
    lab.settle()
    assert size(lab, DEAR) == (4, 0)
    assert not lab.get(DEAR)["status"].get("conditions"), "the Job is not over, though nothing of it runs"
    assert fewer not in lab.get(DEAR)["metadata"]["annotations"]
    assert {job: lab.get(job)["metadata"]["uid"] for job in (DEAR, CHEAP)} == uids
    assert lab.get("clientpool/dear")["spec"]["workers"] == {"clientsPerWorker": 1, "min": 0}
    said = lab.tell("get", "events", "-o", "jsonpath={..message}")
    assert "pool dear: 4 workers instead of 0" in said
    assert "pool cheap: 1 worker instead of 4" in said


def test_pods_that_no_node_takes_bring_the_next_pool(lab: Lab) -> None:
    """There is no node here at all; how long a pod has waited is written by the test."""
    wait_until(lambda: len(pods(lab, "cheap")) == 2, "pods of the cheap pool wait for a node")
    assert size(lab, DEAR) == (1, 0)
    waits = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no nodes"}
    waits["lastTransitionTime"] = "2020-01-01T00:00:00Z"
    [name, *_] = lab.tell("get", "pods", "-l", "muster.dev/pool=cheap", "-o", "jsonpath={..metadata.name}").split()
    body = json.dumps({"status": {"conditions": [waits]}})
    lab.tell("patch", "pod", name, "--subresource=status", "--type=merge", "-p", body)
    wait_until(lambda: len(pods(lab, "dear")) == 4, "the dear pool is taken")
    assert size(lab, CHEAP) == (2, 2), "and the cheap one goes on waiting for a node"
