"""The workers of a Kubernetes pool: an Indexed Job whose pods lease client identities from the coordinator."""

from __future__ import annotations

import math

import msgspec

from muster_operator.build.common import INPUTS, WORKER, Context, annotated, child_name, labels, manifest
from muster_operator.build.pods import (
    AUTHORITY_KEY,
    NOBODY,
    TOKEN_KEY,
    container,
    resources,
    security,
    temporary_volumes,
    without_nothing,
)
from muster_operator.objects import Object, digest
from muster_spec.pool_types import DataVolume, PoolData, Template, Toleration, Variable
from muster_spec.types import ResolvedPool

DATA_FOLDER = "/data"
TRUST_FOLDER = "/etc/muster/trust"
STATE_FOLDER = "/var/lib/muster/state"
PLAIN = Template(spot=False, termination_grace_period_seconds=60)

SPOT_TAINTS = (
    ("cloud.google.com/gke-spot", "true"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
    ("karpenter.sh/capacity-type", "spot"),
)
_BAD_INPUT, _STOPPED = 2, 143

# Exit 143: told to stop, by a drain or a suspension. A disruption: the node was taken away. Neither is the worker's
# fault, so neither costs a retry. Exit 2: the same would happen again.
FAILURE_POLICY = {
    "rules": [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "Ignore", "onExitCodes": {"containerName": WORKER, "operator": "In", "values": [_STOPPED]}},
        {"action": "FailIndex", "onExitCodes": {"containerName": WORKER, "operator": "In", "values": [_BAD_INPUT]}},
    ]
}


def workers_name(context: Context, pool: str) -> str:
    """The name of a pool's worker Job."""
    return child_name(context.job.name, f"workers-{pool}")


def capacity(pool: ResolvedPool, workers: int) -> int:
    """How many clients each worker has to act for, so that none is left out."""
    return math.ceil(pool.spec.clients / workers)


def build_workers(context: Context, pool: ResolvedPool) -> Object:
    """The worker Job of a pool."""
    count = context.workers[pool.name]
    template = pool.spec.template or PLAIN
    metadata = {"labels": template.labels | labels(context.job, WORKER, pool.name)}
    if template.annotations:
        metadata["annotations"] = dict(template.annotations)
    spec = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "backoffLimitPerIndex": context.job.spec.run_policy.backoff_limit,
        "podFailurePolicy": FAILURE_POLICY,
        "podReplacementPolicy": "Failed",
        "template": {"metadata": metadata, "spec": _pod(context, pool, template, count)},
    }
    whole = manifest(context.job, "Job", workers_name(context, pool.name), WORKER, pool.name, spec=spec)
    inputs = [msgspec.to_builtins(pool), capacity(pool, count), context.token_id, context.service_port]
    return annotated(whole, {INPUTS: digest(inputs)})


def _pod(context: Context, pool: ResolvedPool, template: Template, count: int) -> Object:
    volumes, mounts = _volumes(pool, template)
    # Only what the coordinator is known by: its private key is in the same Secret.
    trust = {"secretName": context.token_name, "items": [{"key": AUTHORITY_KEY, "path": AUTHORITY_KEY}]}
    volumes.append({"name": "trust", "secret": trust})
    mounts.append({"name": "trust", "mountPath": TRUST_FOLDER, "readOnly": True})
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": template.service_account_name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security(template.run_as or NOBODY),
        "terminationGracePeriodSeconds": template.termination_grace_period_seconds,
        "nodeSelector": template.node_selector,
        "tolerations": _tolerations(template),
        "priorityClassName": template.priority_class_name,
        "runtimeClassName": template.runtime_class_name,
        "imagePullSecrets": [{"name": secret.name} for secret in template.image_pull_secrets],
        "containers": [_container(context, pool, template, count, mounts)],
        "volumes": volumes,
    }
    return without_nothing(pod)


