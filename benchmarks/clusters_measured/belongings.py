"""What there is of a namespace's objects, of the operator, and on the nodes: what a leak would show in."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from real_nodes import SYSTEM, Nodes, Team

_KINDS = "fedjobs,pods,jobs,secrets,configmaps,services,serviceaccounts,roles,rolebindings,networkpolicies,pvc,leases"


@dataclass(frozen=True, slots=True)
class Belongings:
    """Counted at one moment.

    `objects` are those of the namespace, `system_objects` those of the operator's. The rest is of both nodes:
    `processes`, `mounts`, `links`, `pod_folders`, and `disk_mb`, what lies in their folders without the images.
    """

    objects: int
    system_objects: int
    operator_mb: float
    operator_fds: int
    processes: int
    mounts: int
    links: int
    pod_folders: int
    disk_mb: float

    def shown(self) -> dict[str, object]:
        return asdict(self)


def belongings_of(team: Team) -> Belongings:
    """Look at all of it now."""
    nodes = team.nodes
    operator = _operator(nodes)
    folders = _folders(nodes)
    return Belongings(
        objects=len(team.tell("get", _KINDS, "-o", "name").split()),
        system_objects=len(Team(nodes, SYSTEM).tell("get", _KINDS, "-o", "name").split()),
        operator_mb=_memory_mb(operator),
        operator_fds=len(list(Path(f"/proc/{operator}/fd").iterdir())),
        processes=sum(len(_processes(nodes, node)) for node in folders),
        mounts=sum(len(nodes.on(node, "cat", "/proc/self/mounts").splitlines()) for node in folders),
        links=sum(len(json.loads(nodes.on(node, "ip", "-j", "link"))) for node in folders),
        pod_folders=sum(len(list((folder / "kubelet" / "pods").glob("*"))) for folder in folders.values()),
        disk_mb=round(sum(map(_disk_mb, folders.values())), 1),
    )


def recycle_volumes(nodes: Nodes) -> None:
    """Empty the volumes whose claims are gone, and offer them again: here nobody else does."""
    for volume in json.loads(nodes.cluster.tell("get", "pv", "-o", "json"))["items"]:
        if volume["status"].get("phase") != "Released":
            continue
        name = volume["metadata"]["name"]
        place = nodes.inside(name.partition("-")[0], volume["spec"]["local"]["path"])
        for entry in place.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        nodes.cluster.tell("patch", "pv", name, "--type=merge", "-p", '{"spec": {"claimRef": null}}')


def _operator(nodes: Nodes) -> int:
    """Its process."""
    found = Team(nodes, SYSTEM).get("pods", "-l", "app.kubernetes.io/component=operator")["items"]
    return nodes.processes_of(found[0])[0]


def _memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    anonymous = next(line for line in lines if line.startswith("RssAnon"))
    return round(int(anonymous.split()[1]) / 1000, 1)


def _folders(nodes: Nodes) -> dict[str, Path]:
    """Each node's folder, by the node's name."""
    names = nodes.cluster.tell("get", "nodes", "-o", "jsonpath={.items[*].metadata.name}").split()
    place = nodes.cluster.tell("get", "pv", "n1-1", "-o", "jsonpath={.spec.local.path}")
    return {name: Path(place).parents[2] / name for name in names}


def _processes(nodes: Nodes, node: str) -> set[str]:
    """All of a node's control group."""
    groups = Path("/sys/fs/cgroup").glob(f"**/muster-{nodes.name}-{node}/**/cgroup.procs")
    return {pid for group in groups for pid in group.read_text().split()}


def _disk_mb(folder: Path) -> float:
    """Logs, kubelet's and containerd's own files, volumes: all but what images are unpacked to."""
    total = 0
    for path in folder.rglob("*"):
        if "containerd" in path.relative_to(folder).parts[:1] or path.is_symlink() or not path.is_file():
            continue
        total += path.stat().st_size
    return total / 1e6
