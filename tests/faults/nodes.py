"""How nodes, their networks and their disks are broken: each a context that mends it again, whatever happens inside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from real_nodes import Nodes, Object

Pairs = list[tuple[str, str]]


# --- Networks ---------------------------------------------------------------------------------------------------------


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


@contextmanager
def dropping(nodes: Nodes, node: str, pairs: Pairs) -> Iterator[Callable[[], int]]:
    """Drop what goes from one pod to the other on a node. How many packets were dropped so far."""
    table = f"fault{uuid.uuid4().hex[:8]}"  # jobs that are broken at the same time have one each
    rules = "\n".join(f"ip saddr {one} ip daddr {other} counter drop" for one, other in pairs)
    chain = f"chain forward {{\ntype filter hook forward priority -10;\n{rules}\n}}"
    nodes.on(node, "nft", f"table inet {table} {{\n{chain}\n}}")

    def dropped() -> int:
        words = nodes.on(node, "nft", "list", "table", "inet", table).split()
        return sum(int(words[at + 1]) for at, word in enumerate(words) if word == "packets")

    try:
        yield dropped
    finally:
        nodes.on(node, "nft", "delete", "table", "inet", table)


class SlowLink:
    """A pod's cable with a token bucket at both ends: what it sends and what it is sent goes at that rate."""

    def __init__(self, nodes: Nodes, pod: Object, rate: str) -> None:
        self._nodes = nodes
        node, address = pod["spec"]["nodeName"], pod["status"]["podIP"]
        [route, *_] = json.loads(nodes.on(node, "ip", "-json", "route", "get", address))
        pid = nodes.processes_of(pod)[0]
        inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "tc"]
        outside = ["nsenter", f"--net=/proc/{nodes.pid(f'{node}/anchor')}/ns/net", "tc"]
        self._ends = [(inside, "eth0"), (outside, route["dev"])]
        self._bucket = ["tbf", "rate", rate, "burst", "16kb", "limit", "200kb"]

    def slow_down(self) -> None:
        for tc, device in self._ends:
            subprocess.run([*tc, "qdisc", "add", "dev", device, "root", *self._bucket], check=True)

    def speed_up(self) -> None:
        for tc, device in self._ends:
            with suppress(subprocess.CalledProcessError):  # the pod, and its cable, may be gone
                subprocess.run([*tc, "qdisc", "del", "dev", device, "root"], check=True, capture_output=True)

    def sent_bytes(self) -> int:
        """What has gone through the pod's end since it was slowed down."""
        inside, _ = self._ends
        return int(self._state(*inside)["bytes"])

    def has_held_back(self) -> bool:
        """Whether packets had to wait, at either end."""
        return any(int(self._state(*end)["overlimits"]) > 0 for end in self._ends)

    def _state(self, tc: list[str], device: str) -> Object:
        shown = subprocess.run([*tc, "-s", "-j", "qdisc", "show", "dev", device], check=True, capture_output=True)
        found: Object = next(one for one in json.loads(shown.stdout) if one["kind"] == "tbf")
        return found


@contextmanager
def slowed(nodes: Nodes, pod: Object, rate: str) -> Iterator[SlowLink]:
    """A pod's cable at so many bits a second, such as 400kbit."""
    link = SlowLink(nodes, pod, rate)
    link.slow_down()
    try:
        yield link
    finally:
        link.speed_up()


# --- Processes --------------------------------------------------------------------------------------------------------


@contextmanager
def frozen(nodes: Nodes, pod: Object) -> Iterator[None]:
    """All processes of a pod stopped: alive, and doing nothing."""
    pids = nodes.processes_of(pod)
    assert pids, f"{pod['metadata']['name']} has no process"
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


# --- Disks ------------------------------------------------------------------------------------------------------------


@contextmanager
def small_volume(nodes: Nodes) -> Iterator[Path]:
    """A volume of two megabytes on n1, of the class `small`."""
    place = _place_of(nodes, "small")
    nodes.on("n1", "mkdir", "-p", place)
    nodes.on("n1", "mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place)
    try:
        with _volume(nodes, "small", place, "1Mi", ["n1"]):
            yield nodes.inside("n1", place)
    finally:
        nodes.on("n1", "umount", "--lazy", place)


@contextmanager
def shared_volume(nodes: Nodes) -> Iterator[None]:
    """A volume of the class `shared` that both nodes see, as storage over a network is."""
    place = _place_of(nodes, "shared")
    nodes.on("n1", "mkdir", "-p", place)
    with _volume(nodes, "shared", place, "1Gi", ["n1", "n2"]):
        yield


def _place_of(nodes: Nodes, name: str) -> str:
    volume = json.loads(nodes.cluster.tell("get", "pv", "n1-1", "-o", "json"))
    return str(Path(volume["spec"]["local"]["path"]).with_name(name))


@contextmanager
def _volume(nodes: Nodes, name: str, place: str, size: str, on: list[str]) -> Iterator[None]:
    there = {"key": "kubernetes.io/hostname", "operator": "In", "values": on}
    spec = {
        "capacity": {"storage": size},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": name,
        "local": {"path": place},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [there]}]}},
    }
    volume = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}
    nodes.cluster.tell("create", "-f", "-", manifest=json.dumps(volume))
    try:
        yield
    finally:
        nodes.cluster.tell("delete", "pv", name, "--wait=false", "--ignore-not-found")


def fill(path: Path) -> None:
    """Take what is left of a disk."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))
