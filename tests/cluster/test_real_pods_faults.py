"""What happens when things die under a job: a test first sees that its fault has landed, then that all is well.

Well means: the job completes, its history names each round once, and its model is the result of so many rounds and no
more (every round moves every number of it by one, small_task.py). At the end pytest prints what was broken, how long
the job took from then on, and how it ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from real_nodes import SYSTEM, Nodes, Team, team, wait_until

ROUNDS = 12
TASK = Path(__file__).with_name("small_task.py")
WORKER = "resources: {requests: {cpu: 50m, memory: 300Mi}, limits: {cpu: 1, memory: 1300Mi}}"

MANIFEST = """
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {{name: {name}}}
spec:
  task:
    source: {{type: ConfigMap, configMap: {{name: stepping}}}}
    entrypoint: small_task:Stepping
    config: {{seconds: 0.7{config}}}
  pools:
  - name: near
    inline:
      type: Kubernetes
      clients: 2
      workers: {{min: 1, max: 1, clientsPerWorker: 2}}
      trusted: true
      template: {{{worker}, nodeSelector: {{kubernetes.io/hostname: {near}}}}}
{more}
  rounds: {{total: {rounds}, minUpdates: 2, deadlineSeconds: 15, maxFailedRounds: 100}}
  local: {{epochs: 1, batchSize: 16, learningRate: 0.1}}
  coordinator: {{nodeSelector: {{kubernetes.io/hostname: n1}}, resources: {{requests: {{cpu: 50m, memory: 200Mi}}}}}}
  checkpoint: {{whenDeleted: Delete{storage}}}
"""

pytestmark = pytest.mark.timeout(600, func_only=True)
Report = Callable[[str, float, str], None]


@dataclass
class Job:
    """A job that runs, and the moment at which it was broken."""

    team: Team
    name: str
    report: Report
    broken_at: float = field(default_factory=time.monotonic)

    def pod(self, component: str) -> dict[str, Any]:
        return self.team.pods(self.name, component)[0]

    def breaks(self) -> None:
        """From now on time counts."""
        self.broken_at = time.monotonic()

    def ends_well(self, what: str) -> None:
        """No round lost, none repeated, and the model is what so many rounds make of it."""
        self.team.wait(self.name)
        self.report(what, time.monotonic() - self.broken_at, "complete")
        history = [one["round"] for one in self.team.training(self.name)["history"]]
        assert history == list(range(ROUNDS - len(history) + 1, ROUNDS + 1))
        model = load_file(self.storage() / "final.safetensors")
        np.testing.assert_array_equal(model["steps"], np.full(1000, ROUNDS, np.float32))

    def storage(self) -> Path:
        """The job's folder on the volume of its checkpoint."""
        job = self.team.get("fedjob", self.name)
        claim = job["status"]["coordinator"]["checkpointLocation"].removeprefix("pvc/")
        volume = self.team.get("pvc", claim)["spec"]["volumeName"]
        place = self.team.get("pv", volume)["spec"]["local"]["path"]
        return self.team.nodes.inside("n1", place) / job["metadata"]["uid"]


@pytest.fixture(scope="module")
def lab(release: Nodes) -> Iterator[Team]:
    with team(release, "faults") as found:
        found.tell("create", "configmap", "stepping", f"--from-file={TASK}")
        yield found


@pytest.fixture
def begin(lab: Team, fault_report: Report) -> Iterator[Callable[..., Job]]:
    """Starts jobs, and removes them afterwards."""
    begun: list[str] = []

    def _begin(
        name: str, *, near: str = "n1", config: str = "", more: str = "", storage: str = "", until: int = 2
    ) -> Job:
        text = MANIFEST.format(
            name=name, near=near, config=config, more=more, storage=storage, worker=WORKER, rounds=ROUNDS
        )
        lab.tell("apply", "-f", "-", manifest=text)
        begun.append(name)
        lab.wait_for_round(name, until)
        return Job(lab, name, fault_report)

    yield _begin
    for name in begun:
        lab.tell("delete", "fedjob", name, "--timeout=60s")


# --- Processes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", ["coordinator", "worker"])
def test_a_pod_is_killed(begin: Callable[..., Job], component: str) -> None:
    job = begin(f"killed-{component}")
    pod = job.pod(component)
    job.breaks()
    job.team.nodes.kill_pod(pod)
    name = pod["metadata"]["name"]
    wait_until(lambda: _exit_code(job.team, name) == 137, "the kubelet has seen it die")
    job.ends_well(f"kill -9 {component}")


