"""Nodes: containerd, a kubelet and kube-proxy each, in namespaces and a control group of their own, and DNS for all.

Like the control plane, nodes are brought up level-triggered: what runs stays, what is missing is started. They are
taken down by what is theirs alone: the processes of their control group, that group, and their cables. Their mounts,
rules and addresses go with the namespaces.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from cluster_parts.addresses import Network
from cluster_parts.certificates import Pair, ensure_certificate
from cluster_parts.cgroups import ControlGroup, control_group
from cluster_parts.errors import UnavailableError
from cluster_parts.images import ensure_pause_image, load_image
from cluster_parts.namespaces import (
    ANCHOR,
    connect,
    entering,
    prepare_mounts,
    remove_links,
    wait_for_namespaces,
)
from cluster_parts.node_files import (
    SOCKET,
    NodePlace,
    containerd_config,
    dns_config,
    kubelet_config,
    pod_network,
    proxy_config,
    resolv_conf,
)
from cluster_parts.node_objects import VOLUMES, dns_rights, local_volumes, storage_class
from cluster_parts.processes import Process, is_running
from cluster_parts.site import Site
from cluster_parts.state import State

TOOLS = ("ip", "nft", "conntrack", "runc", "nsenter", "unshare", "mount")
PLUGINS = Path("/usr/lib/cni/ptp")


def check_machine() -> None:
    """Raises UnavailableError where this machine can't have nodes."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None] + ([] if PLUGINS.exists() else [str(PLUGINS)])
    if os.geteuid() != 0:
        raise UnavailableError("Nodes need root. Without it use a cluster that you have: set KUBECONFIG.")
    if missing:
        raise UnavailableError(f"Nodes need {', '.join(missing)}. On Debian: scripts/system-packages")


def bring_up_nodes(site: Site, cache: Path) -> None:
    """The cluster's nodes and its DNS, or what is missing of them."""
    network = Network(site.state.network)
    pause = ensure_pause_image(cache)
    for index in range(1, site.state.nodes + 1):
        _Node(site, network, index).bring_up(pause)
    _bring_up_dns(site, network)
    site.apply("/apis/storage.k8s.io/v1/storageclasses", storage_class())
    for index in range(1, site.state.nodes + 1):
        for volume in local_volumes(place_of(site.folder, index)):
            site.apply("/api/v1/persistentvolumes", volume)


def take_down_nodes(folder: Path, state: State) -> None:
    """Everything of the nodes that isn't in the cluster's folder."""
    if not state.nodes:
        return
    for index in range(1, state.nodes + 1):
        group = _group(place_of(folder, index))
        group.end_processes()
        group.remove()
    remove_links(Network(state.network), state.nodes)


def place_of(folder: Path, index: int) -> NodePlace:
    """Where a node is. Clusters have folders of different names, so groups of different names."""
    return NodePlace(index, folder / "nodes" / f"n{index}", f"muster-{folder.name}-n{index}")


def anchor_of(state: State, index: int) -> Process:
    """The process that holds the node's namespaces."""
    return state.processes[f"n{index}/anchor"]


def _group(place: NodePlace) -> ControlGroup:
    return control_group(place.group)


def _bring_up_dns(site: Site, network: Network) -> None:
    user = ensure_certificate(site.keys.authority, "coredns", common_name="system:coredns")
    config = site.folder / "Corefile"
    config.write_text(dns_config(network, site.write_kubeconfig("coredns.kubeconfig", user)))
    for value in dns_rights():
        kind = str(value["kind"]).lower() + "s"
        site.apply(f"/apis/rbac.authorization.k8s.io/v1/{kind}", value)
    site.ensure_program("coredns", ["-conf", str(config)])


