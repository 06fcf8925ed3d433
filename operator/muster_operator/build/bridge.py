"""The bridge of a SLURM pool: one pod that submits, follows and cancels the jobs that the pool's workers run in.

It is told to end as every pod is, by SIGTERM, and then cancels what it has in SLURM: so suspending, deleting and the
end of a job mostly need nothing else. It ends with 143 then, so its Job is neither complete nor failed: another bridge
comes after a drain or an eviction, and when the job is resumed. What it remembers goes with the pod; the next one finds
in what SLURM lists whatever is left. Where there is no bridge to be told, or it didn't get that far, a canceller takes
its place.
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
CANCELLER = "canceller"
"""What stands in place of a digest of inputs at the Job that cancels in a bridge's place."""
CANCELLING_S = 300
"""It is given up after this time."""
GRACE_S = 90  # it takes itself a minute to see that everything is cancelled
_MODEST = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
_READABLE = RunAs(user=NOBODY.user, group=NOBODY.group, volume_group=NOBODY.group)


def bridge_name(context: Context, pool: ResolvedPool) -> str:
    """The name of a pool's bridge."""
    return child_name(context.job.name, f"bridge-{pool.name}")


def build_bridge(context: Context, pool: ResolvedPool) -> Object:
    """The Job of a pool's bridge."""
    workers = context.workers[pool.name]
    inputs = [msgspec.to_builtins(pool), workers, context.config_name, context.authority_id, context.address_of(pool)]
    command = _bridge_command(context, pool)
    pod = _pod(context, pool, command, {"name": "trust", "mountPath": TRUST_FOLDER, "readOnly": True})
    pod["volumes"].append(workers_volume(context, pool.name))
    pod["containers"][0]["ports"] = [metrics_port()]
    return annotated(_job(context, pool, pod), {INPUTS: digest(inputs)})


def build_canceller(context: Context, pool: ResolvedPool) -> Object:
    """The Job that takes a bridge's place, and its name, to see that nothing is left in SLURM.

    It is shown none of the job's own Secrets, and the pool's if they are there: it ends where one is missing that it
    needs, rather than wait for it.
    """
    command = ["python", "-m", "muster_slurm.cancel", "--job", f"{JOB_FOLDER}/{JOB_KEY}", "--pool", pool.name]
    job = _job(context, pool, _pod(context, pool, [*command, "--secrets", SECRETS_FOLDER]))
    job["spec"]["activeDeadlineSeconds"] = CANCELLING_S
    for volume in job["spec"]["template"]["spec"]["volumes"]:
        volume.get("secret", {})["optional"] = True
    return annotated(job, {INPUTS: CANCELLER})


def _job(context: Context, pool: ResolvedPool, pod: Object) -> Object:
    """One pod, and not by index: of an index, Kubernetes keeps a pod that failed until the next one is there, and in a
    namespace that is being deleted there is no next one, so it would stay for ever.
    """
    spec = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": context.job.spec.run_policy.backoff_limit,
        "podFailurePolicy": failure_policy(BRIDGE, "FailJob"),
        "podReplacementPolicy": "Failed",
        "template": {"metadata": {"labels": labels(context.job, WORKER, pool.name)}, "spec": pod},
    }
    return manifest(context.job, "Job", bridge_name(context, pool), WORKER, pool.name, spec=spec)


def _bridge_command(context: Context, pool: ResolvedPool) -> list[str]:
    command = ["python", "-m", "muster_slurm", "--alone", "--job", f"{JOB_FOLDER}/{JOB_KEY}", "--pool", pool.name]
    command += ["--workers", str(context.workers[pool.name]), "--ledger", "/tmp/ledger"]  # noqa: S108 -- the pod's own
    command += ["--join", f"{TRUST_FOLDER}/{BUNDLE}", "--secrets", SECRETS_FOLDER]
    return [*command, "--attend", f"{TRUST_FOLDER}/{BRIDGES_BUNDLE}", *SERVE_METRICS]


def _pod(context: Context, pool: ResolvedPool, command: list[str], *more: Object) -> Object:
    """`more`: what else is mounted."""
    coordinator = context.job.spec.coordinator
    secrets = _secrets(pool)
    mounts = [
        {"name": "job", "mountPath": JOB_FOLDER, "readOnly": True},
        *more,
        *({"name": f"secret-{index}", "mountPath": f"{SECRETS_FOLDER}/{name}"} for index, name in enumerate(secrets)),
    ]
    image = (coordinator.image if coordinator else None) or ""
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security(_READABLE),
        "terminationGracePeriodSeconds": GRACE_S,
        "imagePullSecrets": pull_secrets(*context.pull_secrets),
        "containers": [container(BRIDGE, image, command, resources=_MODEST, volumeMounts=mounts)],
        "volumes": [
            *temporary_volumes(),
            {"name": "job", "configMap": {"name": context.config_name}},
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
