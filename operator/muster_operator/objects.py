"""Kubernetes objects as plain dictionaries, and the few questions that everything here asks of them."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]

MANAGER = "muster-operator"
MANAGED_BY = "app.kubernetes.io/managed-by"
COMPONENT = "app.kubernetes.io/component"
JOB = "muster.dev/job"
POOL = "muster.dev/pool"
SELECTOR = f"{MANAGED_BY}={MANAGER}"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """Which object of a namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True)
class Resource:
    """Where the API serves a kind."""

    api_version: str
    plural: str


RESOURCES: Mapping[str, Resource] = {
    "FederatedJob": Resource("muster.dev/v1alpha1", "federatedjobs"),
    "ClientPool": Resource("muster.dev/v1alpha1", "clientpools"),
    "Job": Resource("batch/v1", "jobs"),
    "Pod": Resource("v1", "pods"),
    "Service": Resource("v1", "services"),
    "ConfigMap": Resource("v1", "configmaps"),
    "Secret": Resource("v1", "secrets"),
    "ServiceAccount": Resource("v1", "serviceaccounts"),
    "PersistentVolumeClaim": Resource("v1", "persistentvolumeclaims"),
    "Role": Resource("rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": Resource("rbac.authorization.k8s.io/v1", "rolebindings"),
    "NetworkPolicy": Resource("networking.k8s.io/v1", "networkpolicies"),
    "TLSRoute": Resource("gateway.networking.k8s.io/v1", "tlsroutes"),
    "Event": Resource("v1", "events"),
    "Lease": Resource("coordination.k8s.io/v1", "leases"),
}
CHILDREN = (
    "Job",
    "Pod",
    "Service",
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "PersistentVolumeClaim",
    "Role",
    "RoleBinding",
    "NetworkPolicy",
)
"""The kinds that a FederatedJob is made of, all with our label."""
ROUTED = (*CHILDREN, "TLSRoute")
"""The same where a Gateway is used: elsewhere there may be no such kind."""


def dig(value: Any, *path: str | int) -> Any:
    """The value at a path, None where anything on the way is missing."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def key_of(value: Object) -> Key:
    """Which object this is."""
    return Key(value["kind"], value["metadata"]["name"])


def label_of(value: Object, label: str) -> str:
    """A label's value, empty if it isn't there."""
    return str(dig(value, "metadata", "labels", label) or "")


def annotation_of(value: Object, annotation: str) -> str:
    """An annotation's value, empty if it isn't there."""
    return str(dig(value, "metadata", "annotations", annotation) or "")


def is_going(value: Object) -> bool:
    """Whether its deletion has begun."""
    return dig(value, "metadata", "deletionTimestamp") is not None


def is_controlled_by(value: Object, uid: str) -> bool:
    """Whether the object with that uid is its controller."""
    owners = dig(value, "metadata", "ownerReferences") or ()
    return any(owner.get("controller") and owner.get("uid") == uid for owner in owners)


def condition_of(value: Object, kind: str) -> Object | None:
    """The condition of that type, if it is True."""
    found = dig(value, "status", "conditions") or ()
    return next((one for one in found if one.get("type") == kind and one.get("status") == "True"), None)


def contains(seen: Any, wanted: Any) -> bool:
    """Whether everything that we want is there. What the server or others have added doesn't matter."""
    if isinstance(wanted, dict):
        if not wanted:
            return seen is None or isinstance(seen, dict)
        return isinstance(seen, dict) and all(contains(seen.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        if not wanted:
            return not seen
        return (
            isinstance(seen, list)
            and len(seen) == len(wanted)
            and all(contains(a, b) for a, b in zip(seen, wanted, strict=True))
        )
    return bool(seen == wanted)


def digest(value: Any) -> str:
    """A short name of a JSON value, the same wherever it is computed."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]


def timestamp(unix: float) -> str:
    """As Kubernetes writes times: 2026-01-31T12:00:00Z."""
    return dt.datetime.fromtimestamp(int(unix), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix_of(text: object) -> float | None:
    """The time that a timestamp means; None if it is none."""
    try:
        return dt.datetime.fromisoformat(str(text)).timestamp() if text else None
    except ValueError:
        return None
