"""A node goes: told to, or without a word, without the coordinator or with it. It is the second node of two."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from faults.jobs import Lab, manifest, pool, wait_for_another
from faults.nodes import cut_off, shared_volume
from real_nodes import Nodes, Object, is_alive

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
    """The old coordinator lives on beside the new one, goes on with the clients of its own node, and writes to the same
    storage: until its next commit, which it loses, or until its node is back and ends it.
    """
    nodes = lab.team.nodes
    given = manifest(
        "two-coordinators",
        [pool("near"), pool("far", node="n2")],
        rounds={"total": 20, "deadlineSeconds": 20},
        config={"seconds": 4},
        coordinator={_SEAT: "yes"},
        storage={"type": "Volume", "volume": {"size": "1Gi", "storageClassName": "shared"}},
    )
    nodes.cluster.tell("label", "node", "n2", f"{_SEAT}=yes")
    try:
        with shared_volume(nodes), lab.job("node lost with its coordinator, which lives on", given, until=1) as job:
            old = job.pod("coordinator")
            processes = nodes.processes_of(old)
            assert old["spec"]["nodeName"] == "n2"
            job.breaks()
            with cut_off(nodes, "n2"):
                nodes.cluster.tell("label", "node", "n1", f"{_SEAT}=yes")
                new = wait_for_another(job, old)
                assert new["spec"]["nodeName"] == "n1"
                assert any(map(is_alive, processes)), "there are not two coordinators"
                # It was seen to stay as long as its node was cut off; why, is not known.
                if _have_left(processes, within_s=30):
                    assert "another coordinator" in log_on_node(nodes, old)
            _wait_for_node(nodes, "True")
            job.ends_well()
            assert not any(map(is_alive, processes)), "there are still two coordinators"
    finally:
        nodes.cluster.tell("label", "node", "n1", "n2", f"{_SEAT}-")


def _have_left(processes: Sequence[int], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.25)
    return not any(map(is_alive, processes))


def log_on_node(nodes: Nodes, pod: Object) -> str:
    """A pod's log, read where its node keeps it: nobody else may be able to reach that."""
    volume = nodes.cluster.tell("get", "pv", "n2-1", "-o", "jsonpath={.spec.local.path}")
    about = pod["metadata"]
    folder = Path(volume).parents[1] / "logs" / f"{about['namespace']}_{about['name']}_{about['uid']}"
    return "".join(path.read_text() for path in sorted(nodes.inside("n2", str(folder)).glob("*/*.log")))


def _wait_for_node(nodes: Nodes, ready: str) -> None:
    nodes.cluster.tell("wait", f"--for=condition=Ready={ready}", "node/n2", "--timeout=60s")