def test_the_operator_is_killed(begin: Callable[..., Job]) -> None:
    job = begin("killed-operator")
    nodes = job.team.nodes
    operator = Team(nodes, SYSTEM)
    [pod] = operator.get("pods", "-l", "app.kubernetes.io/component=operator")["items"]
    job.breaks()
    nodes.kill_pod(pod)
    name = pod["metadata"]["name"]
    wait_until(lambda: operator.get("pod", name)["status"]["containerStatuses"][0]["restartCount"] >= 1, "it is back")
    job.ends_well("kill -9 operator")


@pytest.mark.parametrize("part", ["n1/kubelet", "n1/containerd", "kube-apiserver", "etcd"])
def test_a_part_of_the_cluster_is_killed(begin: Callable[..., Job], part: str) -> None:
    job = begin(f"killed-{part.rpartition('/')[2]}")
    job.breaks()
    job.team.nodes.kill(part)
    time.sleep(5)  # a while without it
    job.team.nodes.script("up")
    job.ends_well(f"kill -9 {part}, 5 s without")


# --- Nodes ------------------------------------------------------------------------------------------------------------


def test_a_node_is_drained(begin: Callable[..., Job]) -> None:
    job = begin("drained", near="n2")
    before = {pod["metadata"]["name"] for pod in job.team.pods("drained", "worker")}
    cluster = job.team.nodes.cluster
    job.breaks()
    cluster.tell("drain", "n2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s")
    try:
        assert not before & {pod["metadata"]["name"] for pod in job.team.pods("drained", "worker")}
    finally:
        cluster.tell("uncordon", "n2")
    job.ends_well("node drained, then given back")


def test_the_coordinator_is_evicted(begin: Callable[..., Job]) -> None:
    job = begin("evicted")
    pod = job.pod("coordinator")["metadata"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod["name"]}}
    job.breaks()
    path = f"/api/v1/namespaces/{job.team.namespace}/pods/{pod['name']}/eviction"
    job.team.tell("create", "--raw", path, "-f", "-", manifest=json.dumps(eviction))
    others = [f"metadata.name!={pod['name']}", "status.phase=Running"]
    labels = "muster.dev/job=evicted,app.kubernetes.io/component=coordinator"
    fields = f"--field-selector={','.join(others)}"
    wait_until(lambda: bool(job.team.get("pods", "-l", labels, fields)["items"]), "another coordinator was started")
    job.ends_well("coordinator evicted")


def test_a_node_is_lost_and_comes_back(begin: Callable[..., Job]) -> None:
    job = begin("lost", near="n2")
    cluster = job.team.nodes.cluster
    job.breaks()
    with cut_off(job.team.nodes, "n2"):
        cluster.tell("wait", "--for=condition=Ready=Unknown", "node/n2", "--timeout=60s")
    cluster.tell("wait", "--for=condition=Ready=True", "node/n2", "--timeout=60s")
    job.ends_well("node lost until it counts as lost, then back")


@contextmanager
def cut_off(nodes: Nodes, node: str) -> Iterator[None]:
    """The node's cable unplugged, with everything on the node still alive."""
    link = f"{_bridge(nodes)}{node}"
    subprocess.run(["ip", "link", "set", link, "down"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "set", link, "up"], check=True)


def _bridge(nodes: Nodes) -> str:
    """muster140, of a cluster whose nodes have addresses that begin with 10.140."""
    [address, *_] = nodes.cluster.tell("get", "nodes", "-o", "jsonpath={.items[*].status.addresses[0].address}").split()
    return f"muster{address.split('.')[1]}"


# --- What a pod lacks -------------------------------------------------------------------------------------------------

GREEDY = f"""  - name: greedy
    inline: {{type: Kubernetes, clients: 1, template: {{{WORKER}}}}}"""
ABSENT = f"""  - name: absent
    inline: {{type: Kubernetes, clients: 1, template: {{image: "localhost:1/absent:1", {WORKER}}}}}"""


