"""What a cluster with nodes is given through its API: rights for DNS, and volumes for whoever claims one. Pure."""

from __future__ import annotations

from typing import Any

from cluster_parts.node_files import NodePlace

STORAGE_CLASS = "local"
VOLUMES = 40
_SIZE = "10Gi"

Object = dict[str, Any]


def dns_rights() -> list[Object]:
    """What CoreDNS reads, as its own manifest has it."""
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    group = "rbac.authorization.k8s.io"
    role = {"apiGroup": group, "kind": "ClusterRole", "name": "system:coredns"}
    user = {"apiGroup": group, "kind": "User", "name": "system:coredns"}
    return [
        _object(f"{group}/v1", "ClusterRole", "system:coredns", rules=rules),
        _object(f"{group}/v1", "ClusterRoleBinding", "system:coredns", roleRef=role, subjects=[user]),
    ]


def storage_class() -> Object:
    """The class of whoever names none. Volumes are bound once a pod says on which node it will be."""
    whole = _object(
        "storage.k8s.io/v1",
        "StorageClass",
        STORAGE_CLASS,
        provisioner="kubernetes.io/no-provisioner",
        volumeBindingMode="WaitForFirstConsumer",
    )
    whole["metadata"]["annotations"] = {"storageclass.kubernetes.io/is-default-class": "true"}
    return whole


def local_volumes(place: NodePlace) -> list[Object]:
    """A node's volumes: folders, each for one claim."""
    return [local_volume(place, f"{place.name}-{number}") for number in range(1, VOLUMES + 1)]


def local_volume(place: NodePlace, name: str) -> Object:
    """One volume, which lies in the node's folder of volumes under its name."""
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [place.name]}
    spec = {
        "capacity": {"storage": _SIZE},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": STORAGE_CLASS,
        "local": {"path": str(place.volumes / name)},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
    }
    return _object("v1", "PersistentVolume", name, spec=spec)


def _object(version: str, kind: str, name: str, **body: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}} | body
