"""The Secrets that hold a job's certificates, still empty, and where pods see them.

Three kinds, so that each process is shown its own keys and no others: the authority (its key goes to the coordinator,
which certifies workers' keys with it), the coordinator's certificate, and for each pool a bundle to join with.
"""

from __future__ import annotations

from muster_operator.build.common import COORDINATOR, WORKER, Context, manifest
from muster_operator.build.pools import authority_name
from muster_operator.objects import Object

TRUST_FOLDER = "/etc/muster/trust"
AUTHORITY_CERTIFICATE, AUTHORITY_KEY = "ca.crt", "ca.key"
SERVER_CERTIFICATE, SERVER_KEY = "tls.crt", "tls.key"
BUNDLE = "bundle.json"
BRIDGES_BUNDLE = "bridge.json"  # beside it, of a pool that has a bridge: what that one speaks to the coordinator with
POOLS = "pools"


def build_authority(context: Context) -> Object:
    """The Secret of the job's authority. Another one means other processes."""
    return manifest(context.job, "Secret", context.authority_name, COORDINATOR, type="Opaque", immutable=True)


def build_server(context: Context) -> Object:
    """The Secret of the coordinator's certificate. Its content changes while the coordinator runs."""
    return manifest(context.job, "Secret", context.server_name, COORDINATOR, type="kubernetes.io/tls")


def build_join(context: Context, pool: str) -> Object:
    """The Secret that a pool's workers join with. Its content changes while they run."""
    return manifest(context.job, "Secret", context.join_name(pool), WORKER, pool, type="Opaque")


def coordinator_volume(context: Context) -> Object:
    """The authority with its key, the coordinator's certificate with its own; and of each External pool's authority the
    certificate alone, which may come later, or be another one day.
    """
    sources: list[Object] = [{"secret": {"name": name}} for name in (context.authority_name, context.server_name)]
    for pool in context.external:
        item = {"key": AUTHORITY_CERTIFICATE, "path": f"{POOLS}/{pool.name}.crt"}
        sources.append({"secret": {"name": authority_name(pool.name), "optional": True, "items": [item]}})
    return {"name": "trust", "projected": {"sources": sources, "defaultMode": 0o440}}


def workers_volume(context: Context, pool: str) -> Object:
    """The pool's bundle, and its bridge's own. No other key of the job is ever shown to a worker, or to a bridge."""
    return {"name": "trust", "secret": {"secretName": context.join_name(pool)}}