@pytest.mark.parametrize(
    ("pool", "more", "config", "reason"),
    [("greedy", GREEDY, ", greedy: greedy", "OutOfMemory"), ("absent", ABSENT, "", "ImagePullFailed")],
)
def test_the_others_go_on_without_a_pool(
    begin: Callable[..., Job], pool: str, more: str, config: str, reason: str
) -> None:
    job = begin(f"without-{pool}", more=more, config=config, until=0)
    job.breaks()

    def told() -> str:
        return str({one["name"]: one.get("reason") for one in job.team.status(job.name).get("pools", [])}.get(pool))

    wait_until(lambda: told() == reason, f"the status says {reason}", within_s=90)
    job.ends_well(f"a pool's workers can't run: {reason}")


def test_the_checkpoints_disk_is_full_for_a_while(begin: Callable[..., Job], lab: Team) -> None:
    with small_volume(lab.nodes) as folder:
        job = begin("full", storage=", storage: {type: Volume, volume: {size: 1Mi, storageClassName: small}}")
        filler = folder / "filler"
        job.breaks()
        _fill(filler)
        assert os.statvfs(folder).f_bavail == 0
        wait_until(
            lambda: "No space left" in job.team.status("full").get("message", ""), "the status tells", within_s=90
        )
        filler.unlink()
        job.ends_well("disk of the checkpoint full until the status says so")


@contextmanager
def small_volume(nodes: Nodes) -> Iterator[Path]:
    """A volume of two megabytes on n1, of the class `small`."""
    volume = json.loads(nodes.cluster.tell("get", "pv", "n1-1", "-o", "json"))
    place = str(Path(volume["spec"]["local"]["path"]).with_name("small"))
    spec = {name: volume["spec"][name] for name in ("accessModes", "nodeAffinity", "persistentVolumeReclaimPolicy")}
    spec |= {"capacity": {"storage": "1Mi"}, "storageClassName": "small", "local": {"path": place}}
    small = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "small"}, "spec": spec}
    nodes.on("n1", "mkdir", "-p", place)
    nodes.on("n1", "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place)
    try:
        nodes.cluster.tell("create", "-f", "-", manifest=json.dumps(small))
        yield nodes.inside("n1", place)
    finally:
        nodes.cluster.tell("delete", "pv", "small", "--wait=false", "--ignore-not-found")
        nodes.on("n1", "umount", "--lazy", place)


def _fill(path: Path) -> None:
    """Take what is left of a disk."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))


# --- Networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["both ways", "to the coordinator", "to the worker"])
def test_packets_between_a_worker_and_its_coordinator_are_lost(begin: Callable[..., Job], direction: str) -> None:
    job = begin(f"partition-{direction.rsplit(maxsplit=1)[-1]}")
    worker, coordinator = (job.pod(one)["status"]["podIP"] for one in ("worker", "coordinator"))
    ways = {"to the coordinator": [(worker, coordinator)], "to the worker": [(coordinator, worker)]}
    pairs = ways.get(direction, [(worker, coordinator), (coordinator, worker)])
    job.breaks()
    with dropping(job.team.nodes, "n1", pairs) as dropped:
        wait_until(lambda: dropped() > 0, "packets are dropped")
        time.sleep(20)
    job.ends_well(f"partition, {direction}, 20 s")


@contextmanager
def dropping(nodes: Nodes, node: str, pairs: list[tuple[str, str]]) -> Iterator[Callable[[], int]]:
    """Drop what goes from one pod to the other on a node. How many packets were dropped so far."""
    rules = "\n".join(f"ip saddr {one} ip daddr {other} counter drop" for one, other in pairs)
    nodes.on(
        node, "nft", f"table inet fault {{\nchain forward {{\ntype filter hook forward priority -10;\n{rules}\n}}\n}}"
    )

    def dropped() -> int:
        words = nodes.on(node, "nft", "list", "table", "inet", "fault").split()
        return sum(int(words[at + 1]) for at, word in enumerate(words) if word == "packets")

    try:
        yield dropped
    finally:
        nodes.on(node, "nft", "delete", "table", "inet", "fault")


def _exit_code(owner: Team, pod: str) -> int | None:
    """Of a pod's container, which may have been removed since."""
    found = owner.nodes.cluster.kubectl("-n", owner.namespace, "get", "pod", pod, "-o", "json")
    if found.returncode:
        return 137
    [status] = json.loads(found.stdout)["status"]["containerStatuses"]
    ended = status["state"].get("terminated") or {}
    return ended.get("exitCode")
