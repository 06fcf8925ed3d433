"""A node's own view of the machine: its network, and its mounts, so that nothing it mounts is ever seen outside.

A process that only sleeps holds both namespaces. They, with every mount, bridge, rule and address in them, are gone
once the last process in them is. The kernel's settings are the machine's: the node is shown files that say what a
kubelet wants to see, so that it changes none of them.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from cluster_parts.addresses import NUMBERS, Network
from cluster_parts.errors import ClusterError
from cluster_parts.processes import Process

ANCHOR = ("unshare", "--net", "--mount", "--propagation", "private", "sleep", "infinity")
_KUBELET = Path("/var/lib/kubelet")
_KUBELET_WANTS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def entering(anchor: Process, argv: Sequence[str], *, mounts: bool = True) -> list[str]:
    """The command that runs `argv` on the node: nsenter becomes it, so that its process id is the program's."""
    places = [f"--net=/proc/{anchor.pid}/ns/net", *([f"--mount=/proc/{anchor.pid}/ns/mnt"] if mounts else [])]
    return ["nsenter", *places, "--", *argv]


def wait_for_namespaces(anchor: Process) -> None:
    """Until the anchor is where it should be: it is started before it has left our namespaces."""
    ours, theirs = Path("/proc/self/ns/mnt").readlink(), Path(f"/proc/{anchor.pid}/ns/mnt")
    deadline = time.monotonic() + 10
    while theirs.readlink() == ours or Path(f"/proc/{anchor.pid}/comm").read_text() != "sleep\n":
        if time.monotonic() > deadline:
            raise ClusterError("unshare couldn't make namespaces for a node: are they allowed on this machine?")
        time.sleep(0.02)


def prepare_mounts(anchor: Process, folder: Path) -> None:
    """Give the node a /run and a /var of its own: fixed places there are where its programs leave things."""
    for name in ("var", "var.work", "kernel", "kubelet"):
        (folder / name).mkdir(exist_ok=True)
    layers = f"lowerdir=/var,upperdir={folder}/var,workdir={folder}/var.work"
    for command in (
        ("mount", "--make-rshared", "/"),
        ("mount", "-t", "tmpfs", "tmpfs", "/run"),
        ("mount", "-t", "overlay", "overlay", "-o", layers, "/var"),
        ("mkdir", "-p", str(_KUBELET)),
        ("mount", "--bind", str(folder / "kubelet"), str(_KUBELET)),  # volumes lie on a plain file system
        *_settings_shown(folder / "kernel"),
    ):
        run(entering(anchor, command))


def _settings_shown(folder: Path) -> list[tuple[str, ...]]:
    commands = []
    for name, value in _KUBELET_WANTS.items():
        file = folder / name.replace("/", ".")
        file.write_text(f"{value}\n")
        commands.append(("mount", "--bind", str(file), f"/proc/sys/{name}"))
    return commands


# --- The network ------------------------------------------------------------------------------------------------------


def free_network(taken: set[int]) -> Network:
    """One whose addresses nobody on this machine uses."""
    routes = run(["ip", "-4", "route", "show", "table", "all"])
    free = (Network(number) for number in NUMBERS if number not in taken and f"10.{number}." not in routes)
    try:
        return next(free)
    except StopIteration:
        raise ClusterError("Every network from 10.140.0.0 to 10.199.0.0 is in use on this machine.") from None


def ensure_bridge(network: Network) -> None:
    """The bridge between this machine and the nodes."""
    if _has_link(network.bridge):
        return
    run(["ip", "link", "add", network.bridge, "type", "bridge"])
    run(["ip", "address", "add", f"{network.gateway}/24", "dev", network.bridge])
    run(["ip", "link", "set", network.bridge, "up"])


def remove_links(network: Network, nodes: int) -> None:
    """Take the bridge and the nodes' cables away."""
    for name in (*map(network.link, range(1, nodes + 1)), network.bridge):
        if _has_link(name):
            run(["ip", "link", "delete", name])


def connect(network: Network, index: int, nodes: int, anchor: Process) -> None:
    """A cable from the bridge to a node, and the ways to all pods."""
    link = network.link(index)
    if _has_link(link):
        run(["ip", "link", "delete", link])
    run(["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", str(anchor.pid)])
    run(["ip", "link", "set", link, "master", network.bridge, "up"])
    run(["ip", "route", "replace", network.pods(index), "via", network.node(index)])
    others = [other for other in range(1, nodes + 1) if other != index]
    for command in (
        ("ip", "link", "set", "lo", "up"),
        ("ip", "address", "add", f"{network.node(index)}/24", "dev", "eth0"),
        ("ip", "link", "set", "eth0", "up"),
        ("ip", "route", "add", "default", "via", network.gateway),
        *(("ip", "route", "add", network.pods(other), "via", network.node(other)) for other in others),
        ("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"),
    ):
        run(entering(anchor, command))


def _has_link(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def run(command: Sequence[str]) -> str:
    """Run a command that has to succeed; what it printed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ClusterError(f"`{' '.join(command)}` failed: {(result.stderr or result.stdout).strip()}")
    return result.stdout
