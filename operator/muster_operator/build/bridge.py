"""The bridge of a SLURM pool: one pod that submits, follows and cancels the jobs that the pool's workers run in.

It is told to end as every pod is, by SIGTERM, and then cancels what it has in SLURM: so suspending, deleting and the
end of a job need nothing else. It ends with 143 then, so its Job is neither complete nor failed: another bridge comes
after a drain or an eviction, and when the job is resumed. What it remembers goes with the pod; the next one finds in
what SLURM lists whatever is left.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from muster_operator.build.common import INPUTS, WORKER, Context, annotated, child_name, labels, manifest
from muster_operator.build.coordinator import JOB_FOLDER, JOB_KEY
from muster_operator.build.pods import (
    NOBODY,
    SERVE_METRICS,
    container,
    metrics_port,
    pull_secrets,
    security,
    temporary_volumes,
    without_nothing,
)
from muster_operator.build.trust import BRIDGES_BUNDLE, BUNDLE, TRUST_FOLDER, workers_volume
from muster_operator.build.workers import failure_policy
from muster_operator.objects import Object, digest
from muster_spec.pool_types import RunAs, Slurm
from muster_spec.types import ResolvedPool
from muster_spec.values import SecretKey

BRIDGE = "bridge"  # its container
SECRETS_FOLDER = "/etc/muster/secrets"
GRACE_S = 90  # it takes itself a minute to see that everything is cancelled
_MODEST = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
_READABLE = RunAs(user=NOBODY.user, group=NOBODY.group, volume_group=NOBODY.group)


def bridge_name(context: Context, pool: ResolvedPool) -> str:
    """The name of a pool's bridge."""
    return child_name(context.job.name, f"bridge-{pool.name}")


def build_bridge(context: Context, pool: ResolvedPool) -> Object:
    """The Job of a pool's bridge."""
    spec = {
        "completionMode": "Indexed",
        "completions": 1,
        "parallelism": 1,
        "backoffLimitPerIndex": context.job.spec.run_policy.backoff_limit,
        "podFailurePolicy": failure_policy(BRIDGE),
        "podReplacementPolicy": "Failed",
        "template": {"metadata": {"labels": labels(context.job, WORKER, pool.name)}, "spec": _pod(context, pool)},
    }
    whole = manifest(context.job, "Job", bridge_name(context, pool), WORKER, pool.name, spec=spec)
    workers = context.workers[pool.name]
    inputs = [msgspec.to_builtins(pool), workers, context.config_name, context.authority_id, context.address_of(pool)]
    return annotated(whole, {INPUTS: digest(inputs)})


def _pod(context: Context, pool: ResolvedPool) -> Object:
    coordinator = context.job.spec.coordinator
    secrets = _secrets(pool)
    mounts = [
        {"name": "job", "mountPath": JOB_FOLDER, "readOnly": True},
        {"name": "trust", "mountPath": TRUST_FOLDER, "readOnly": True},
        *({"name": f"secret-{index}", "mountPath": f"{SECRETS_FOLDER}/{name}"} for index, name in enumerate(secrets)),
    ]
    command = ["python", "-m", "muster_slurm", "--alone", "--job", f"{JOB_FOLDER}/{JOB_KEY}", "--pool", pool.name]
    command += ["--workers", str(context.workers[pool.name]), "--ledger", "/tmp/ledger"]  # noqa: S108 -- the pod's own
    command += ["--join", f"{TRUST_FOLDER}/{BUNDLE}", "--secrets", SECRETS_FOLDER]
    command += ["--attend", f"{TRUST_FOLDER}/{BRIDGES_BUNDLE}", *SERVE_METRICS]
    ports = [metrics_port()]
    image = (coordinator.image if coordinator else None) or ""
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security(_READABLE),
        "terminationGracePeriodSeconds": GRACE_S,
        "imagePullSecrets": pull_secrets(*context.pull_secrets),
        "containers": [container(BRIDGE, image, command, resources=_MODEST, ports=ports, volumeMounts=mounts)],
        "volumes": [
            *temporary_volumes(),
            {"name": "job", "configMap": {"name": context.config_name}},
            workers_volume(context, pool.name),
            *(_secret_volume(index, name, keys) for index, (name, keys) in enumerate(secrets.items())),
        ],
    }
    return without_nothing(pod)


def _secret_volume(index: int, name: str, keys: list[str]) -> Object:
    """The keys that the pool names, and no others."""
    items = [{"key": key, "path": key} for key in keys]
    return {"name": f"secret-{index}", "secret": {"secretName": name, "items": items, "defaultMode": 0o440}}


def _secrets(pool: ResolvedPool) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for place in _named(pool.spec.slurm):
        keys = found.setdefault(place.name, [])
        if place.key not in keys:
            keys.append(place.key)
    return found


def _named(slurm: Slurm | None) -> Iterator[SecretKey]:
    if slurm is None:
        return
    if slurm.auth:
        yield slurm.auth.token_secret
    if slurm.command and slurm.command.ssh:
        yield from (slurm.command.ssh.key_secret, slurm.command.ssh.known_hosts_secret)
    if slurm.ca_secret:
        yield slurm.ca_secret
    yield from (variable.secret for variable in slurm.environment if variable.secret)
