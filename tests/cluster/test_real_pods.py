"""The whole of it, on real nodes: helm install, kubectl apply of an example, training in pods, the model fetched.

Nothing is played here. Namespaces admit restricted pods only; coordinator and workers are pods of the images that `make
images` builds, and meet over the pods' network, through DNS and a Service, with mutual TLS.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from safetensors.numpy import load_file

from charting import ROOT
from documented import Block, blocks
from real_nodes import SYSTEM, Nodes, Object, Shell, Team, laptops_accuracy, team, wait_until

DOCUMENTED = [block for block in blocks() if block.is_run_on_nodes]
FIRST_JOB = next(block for block in DOCUMENTED if any("examples/digits/pods.yaml" in line for line in block.commands))
EXAMPLE = ROOT / "examples" / "digits" / "pods.yaml"
NOISE = 0.03  # pods and processes make the same rounds, but floating-point sums come in another order


@pytest.fixture(scope="module")
def lab(release: Nodes) -> Iterator[Team]:
    with team(release, "lab") as found:
        yield found


@dataclass(frozen=True)
class Run:
    """What `kubectl get fedjobs -w` showed of a run, its pods while they trained, and the model that was fetched."""

    watch: str
    pods: list[Object]
    model: Path


@pytest.fixture(scope="module")
def shell(lab: Team, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell.of(lab, tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def trained(lab: Team, shell: Shell) -> Run:
    """The example, applied and waited for, and its model fetched, with the lines of docs/install.md."""
    apply, wait, fetch = FIRST_JOB.lines()
    shown = shell.folder / "watch"
    shell.run(apply)
    with shown.open("w") as out:
        command = ["kubectl", "-n", lab.namespace, "get", "fedjobs", "-w"]
        watch = subprocess.Popen(command, stdout=out, env=lab.nodes.cluster.environment)
    try:
        lab.wait_for_round("digits", 1, within_s=300)
        pods = lab.get("pods", "-l", "muster.dev/job=digits")["items"]
        shell.run(wait)
        time.sleep(1)
    finally:
        watch.kill()
        watch.wait()
    print(shown.read_text())
    shell.run(fetch)
    return Run(shown.read_text(), pods, shell.folder / "digits.safetensors")


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> float:
    """The accuracy of the same manifest with `muster run`."""
    return laptops_accuracy(EXAMPLE, tmp_path_factory.mktemp("laptop"))


def test_the_example_trains_in_pods_to_the_laptops_accuracy(lab: Team, trained: Run, laptop: float) -> None:
    del trained
    training = lab.training("digits")
    assert training["round"] == 60
    assert [one["round"] for one in training["history"]] == sorted({one["round"] for one in training["history"]})
    assert float(training["metrics"]["accuracy"]) == pytest.approx(laptop, abs=NOISE)


def test_the_watch_shows_rounds_moving(trained: Run) -> None:
    rounds = [
        int(found[1])
        for line in trained.watch.splitlines()
        if (found := re.match(r"digits\s+Running\s+(\d+)\s+60", line))
    ]
    assert len(set(rounds)) > 5
    assert rounds == sorted(rounds)
    assert re.search(r"digits\s+Complete\s+60\s+60\s+", trained.watch)


def test_everybody_runs_as_nobody_in_particular(trained: Run) -> None:
    assert len(trained.pods) == 5
    for pod in trained.pods:
        [container] = pod["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_the_model_is_fetched_with_one_command(lab: Team, trained: Run) -> None:
    assert sum(tensor.size for tensor in load_file(trained.model).values()) > 1000
    wait_until(lambda: not lab.get("jobs", "-l", "app.kubernetes.io/component=reader")["items"], "the reader is gone")


def test_a_job_that_is_not_there_is_named(lab: Team, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "muster_cli.main",
        "fetch-model",
        "absent",
        "-n",
        lab.namespace,
        "--out",
        str(tmp_path / "m"),
    ]
    told = subprocess.run(command, env=lab.nodes.cluster.environment, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert '"absent" not found' in told.stderr


# --- What the documentation shows ------------------------------------------------------------------------------------


def of_page(name: str) -> list[Block]:
    """What a page shows and is run here, but for the first job, which everything else builds on."""
    found = [block for block in DOCUMENTED if block.page == f"docs/{name}.md" and block != FIRST_JOB]
    assert found
    return found


@pytest.mark.parametrize("page", ["install", "troubleshooting"])
def test_what_a_page_shows_can_be_done(shell: Shell, trained: Run, page: str) -> None:
    del trained  # the job digits, which they talk of
    for block in of_page(page):
        for line in block.lines():
            shell.run(line)


@pytest.fixture
def claimed_gpu(nodes: Nodes) -> Iterator[None]:
    """A GPU that n2 says it has, on a node that is marked as such nodes are, and may be taken away."""
    tell = nodes.cluster.tell
    claim = {"status": {part: {"nvidia.com/gpu": "1"} for part in ("capacity", "allocatable")}}
    none = {"status": {part: {"nvidia.com/gpu": None} for part in ("capacity", "allocatable")}}
    taints = ("nvidia.com/gpu=present:NoSchedule", "cloud.google.com/gke-spot=true:NoSchedule")
    patch = ("patch", "node", "n2", "--subresource=status", "--type=merge", "-p")
    tell(*patch, json.dumps(claim))
    tell("taint", "node", "n2", *taints)
    try:
        yield
    finally:
        tell("taint", "node", "n2", *(f"{taint}-" for taint in taints))
        tell(*patch, json.dumps(none))


def test_two_pools_train_while_the_operator_is_upgraded(
    lab: Team, shell: Shell, trained: Run, claimed_gpu: None
) -> None:
    del trained, claimed_gpu
    [pools] = of_page("pools")
    *begin, wait = pools.lines()
    for line in begin:
        shell.run(line)
    lab.wait_for_round("two-pools", 1)
    before = _pods(lab, "two-pools")
    assert {where for _, pool, where in before if pool == "gpus"} == {"n2"}
    assert {where for _, pool, where in before if pool == "cores"} == {"n1"}
    operator = _operator(lab)
    values = shell.folder / "helm/muster/values.yaml"  # a newer chart, which makes another pod
    values.write_text(values.read_text().replace("podAnnotations: {}", "podAnnotations: {chart: newer}"))
    for block in of_page("operations"):
        for line in block.lines():
            shell.run(line)
    assert _operator(lab) != operator
    shell.run(wait)
    after = _pods(lab, "two-pools")
    assert after <= before  # workers may have been cleaned up at the end, but nobody is new
    assert [pool for _, pool, _ in after].count("") == 1, "the coordinator's pod is the same"
    assert [one["round"] for one in lab.training("two-pools")["history"]] == [1, 2, 3, 4, 5, 6]


def _pods(lab: Team, job: str) -> set[tuple[str, str, str]]:
    """Each pod's uid, pool and node."""
    found = lab.get("pods", "-l", f"muster.dev/job={job}")["items"]
    return {
        (one["metadata"]["uid"], one["metadata"]["labels"].get("muster.dev/pool", ""), one["spec"].get("nodeName", ""))
        for one in found
    }


def _operator(lab: Team) -> str:
    """The uid of its pod."""
    found = lab.nodes.cluster.tell(
        "-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "json"
    )
    [uid] = [one["metadata"]["uid"] for one in json.loads(found)["items"] if "deletionTimestamp" not in one["metadata"]]
    return str(uid)


def test_every_page_with_commands_for_a_cluster_is_done_here() -> None:
    here = {f"docs/{name}.md" for name in ("install", "operations", "pools", "troubleshooting")}
    assert {block.page for block in DOCUMENTED} == here | {"examples/hybrid/README.md"}  # by test_hybrid.py


def test_the_example_is_the_laptops_but_for_where_the_pools_run() -> None:
    documents = {
        one["metadata"]["name"]: one for one in yaml.safe_load_all((ROOT / "examples/digits/job.yaml").read_text())
    }
    ours = {one["metadata"]["name"]: one for one in yaml.safe_load_all(EXAMPLE.read_text())}
    assert ours["digits"] == documents["digits"]
    assert {name: one["spec"].get("clients") for name, one in ours.items()} == {
        name: one["spec"].get("clients") for name, one in documents.items()
    }
