"""Processes die: of the job itself, and of the cluster."""

from __future__ import annotations

import time

from faults.jobs import Lab, exit_code, manifest, pool, wait_for_another
from real_nodes import SYSTEM, Team, wait_until


def coordinator_killed(lab: Lab) -> None:
    _killed(lab, "coordinator")


def worker_killed(lab: Lab) -> None:
    _killed(lab, "worker")


def _killed(lab: Lab, component: str) -> None:
    with lab.job(f"kill -9 {component}", manifest(f"killed-{component}", [pool("near")])) as job:
        pod = job.pod(component)
        job.breaks()
        job.team.nodes.kill_pod(pod)
        name = pod["metadata"]["name"]
        wait_until(lambda: exit_code(job.team, name) == 137, "the kubelet has seen it die")
        job.ends_well()


def coordinator_evicted(lab: Lab) -> None:
    with lab.job("coordinator evicted", manifest("evicted", [pool("near")])) as job:
        pod = job.pod("coordinator")
        job.breaks()
        job.team.evict(pod)
        wait_for_another(job, pod)
        job.ends_well()


def operator_killed(lab: Lab) -> None:
    with lab.job("kill -9 operator", manifest("killed-operator", [pool("near")])) as job:
        nodes = job.team.nodes
        operator = Team(nodes, SYSTEM)
        [pod] = operator.get("pods", "-l", "app.kubernetes.io/component=operator")["items"]
        name = pod["metadata"]["name"]

        def restarts() -> int:
            return int(operator.get("pod", name)["status"]["containerStatuses"][0]["restartCount"])

        before = restarts()
        job.breaks()
        nodes.kill_pod(pod)
        wait_until(lambda: restarts() > before, "it is back")
        job.ends_well()


def kubelet_killed(lab: Lab) -> None:
    _part_killed(lab, "n1/kubelet")


def containerd_killed(lab: Lab) -> None:
    _part_killed(lab, "n1/containerd")


def api_server_killed(lab: Lab) -> None:
    _part_killed(lab, "kube-apiserver")


def etcd_killed(lab: Lab) -> None:
    _part_killed(lab, "etcd")


def _part_killed(lab: Lab, part: str) -> None:
    """Of the cluster; where it is one of a node, the one that coordinator and workers are on."""
    name = f"killed-{part.rpartition('/')[2]}"
    with lab.job(f"kill -9 {part}, 5 s without", manifest(name, [pool("near")])) as job:
        job.breaks()
        job.team.nodes.kill(part)
        time.sleep(5)  # a while without it
        job.team.nodes.script("up")
        job.ends_well()
