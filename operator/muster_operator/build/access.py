"""Who may do what: the coordinator's identity in the cluster, and who may reach whom. Certificates are trust.py's."""

from __future__ import annotations

from muster_operator.build.common import (
    COORDINATOR,
    METRICS_PORT,
    PORT,
    WORKER,
    Context,
    child_name,
    dials_from_outside,
    labels,
    manifest,
)
from muster_operator.objects import Object


def build_identity(context: Context) -> list[Object]:
    """What the coordinator's ServiceAccount (memory.py's) may do: write the status of its own job, by name, and nothing
    else.

    It also looks at the External pools that it lets in: whether they are revoked.
    """
    name = context.coordinator_name
    rules = [
        {
            "apiGroups": ["muster.dev"],
            "resources": ["federatedjobs/status"],
            "resourceNames": [context.job.name],
            "verbs": ["get", "patch"],
        }
    ]
    if pools := [pool.name for pool in context.external]:
        rules.append(
            {"apiGroups": ["muster.dev"], "resources": ["clientpools"], "resourceNames": pools, "verbs": ["get"]}
        )
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": context.job.namespace}
    return [
        manifest(context.job, "Role", name, COORDINATOR, rules=rules),
        manifest(context.job, "RoleBinding", name, COORDINATOR, roleRef=role, subjects=[subject]),
    ]


def build_network_policies(context: Context) -> list[Object]:
    """Nobody dials a worker or a bridge. The coordinator's port is for this job's workers; for all where a Service says
    so, or where some of them come from outside: what passes them on to a Service of type ClusterIP isn't the job's.

    Everybody's metrics are for whoever scrapes inside the cluster.
    """
    coordinator = context.job.spec.coordinator
    is_open = bool(coordinator and coordinator.service and coordinator.service.type != "ClusterIP")
    is_open |= any(map(dials_from_outside, context.job.pools))
    port = [{"port": PORT, "protocol": "TCP"}]
    workers = [{"podSelector": {"matchLabels": labels(context.job, WORKER)}}]
    rule = {"ports": port} if is_open else {"ports": port, "from": workers}
    metrics = {"ports": [{"port": METRICS_PORT, "protocol": "TCP"}], "from": [{"namespaceSelector": {}}]}
    return [
        _policy(context, COORDINATOR, [rule, metrics]),
        _policy(context, WORKER, [metrics]),
    ]


def _policy(context: Context, component: str, ingress: list[Object]) -> Object:
    spec = {
        "podSelector": {"matchLabels": labels(context.job, component)},
        "policyTypes": ["Ingress"],
        "ingress": ingress,
    }
    return manifest(context.job, "NetworkPolicy", child_name(context.job.name, component), component, spec=spec)
