"""A release from install to uninstall, with real helm, while jobs run.

The operator that runs here is the one that the Deployment describes: its environment, its command and its probes are
read from the API server, so what helm changes there is what changes here. There is no kubelet to do it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from charting import CHART, HELM, Kubectl, Object, settings, tell_helm
from operator_runs import MANIFEST, Lab, as_deployed, wait_until

PARTS = 13  # children of a job with one pool
SECOND = MANIFEST.partition("---")[2].replace("name: digits", "name: second")


@pytest.fixture
def lab(crds: Kubectl, namespace: str, tmp_path: Path) -> Lab:
    crds.tell("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    return Lab(crds, namespace, tmp_path)


def helm(lab: Lab, *arguments: str, **values: Any) -> str:
    """The release is called after the namespace. Its rights and the resources are there already: it takes them."""
    given = settings({"watch.namespaces": [lab.namespace], "rbac.aggregate": False, **values}) if values else []
    return tell_helm("-n", lab.namespace, *arguments, *given, environment=lab.cluster.environment)


def install(lab: Lab, **values: Any) -> str:
    arguments = ("upgrade", "--install", "--take-ownership", lab.namespace, str(CHART))
    return helm(lab, *arguments, **{"operator.reconcilers": 2}, **values)


def container(lab: Lab) -> Object:
    [found] = lab.get("deployment", lab.namespace)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def run(command: list[str], port: int) -> int:
    """What a container's command says here, where the operator listens on another address. Its exit code."""
    *program, url = [sys.executable if part == "python" else part for part in command]
    path = urllib.parse.urlsplit(url).path
    return subprocess.run(
        [*program, f"http://127.0.0.1:{port}{path}"], stderr=subprocess.DEVNULL, check=False
    ).returncode


@contextmanager
def deployed(lab: Lab, *, is_ready: bool = True) -> Iterator[int]:
    """The operator that the Deployment describes. The port of its probes."""
    with as_deployed(container(lab), lab.namespace, lab, is_ready=is_ready) as port:
        yield port


def state(lab: Lab) -> dict[str, str]:
    """Every child and what would show that it was made again or written to."""
    return {child: _state(lab.get(child)) for child in lab.children()}


def _state(child: Object) -> str:
    others_write_to_it = child["kind"] in {"Job", "PersistentVolumeClaim"}
    return str(child["metadata"]["uid"] + ("" if others_write_to_it else child["metadata"]["resourceVersion"]))


@pytest.mark.timeout(600, func_only=True)
def test_jobs_outlive_every_change_of_the_release(lab: Lab) -> None:
    assert f"runs FederatedJobs in {lab.namespace}" in install(lab)
    with deployed(lab):
        lab.apply()
        wait_until(lambda: len(lab.children()) == PARTS and bool(lab.status()), "all parts are there", within_s=60)
    before = state(lab)

    install(lab, **{"workerImage.tag": "2", "operator.resyncSeconds": 60})
    assert lab.get("deployment", lab.namespace)["metadata"]["generation"] == 2
    with deployed(lab):
        lab.apply(SECOND)
        wait_until(lambda: len(lab.children()) == 2 * PARTS, "the new operator works", within_s=60)
    after = state(lab)
    assert {child: after[child] for child in before} == before
    assert image(lab, "digits") == "muster-worker:0.1.0"
    assert image(lab, "second") == "muster-worker:2"

    helm(lab, "rollback", lab.namespace, "1")
    assert {"name": "MUSTER_WORKER_IMAGE", "value": "muster-worker:0.1.0"} in container(lab)["env"]
    with deployed(lab):
        lab.tell("delete", "fedjob/second")
        wait_until(lambda: len(lab.children() - before.keys()) <= 1, "the second job is gone", within_s=60)
    assert {child: uid for child, uid in state(lab).items() if child in before} == before

    assert "kept due to the resource policy" in helm(lab, "uninstall", lab.namespace)
    assert lab.cluster.kubectl("-n", lab.namespace, "get", "deployment", lab.namespace).returncode != 0
    assert {child: uid for child, uid in state(lab).items() if child in before} == before
    assert lab.get("fedjob", "digits")["spec"]["rounds"]["total"] == 3
    lab.tell("delete", "fedjobs,pvc", "--all", "--timeout=30s")
    wait_until(lambda: not lab.children(), "its parts went with it, without an operator", within_s=60)


def image(lab: Lab, job: str) -> str:
    [worker] = lab.get(f"job/{job}-workers-cloud")["spec"]["template"]["spec"]["containers"]
    return str(worker["image"])


def test_it_can_be_installed_again_over_what_an_uninstall_kept(lab: Lab) -> None:
    install(lab)
    helm(lab, "uninstall", lab.namespace)
    helm(lab, "install", lab.namespace, str(CHART), **{"operator.reconcilers": 2})
    assert lab.get("deployment", lab.namespace)["spec"]["replicas"] == 1


@pytest.mark.parametrize("is_ready", [True, False], ids=["ready", "waiting"])
def test_helm_test_asks_whether_the_operator_leads(lab: Lab, is_ready: bool) -> None:
    install(lab)
    if not is_ready:
        other = {"holderIdentity": "another", "renewTime": "2999-01-01T00:00:00.000000Z", "leaseDurationSeconds": 30}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "muster-operator"}}
        lab.apply(json.dumps(lease | {"spec": other}))
    asked = subprocess.Popen(
        [HELM, "-n", lab.namespace, "test", lab.namespace],
        env=lab.cluster.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with deployed(lab, is_ready=is_ready) as port:
            name = f"{lab.namespace}-test"
            wait_until(
                lambda: lab.cluster.kubectl("-n", lab.namespace, "get", "pod", name).returncode == 0, "a pod asks"
            )
            lab.end_pod(name, run(lab.get("pod", name)["spec"]["containers"][0]["command"], port))
        told, _ = asked.communicate(timeout=60)
    finally:
        asked.kill()
    assert (asked.returncode == 0) == is_ready, told
    assert ("Phase:          Succeeded" in told) == is_ready