def _container(context: Context, pool: ResolvedPool, template: Template, count: int, mounts: list[Object]) -> Object:
    command = ["muster", "worker", "--coordinator", f"{context.service_host}:{context.service_port}"]
    command += ["--ca", f"{TRUST_FOLDER}/{AUTHORITY_KEY}"]
    command += ["--pool", pool.name, "--capacity", str(capacity(pool, count))]
    for option, folder in (("--data", data_folder(pool.spec.data)), ("--state", _state_folder(pool))):
        command += [option, folder] if folder else []
    whole = container(
        WORKER,
        template.image or "",
        command,
        env=[*_environment(context), *_proxy(context, template), *map(_variable, template.environment)],
        resources=resources(template.resources),
        volumeMounts=mounts,
        imagePullPolicy=template.image_pull_policy,
    )
    return without_nothing(whole)


def _environment(context: Context) -> list[Object]:
    return [
        {
            "name": "MUSTER_TOKEN",
            "valueFrom": {"secretKeyRef": {"name": context.token_name, "key": TOKEN_KEY}},
        }
    ]


def _variable(variable: Variable) -> Object:
    if variable.secret is None:
        return {"name": variable.name, "value": variable.value or ""}
    secret = {"name": variable.secret.name, "key": variable.secret.key}
    return {"name": variable.name, "valueFrom": {"secretKeyRef": secret}}


def _proxy(context: Context, template: Template) -> list[Object]:
    """The proxy, in both spellings that programs look for. The coordinator is always reached directly."""
    if template.proxy is None:
        return []
    direct = ",".join(part for part in (template.proxy.exceptions, context.service_host) if part)
    values = {"http_proxy": template.proxy.http, "https_proxy": template.proxy.https, "no_proxy": direct}
    return [
        {"name": name, "value": value} for plain, value in values.items() if value for name in (plain, plain.upper())
    ]


def data_folder(data: PoolData | None) -> str | None:
    """Where a worker finds its data; None where the task brings it along."""
    if data is None:
        return None
    return data.path or (DATA_FOLDER if data.volume else None)


def _state_folder(pool: ResolvedPool) -> str | None:
    state = pool.spec.state
    if state is None or state.type == "Ephemeral":
        return None
    return state.path.path if state.path else STATE_FOLDER


def _volumes(pool: ResolvedPool, template: Template) -> tuple[list[Object], list[Object]]:
    """The pod's volumes, and where the worker sees them. /tmp is there already."""
    volumes, mounts = temporary_volumes(template.shared_memory), list[Object]()
    if template.shared_memory:
        mounts.append({"name": "shared-memory", "mountPath": "/dev/shm"})  # noqa: S108
    if pool.spec.data and pool.spec.data.volume:
        volumes.append({"name": "data"} | _data_source(pool.spec.data.volume))
        mounts.append({"name": "data", "mountPath": data_folder(pool.spec.data)} | _data_mount(pool.spec.data.volume))
    if pool.spec.state and pool.spec.state.volume:
        volumes.append({"name": "state", "persistentVolumeClaim": {"claimName": pool.spec.state.volume.claim_name}})
        mounts.append({"name": "state", "mountPath": STATE_FOLDER})
    return volumes, mounts


def _data_source(volume: DataVolume) -> Object:
    if volume.config_map:
        return {"configMap": {"name": volume.config_map.name}}
    if volume.secret:
        return {"secret": {"secretName": volume.secret.name}}
    claim = volume.persistent_volume_claim
    return {"persistentVolumeClaim": {"claimName": claim.claim_name, "readOnly": claim.read_only}} if claim else {}


def _data_mount(volume: DataVolume) -> Object:
    claim = volume.persistent_volume_claim
    if claim is None:
        return {"readOnly": True}
    return without_nothing({"readOnly": claim.read_only, "subPath": claim.sub_path})


def _tolerations(template: Template) -> list[Object]:
    """Those of the pool, of spot nodes where it may use them, and of each device: GPU nodes are often tainted so."""
    given = [without_nothing(_toleration(one)) for one in template.tolerations]
    spot = [
        {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}
        for key, value in (SPOT_TAINTS if template.spot else ())
    ]
    limits = (template.resources.limits if template.resources else None) or {}
    devices = [{"key": name, "operator": "Exists", "effect": "NoSchedule"} for name in sorted(limits) if "/" in name]
    return [*given, *spot, *devices]


def _toleration(one: Toleration) -> Object:
    return {
        "key": one.key,
        "operator": one.operator,
        "value": one.value,
        "effect": one.effect,
        "tolerationSeconds": one.toleration_seconds,
    }
