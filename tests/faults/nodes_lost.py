"""A node goes: told to, or without a word, without the coordinator or with it. It is the second node of two."""

from __future__ import annotations

from pathlib import Path

from faults.jobs import Job, Lab, manifest, pool, wait_for_another
from faults.nodes import cut_off, frozen, shared_volume
from real_nodes import Nodes, Object, is_alive, wait_until

_SEAT = "test.muster.dev/coordinator"  # label of nodes on which the coordinator may be


def node_drained(lab: Lab) -> None:
    with lab.job("node drained, then given back", manifest("drained", [pool("near", node="n2")])) as job:
        before = {pod["metadata"]["name"] for pod in job.team.pods("drained", "worker")}
        cluster = job.team.nodes.cluster
        job.breaks()
        cluster.tell("drain", "n2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s")
        try:
            assert not before & {pod["metadata"]["name"] for pod in job.team.pods("drained", "worker")}
        finally:
            cluster.tell("uncordon", "n2")
        job.ends_well()


def node_lost_and_back(lab: Lab) -> None:
    with lab.job("node lost until it counts as lost, then back", manifest("lost", [pool("near", node="n2")])) as job:
        job.breaks()
        with cut_off(job.team.nodes, "n2"):
            _wait_for_node(job.team.nodes, "Unknown")
        _wait_for_node(job.team.nodes, "True")
        job.ends_well()


def node_lost_with_its_coordinator(lab: Lab) -> None:
    """The old coordinator lives on beside the new one, with the clients of its own node and the same storage, until it
    comes to commit a round that the new one has committed: it is refused, and leaves.

    The clients of its node are held up until the new one has committed, so that it is known who comes too late. They
    find it by a name that their node has kept: certificates hold for a minute here, the cluster's DNS is out of reach,
    and who can't look the coordinator up can't enrol again, so the old one would have nothing to commit.
    """
    nodes = lab.team.nodes
    given = manifest(
        "two-coordinators",
        [pool("near"), pool("far", node="n2")],
        rounds={"total": 20, "deadlineSeconds": 20},
        config={"seconds": 2},
        coordinator={_SEAT: "yes"},
        storage={"type": "Volume", "volume": {"size": "1Gi", "storageClassName": "shared"}},
    )
    nodes.cluster.tell("label", "node", "n2", f"{_SEAT}=yes")
    try:
        with shared_volume(nodes), lab.job("node lost with its coordinator, which lives on", given, until=1) as job:
            old = job.pod("coordinator")
            processes, far = nodes.processes_of(old), job.pod("worker", "far")
            assert old["spec"]["nodeName"] == far["spec"]["nodeName"] == "n2"
            keep_name(job, far)
            job.breaks()
            with cut_off(nodes, "n2"):
                with frozen(nodes, far):
                    nodes.cluster.tell("label", "node", "n1", f"{_SEAT}=yes")
                    new = wait_for_another(job, old)
                    assert new["spec"]["nodeName"] == "n1"
                    job.team.wait_for_round(job.name, job.team.training(job.name)["round"] + 1)
                    assert any(map(is_alive, processes)), "there are not two coordinators"
                wait_until(lambda: not any(map(is_alive, processes)), "the old one leaves", within_s=90)
                assert "has been committed by another coordinator" in log_on_node(nodes, old)
                assert job.team.training(job.name)["round"] < job.rounds
            _wait_for_node(nodes, "True")
            job.ends_well()
    finally:
        nodes.cluster.tell("label", "node", "n1", "n2", f"{_SEAT}-")


def keep_name(job: Job, pod: Object) -> None:
    """Have a pod know where its coordinator is without asking the cluster's DNS, as where each node keeps answers."""
    name = f"{job.name}-coordinator"
    address = job.team.get("service", name)["spec"]["clusterIP"]
    [process, *_] = job.team.nodes.processes_of(pod)
    with Path(f"/proc/{process}/root/etc/hosts").open("a") as hosts:
        hosts.write(f"{address} {name}.{job.team.namespace}.svc\n")


def log_on_node(nodes: Nodes, pod: Object) -> str:
    """A pod's log, read where its node keeps it: nobody else may be able to reach that."""
    volume = nodes.cluster.tell("get", "pv", "n2-1", "-o", "jsonpath={.spec.local.path}")
    about = pod["metadata"]
    folder = Path(volume).parents[1] / "logs" / f"{about['namespace']}_{about['name']}_{about['uid']}"
    return "".join(path.read_text() for path in sorted(nodes.inside("n2", str(folder)).glob("*/*.log")))


def _wait_for_node(nodes: Nodes, ready: str) -> None:
    nodes.cluster.tell("wait", f"--for=condition=Ready={ready}", "node/n2", "--timeout=60s")
