"""`status.training` as the real coordinator writes it: real workers, real API server, the operator's own RBAC.

The processes run beside the cluster, which has no kubelet (laptop_pods.py); the pods that stand for them are played.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import laptop_pods
from operator_runs import MANIFEST, Kubectl, Lab, wait_until

JOB = MANIFEST.replace('"a:B"', "small:Small, config: {seconds: 1}") + (
    "  evaluation: {every: 1, federated: true}\n  local: {epochs: 1, batchSize: 16, learningRate: 0.1}\n"
)


@pytest.fixture
def lab(crds: Kubectl, namespace: str, tmp_path: Path) -> Lab:
    return Lab(crds, namespace, tmp_path)


@pytest.fixture
def running(lab: Lab) -> Iterator[Lab]:
    """A lab with an operator and a job whose pods are said to be up."""
    with lab.operator():
        lab.apply(JOB)
        lab.run_all()
        yield lab


def row(lab: Lab, *arguments: str) -> dict[str, str]:
    """The job's line of `kubectl get`, by the heads of its columns."""
    head, line = lab.tell("get", "fedjobs", *arguments).splitlines()
    starts = [found.start() for found in re.finditer(r"(?:^|(?<=  ))\S", head)]
    ends = [*starts[1:], None]
    return {head[a:b].strip(): line[a:b].strip() for a, b in zip(starts, ends, strict=True)}


def test_columns_are_live_and_kubectl_waits_for_the_end(running: Lab) -> None:
    lab = running
    with laptop_pods.coordinator(lab) as coordinator, laptop_pods.worker(coordinator.address, clients=2) as worker:
        wait_until(lambda: row(lab)["CLIENTS"] == "2/2", "clients are shown", within_s=60)
        wait_until(lambda: row(lab)["ROUND"] == "1", "the first round is shown", within_s=60)
        live = row(lab)
        assert (live["STATE"], live["TOTAL"]) == ("Running", "3")
        assert coordinator.wait(60) == 0
        assert worker.wait(60) == 0
        last = json.dumps(coordinator.of("finished")[0])
    [pod] = lab.pods("coordinator")
    lab.end_pod(pod, 0, last)
    lab.tell("wait", "--for=condition=Complete", "fedjob/digits", "--timeout=20s")
    assert list(row(lab)) == ["NAME", "STATE", "ROUND", "TOTAL", "CLIENTS", "ACCURACY", "AGE"]
    wide = row(lab, "-o", "wide")
    assert list(wide)[7:] == ["LAST ROUND", "STRAGGLERS", "BYTES UP", "ENDPOINT", "REASON"]
    assert (wide["STATE"], wide["ROUND"], wide["STRAGGLERS"], wide["REASON"]) == ("Complete", "3", "0", "Completed")
    assert re.fullmatch(r"2 of 2 in \d+(\.\d)? s", wide["LAST ROUND"])
    assert re.fullmatch(r"\d+\.\d KiB", wide["BYTES UP"])
    assert re.fullmatch(r"\d+\.\d%", wide["ACCURACY"])
    assert wide["ENDPOINT"] == f"digits-coordinator.{lab.namespace}.svc:443"
    assert laptop_pods.training(lab)["phase"] == "Finished"
    assert [one["round"] for one in laptop_pods.training(lab)["history"]] == [1, 2, 3]


def test_suspend_ends_the_open_round_and_resume_goes_on_from_it(running: Lab) -> None:
    lab = running
    with laptop_pods.coordinator(lab) as first, laptop_pods.worker(first.address, clients=2):
        first.until("planned", 60, round=1)
        lab.patch({"spec": {"suspend": True}})
        wait_until(lambda: lab.status().get("reason") == "Suspending", "the operator waits for the round")
        assert first.wait(60) == 143
    [pod] = lab.pods("coordinator")
    lab.end_pod(pod, 143)
    lab.tell("wait", "--for=condition=Suspended", "fedjob/digits", "--timeout=20s")
    wait_until(lambda: not lab.pods("worker"), "the workers' pods are gone")
    before = [event["round"] for event in first.of("committed")]
    assert laptop_pods.training(lab)["phase"] == "Suspended"
    assert f"{before[-1]} round" in lab.status()["message"]
    assert len(first.of("planned")) == len(before)  # what was begun was ended

    lab.patch({"spec": {"suspend": False}})
    lab.run_all()
    with laptop_pods.coordinator(lab) as second, laptop_pods.worker(second.address, clients=2):
        assert second.wait(60) == 0
    assert [*before, *(event["round"] for event in second.of("committed"))] == [0, 1, 2, 3]
    training = laptop_pods.training(lab)
    assert (training["phase"], training["epoch"]) == ("Finished", 2)
    assert [one["round"] for one in training["history"]] == [1, 2, 3]


def test_the_coordinators_account_may_write_its_own_status_and_nothing_else(running: Lab) -> None:
    lab = running
    lab.apply(JOB.partition("---")[2].replace("name: digits", "name: other"))
    who = f"--as=system:serviceaccount:{lab.namespace}:digits-coordinator"

    def may(*what: str) -> bool:
        return lab.cluster.kubectl("-n", lab.namespace, "auth", "can-i", *what, who).stdout.strip() == "yes"

    assert may("patch", "federatedjobs/digits", "--subresource=status")
    assert may("get", "federatedjobs/digits", "--subresource=status")
    assert not may("patch", "federatedjobs/other", "--subresource=status")
    assert not may("patch", "federatedjobs/digits")
    assert not may("list", "federatedjobs")
    assert not may("get", "secrets")


def test_a_job_goes_on_without_an_api_server_that_takes_its_status(running: Lab) -> None:
    lab = running
    folder, _ = laptop_pods.service_account(lab)
    with laptop_pods.coordinator(lab) as coordinator:
        (folder / "token").write_text("no such token")
        with laptop_pods.workers(coordinator.address, pool="cloud", count=2) as workers:
            assert coordinator.wait(60) == 0
            workers.join()
    assert "401" in (lab.folder / "errors.log").read_text()
    assert laptop_pods.training(lab).get("phase") != "Finished"
