"""What the programs of a node are told, in files. Pure: values in, text out.

The settings that aren't obvious were found by measurement; the comments beside them say what happens without them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cluster_parts.addresses import Network, node_name
from cluster_parts.certificates import Pair

SOCKET = Path("/run/containerd/containerd.sock")  # in the node's own /run: addresses of sockets have to be short
PAUSE = "localhost/pause:1"
CLUSTER_DOMAIN = "cluster.local"
_PLUGINS = "/usr/lib/cni"


@dataclass(frozen=True, slots=True)
class NodePlace:
    """One node: its number, its folder and its control group."""

    index: int
    folder: Path
    group: str

    @property
    def name(self) -> str:
        return node_name(self.index)

    @property
    def volumes(self) -> Path:
        """Where its local persistent volumes lie."""
        return self.folder / "volumes"


def containerd_config(place: NodePlace) -> str:
    """containerd, with nothing outside the node's folder."""
    return f"""version = 3
root = "{place.folder}/containerd"
state = "{place.folder}/containerd.state"
disabled_plugins = ["io.containerd.nri.v1.nri"]

[grpc]
address = "{SOCKET}"

[plugins.'io.containerd.internal.v1.opt']
path = "{place.folder}/opt"

[plugins.'io.containerd.cri.v1.runtime']
# Where this machine's root may not lower scores, pods would hang in ContainerCreating.
restrict_oom_score_adj = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{_PLUGINS}"]
conf_dir = "{place.folder}/cni"

[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "{PAUSE}"
"""


def pod_network(network: Network, place: NodePlace) -> str:
    """The pods' network: a cable to each from the node, so that all traffic passes the node's rules."""
    ranges = [[{"subnet": network.pods(place.index)}]]
    ipam = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
    plugins = [
        {"type": "ptp", "ipam": ipam | {"dataDir": f"{place.folder}/addresses"}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "1.0.0", "name": "muster", "plugins": plugins}, indent=2)


def kubelet_config(network: Network, place: NodePlace, authority: Path, serving: Pair) -> str:
    """The kubelet. JSON is YAML."""
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node(place.index),
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(authority)}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.group}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [network.gateway],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(place.folder / "resolv.conf"),
        "podLogsDir": str(place.folder / "logs"),
        "volumePluginDir": str(place.folder / "plugins"),
        "serializeImagePulls": False,
        # The disk is everybody's: images are never removed for it, and pods only when it is really full.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1Gi", "imagefs.available": "1Gi"},
        # With --node-monitor-grace-period=20s: a node that has gone counts as lost soon.
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 16,
    }
    return json.dumps(config, indent=2)


def proxy_config(network: Network, place: NodePlace, kubeconfig: Path) -> str:
    """kube-proxy. The machine's limits of connections are not a node's to set, so it is told to leave them."""
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": place.name,
        "bindAddress": network.node(place.index),
        "clusterCIDR": network.everything,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    return json.dumps(config, indent=2)


def dns_config(network: Network, kubeconfig: Path) -> str:
    """CoreDNS, for the cluster's own names and no others: nothing here may ask the world."""
    return f""".:53 {{
    bind {network.gateway}
    errors
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {kubeconfig}
    }}
    cache 5
}}
"""


def resolv_conf(network: Network) -> str:
    """For pods that use their node's names."""
    return f"nameserver {network.gateway}\n"
