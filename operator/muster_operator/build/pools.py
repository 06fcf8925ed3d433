"""What an External pool is made of: the Secret of its authority, the Secret with the bundle that its site gets, and the
right of the lobby to read the first of them, by name.

All of it belongs to the ClientPool and goes with it. The names have dots, which jobs' names can't have: so no child of
a job is called like any of them, but for the bundle's, which the user may choose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from muster_operator.objects import COMPONENT, MANAGED_BY, MANAGER, POOL, RESOURCES, Object, dig

LOBBY = "lobby"


@dataclass(frozen=True, slots=True)
class LobbyAccount:
    """The lobby's ServiceAccount."""

    namespace: str
    name: str


def authority_name(pool: str) -> str:
    """Of the Secret that holds the pool's authority, with its key."""
    return f"{pool}.authority"


def bundle_name(pool: Object) -> str:
    """Of the Secret that holds the bundle for the pool's site."""
    return str(dig(pool, "spec", "external", "bundleSecret") or f"{pool['metadata']['name']}-enrolment")


def build_pool_authority(pool: Object) -> Object:
    """The Secret of the pool's authority. Another one turns away all that the one before has signed."""
    return _manifest(pool, "Secret", authority_name(pool["metadata"]["name"]), type="Opaque", immutable=True)


def build_bundle(pool: Object) -> Object:
    """The Secret of the bundle.

    Its content is renewed in time; what was handed out before stays good until it expires.
    """
    return _manifest(pool, "Secret", bundle_name(pool), type="Opaque")


def build_lobby_right(pool: Object, account: LobbyAccount) -> list[Object]:
    """The lobby certifies the site's keys with the pool's authority."""
    name = f"{pool['metadata']['name']}.{LOBBY}"
    secrets = [authority_name(pool["metadata"]["name"])]
    rules = [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets, "verbs": ["get"]}]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": account.name, "namespace": account.namespace}
    return [
        _manifest(pool, "Role", name, rules=rules),
        _manifest(pool, "RoleBinding", name, roleRef=role, subjects=[subject]),
    ]


def _manifest(pool: Object, kind: str, name: str, **body: Any) -> Object:
    metadata = pool["metadata"]
    owner = {
        "apiVersion": RESOURCES["ClientPool"].api_version,
        "kind": "ClientPool",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    labels = {
        "app.kubernetes.io/name": "muster",
        MANAGED_BY: MANAGER,
        COMPONENT: LOBBY,
        POOL: metadata["name"],
    }
    whole = {"name": name, "namespace": metadata["namespace"], "labels": labels, "ownerReferences": [owner]}
    return {"apiVersion": RESOURCES[kind].api_version, "kind": kind, "metadata": whole} | body
