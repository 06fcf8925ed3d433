"""Says how each program of the control plane is to be run. Pure but for the keys, which are made here where missing.

Everything listens on 127.0.0.1, with TLS and RBAC on as in a real cluster. Where there are nodes the API server listens
where they reach it instead.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster_parts.addresses import SERVICES
from cluster_parts.certificates import Authority, Pair, ensure_authority, ensure_certificate, ensure_signing_key
from cluster_parts.state import Ports

_API_HOSTS = (
    "127.0.0.1",
    "localhost",
    "10.96.0.1",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True, slots=True)
class Keys:
    """Every key and certificate of a control plane."""

    authority: Authority
    etcd_authority: Authority
    etcd: Pair
    etcd_client: Pair
    api: Pair
    admin: Pair
    controller_manager: Pair
    scheduler: Pair
    kubelet_client: Pair
    service_accounts: Path


def ensure_keys(folder: Path, host: str) -> Keys:
    """The keys in `folder`, made where missing. The API server is reached at `host`."""
    folder.mkdir(mode=0o700, exist_ok=True)
    main, etcd = ensure_authority(folder, "ca"), ensure_authority(folder, "etcd-ca")
    controllers, scheduler = "system:kube-controller-manager", "system:kube-scheduler"
    return Keys(
        authority=main,
        etcd_authority=etcd,
        etcd=ensure_certificate(etcd, "etcd", common_name="etcd", hosts=("127.0.0.1", "localhost")),
        etcd_client=ensure_certificate(etcd, "etcd-client", common_name="kube-apiserver"),
        api=ensure_certificate(main, "kube-apiserver", common_name="kube-apiserver", hosts=(host, *_API_HOSTS)),
        admin=ensure_certificate(main, "admin", common_name="admin", group="system:masters"),
        controller_manager=ensure_certificate(main, "kube-controller-manager", common_name=controllers),
        scheduler=ensure_certificate(main, "kube-scheduler", common_name=scheduler),
        kubelet_client=ensure_certificate(main, "kubelet-client", common_name="kube-apiserver", group="system:masters"),
        service_accounts=ensure_signing_key(folder, "service-accounts"),
    )


def etcd_arguments(keys: Keys, ports: Ports, data: Path) -> list[str]:
    """etcd for one machine. Without fsync: the data needn't survive a power cut, and survives a kill."""
    return _flags(
        {
            "data-dir": data,
            "listen-client-urls": f"https://127.0.0.1:{ports.etcd}",
            "advertise-client-urls": f"https://127.0.0.1:{ports.etcd}",
            "listen-peer-urls": f"https://127.0.0.1:{ports.etcd_peer}",
            "initial-advertise-peer-urls": f"https://127.0.0.1:{ports.etcd_peer}",
            "initial-cluster": f"default=https://127.0.0.1:{ports.etcd_peer}",
            "cert-file": keys.etcd.certificate,
            "key-file": keys.etcd.key,
            "client-cert-auth": "true",
            "trusted-ca-file": keys.etcd_authority.pair.certificate,
            "peer-cert-file": keys.etcd.certificate,
            "peer-key-file": keys.etcd.key,
            "peer-client-cert-auth": "true",
            "peer-trusted-ca-file": keys.etcd_authority.pair.certificate,
            "unsafe-no-fsync": "true",
            "log-level": "warn",
        }
    )


def api_server_arguments(keys: Keys, ports: Ports) -> list[str]:
    """The API server. It can't be a Service's endpoint on a loopback address, so it doesn't try to be one."""
    has_nodes = ports.host != "127.0.0.1"
    kubelets = {
        "kubelet-certificate-authority": keys.authority.pair.certificate,
        "kubelet-client-certificate": keys.kubelet_client.certificate,
        "kubelet-client-key": keys.kubelet_client.key,
        "kubelet-preferred-address-types": "InternalIP",  # else it looks up nodes' names in DNS
    }
    return _flags(
        {
            "etcd-servers": f"https://127.0.0.1:{ports.etcd}",
            "etcd-cafile": keys.etcd_authority.pair.certificate,
            "etcd-certfile": keys.etcd_client.certificate,
            "etcd-keyfile": keys.etcd_client.key,
            "bind-address": ports.host,
            "advertise-address": ports.host,
            "endpoint-reconciler-type": "lease" if has_nodes else "none",
            "secure-port": ports.api,
            "tls-cert-file": keys.api.certificate,
            "tls-private-key-file": keys.api.key,
            "client-ca-file": keys.authority.pair.certificate,
            "authorization-mode": "Node,RBAC",
            "enable-admission-plugins": "NodeRestriction",
            "service-cluster-ip-range": SERVICES,
            "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
            "service-account-key-file": keys.service_accounts,
            "service-account-signing-key-file": keys.service_accounts,
            "allow-privileged": "true",
            "profiling": "false",
        }
        | (kubelets if has_nodes else {})
    )


def controller_manager_arguments(keys: Keys, kubeconfig: Path) -> list[str]:
    """The controllers, each with a service account of its own, so that RBAC holds for them too."""
    return _flags(
        {
            "kubeconfig": kubeconfig,
            "leader-elect": "false",
            "secure-port": 0,
            "use-service-account-credentials": "true",
            "service-account-private-key-file": keys.service_accounts,
            "root-ca-file": keys.authority.pair.certificate,
            "cluster-signing-cert-file": keys.authority.pair.certificate,
            "cluster-signing-key-file": keys.authority.pair.key,
            "node-monitor-grace-period": "20s",
            "profiling": "false",
        }
    )


def scheduler_arguments(kubeconfig: Path) -> list[str]:
    """The scheduler, the only one of its kind, so without an election."""
    return _flags({"kubeconfig": kubeconfig, "leader-elect": "false", "secure-port": 0, "profiling": "false"})


def build_kubeconfig(keys: Keys, ports: Ports, user: Pair) -> str:
    """A kubeconfig that carries its certificates, so that it may be copied. JSON is YAML."""
    cluster = {"server": _api_url(ports), "certificate-authority-data": _base64(keys.authority.pair.certificate)}
    credentials = {"client-certificate-data": _base64(user.certificate), "client-key-data": _base64(user.key)}
    context = {"cluster": "muster", "user": "muster", "namespace": "default"}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "muster", "cluster": cluster}],
        "users": [{"name": "muster", "user": credentials}],
        "contexts": [{"name": "muster", "context": context}],
        "current-context": "muster",
    }
    return json.dumps(config, indent=2)


def _api_url(ports: Ports) -> str:
    return f"https://{ports.host}:{ports.api}"


def _flags(values: Mapping[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in values.items()]


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