class _Node:
    """One node that is being brought up."""

    def __init__(self, site: Site, network: Network, index: int) -> None:
        self._site = site
        self._network = network
        self._place = place_of(site.folder, index)
        self._group = _group(self._place)

    def bring_up(self, pause: Path) -> None:
        self._group.make()
        anchor = self._ensure_anchor()
        self._start(anchor, "containerd", ["--config", str(self._write("containerd.toml", self._containerd()))])
        place = Path(f"/proc/{anchor.pid}/root{SOCKET}")
        self._site.wait(f"containerd of {self._place.name} listens", lambda: _is_listening(place))
        load_image(self._site.programs["ctr"], anchor, pause)
        self._start(anchor, "kubelet", self._kubelet())
        self._site.wait(f"the node {self._place.name} is ready", self._is_ready)
        self._start(anchor, "kube-proxy", ["--config", str(self._write("kube-proxy.yaml", self._proxy()))])

    def _ensure_anchor(self) -> Process:
        """The process that holds the namespaces. Without it nothing of the node can go on as it was."""
        known = self._site.state.processes.get(self._name("anchor"))
        if known and is_running(known):
            return known
        self._make_folders()
        self._group.end_processes()
        anchor = self._site.ensure_running(self._name("anchor"), ANCHOR)
        self._group.add(anchor.pid)
        wait_for_namespaces(anchor)
        prepare_mounts(anchor, self._place.folder)
        connect(self._network, self._place.index, self._site.state.nodes, anchor)
        return anchor

    def _make_folders(self) -> None:
        for folder in ("cni", "logs", "plugins", "volumes"):
            (self._place.folder / folder).mkdir(parents=True, exist_ok=True)
        for number in range(1, VOLUMES + 1):
            (self._place.volumes / f"{self._place.name}-{number}").mkdir(exist_ok=True)

    def _start(self, anchor: Process, program: str, arguments: Sequence[str]) -> None:
        argv = entering(anchor, [str(self._site.programs[program]), *arguments])
        self._group.add(self._site.ensure_running(self._name(program), argv).pid)

    def _containerd(self) -> str:
        self._write("cni/muster.conflist", pod_network(self._network, self._place))
        return containerd_config(self._place)

    def _kubelet(self) -> list[str]:
        user = self._certificate("kubelet", f"system:node:{self._place.name}", "system:nodes")
        serving = self._certificate("kubelet-serving", self._place.name, hosts=(self._network.node(self._place.index),))
        self._write("resolv.conf", resolv_conf(self._network))
        authority = self._site.keys.authority.pair.certificate
        config = self._write("kubelet.yaml", kubelet_config(self._network, self._place, authority, serving))
        return [
            f"--config={config}",
            f"--kubeconfig={self._kubeconfig('kubelet', user)}",
            f"--hostname-override={self._place.name}",
            f"--node-ip={self._network.node(self._place.index)}",
        ]

    def _proxy(self) -> str:
        user = self._certificate("kube-proxy", "system:kube-proxy")
        return proxy_config(self._network, self._place, self._kubeconfig("kube-proxy", user))

    def _certificate(self, name: str, user: str, group: str | None = None, hosts: Sequence[str] = ()) -> Pair:
        file = f"{self._place.name}-{name}"
        return ensure_certificate(self._site.keys.authority, file, common_name=user, group=group, hosts=hosts)

    def _kubeconfig(self, program: str, user: Pair) -> Path:
        return self._site.write_kubeconfig(f"{self._place.name}-{program}.kubeconfig", user)

    def _is_ready(self) -> bool:
        node = self._site.read(f"/api/v1/nodes/{self._place.name}") or {}
        conditions = node.get("status", {}).get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    def _write(self, name: str, text: str) -> Path:
        """A file of the node. What it says already isn't written again: kube-proxy ends when its file changes."""
        path = self._place.folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        return path

    def _name(self, program: str) -> str:
        return f"{self._place.name}/{program}"


def _is_listening(place: Path) -> bool:
    """A socket that is there may be what a containerd that was killed has left."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(place))
        except OSError:
            return False
    return True
