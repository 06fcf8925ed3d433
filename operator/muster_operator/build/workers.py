"""The workers of a Kubernetes pool, as Indexed Jobs.

Where all clients of a pool share one place for their data, one Job has workers that lease client identities from the
coordinator: how many there are may change, and the clients move among those that are there. Where each client's data
lies in a place of its own, each client has a Job, which mounts that place and acts for that client alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from muster_operator.build.code import code_name, code_volume
from muster_operator.build.common import (
    CLIENT,
    FEWER_SINCE,
    INPUTS,
    WORKER,
    Context,
    annotated,
    child_name,
    labels,
    manifest,
)
from muster_operator.build.pods import (
    NOBODY,
    SERVE_METRICS,
    container,
    metrics_port,
    pull_secrets,
    resources,
    security,
    temporary_volumes,
    without_nothing,
)
from muster_operator.build.trust import BUNDLE, TRUST_FOLDER, workers_volume
from muster_operator.build.volumes import data_folder, place_of, state_folder, worker_volumes
from muster_operator.objects import Object, digest, timestamp
from muster_spec.pool_types import ClientData, Template, Toleration, Variable
from muster_spec.types import ResolvedPool

PLAIN = Template(spot=False, termination_grace_period_seconds=60)

SPOT_TAINTS = (
    ("cloud.google.com/gke-spot", "true"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
    ("karpenter.sh/capacity-type", "spot"),
)
_BAD_INPUT, _STOPPED = 2, 143
_THREADS = "OMP_NUM_THREADS"


def failure_policy(name: str, ends: str = "FailIndex") -> Object:
    """Of a Job whose container is called so.

    Exit 143: told to stop, by a drain or a suspension. A disruption: the node was taken away. Neither is the worker's
    fault, so neither costs a retry. Exit 2: the same would happen again, so this ends the index, or the Job.
    """
    stopped = {"containerName": name, "operator": "In", "values": [_STOPPED]}
    bad_input = {"containerName": name, "operator": "In", "values": [_BAD_INPUT]}
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            {"action": "Ignore", "onExitCodes": stopped},
            {"action": ends, "onExitCodes": bad_input},
        ]
    }


@dataclass(frozen=True, slots=True)
class Share:
    """The clients of a pool that the workers of one Job act for: all of them by lease, or the one with that index."""

    pool: ResolvedPool
    workers: int
    index: int | None = None

    @property
    def template(self) -> Template:
        return self.pool.spec.template or PLAIN

    @property
    def place(self) -> ClientData:
        """Where their data lies."""
        return place_of(self.pool.spec.data, self.index)

    @property
    def options(self) -> list[str]:
        """What a worker is told of its clients."""
        if self.index is not None:
            return ["--indices", str(self.index)]
        # All of them if need be, and at first what is everybody's part. The pinned pool says how much that is, not how
        # many workers there are now: another command would be another Job.
        spec = self.pool.spec
        return ["--capacity", str(spec.clients), "--share", str(math.ceil(spec.clients / spec.workers_wanted))]

    @property
    def labels(self) -> dict[str, str]:
        return {CLIENT: str(self.index)} if self.index is not None else {}


def shares_of(context: Context, pool: ResolvedPool) -> list[Share]:
    """How a pool's clients are divided into Jobs."""
    if pool.spec.has_own_places:
        return [Share(pool, 1, index) for index in range(pool.spec.clients)]
    return [Share(pool, context.workers[pool.name])]


def workers_name(context: Context, share: Share) -> str:
    """The name of a worker Job."""
    index = "" if share.index is None else f"-{share.index}"
    return child_name(context.job.name, f"workers-{share.pool.name}{index}")


def build_workers(context: Context, pool: ResolvedPool) -> list[Object]:
    """The worker Jobs of a pool."""
    return [_job(context, share) for share in shares_of(context, pool)]


def _job(context: Context, share: Share) -> Object:
    name = share.pool.name
    metadata: Object = {"labels": share.template.labels | labels(context.job, WORKER, name) | share.labels}
    if share.template.annotations:
        metadata["annotations"] = dict(share.template.annotations)
    spec = {
        "completionMode": "Indexed",
        "completions": max(share.workers, 1),  # with none to complete, the Job would be over
        "parallelism": share.workers,
        "backoffLimitPerIndex": context.job.spec.run_policy.backoff_limit,
        "podFailurePolicy": failure_policy(WORKER),
        "podReplacementPolicy": "Failed",
        "template": {"metadata": metadata, "spec": _pod(context, share)},
    }
    whole = manifest(context.job, "Job", workers_name(context, share), WORKER, name, spec=spec)
    whole["metadata"]["labels"] |= share.labels | dict(context.queue)
    inputs = [msgspec.to_builtins(share.pool), share.options, context.authority_id, context.address]
    inputs += [code_name(context)] if context.code else []
    since = context.fewer_since.get(name)
    return annotated(whole, {INPUTS: digest(inputs)} | ({FEWER_SINCE: timestamp(since)} if since is not None else {}))


def _pod(context: Context, share: Share) -> Object:
    template = share.template
    volumes = [*worker_volumes(template, share.place, share.pool.spec.state), *code_volume(context)]
    volumes.append((workers_volume(context, share.pool.name), {"mountPath": TRUST_FOLDER, "readOnly": True}))
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": template.service_account_name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security(template.run_as or NOBODY),
        "terminationGracePeriodSeconds": template.termination_grace_period_seconds,
        "nodeSelector": template.node_selector | share.place.node_selector,
        "tolerations": _tolerations(template),
        "priorityClassName": template.priority_class_name,
        "runtimeClassName": template.runtime_class_name,
        "imagePullSecrets": pull_secrets(*(one.name for one in template.image_pull_secrets), *context.pull_secrets),
        "containers": [_container(context, share, [{"name": volume["name"]} | mount for volume, mount in volumes])],
        "volumes": [*temporary_volumes(), *(volume for volume, _ in volumes)],
    }
    return without_nothing(pod)


def _container(context: Context, share: Share, mounts: list[Object]) -> Object:
    template = share.template
    command = ["muster", "worker", "--coordinator", context.address, "--join", f"{TRUST_FOLDER}/{BUNDLE}"]
    command += ["--pool", share.pool.name, *share.options, *SERVE_METRICS]
    for option, folder in (("--data", data_folder(share.place)), ("--state", state_folder(share.pool.spec.state))):
        command += [option, folder] if folder else []
    whole = container(
        WORKER,
        template.image or "",
        command,
        env=[*_threads(template), *_proxy(context, template), *map(_variable, template.environment)],
        resources=resources(template.resources),
        ports=[metrics_port()],
        volumeMounts=mounts,
        imagePullPolicy=template.image_pull_policy,
    )
    return without_nothing(whole)


def _variable(variable: Variable) -> Object:
    if variable.secret is None:
        return {"name": variable.name, "value": variable.value or ""}
    secret = {"name": variable.secret.name, "key": variable.secret.key}
    return {"name": variable.name, "valueFrom": {"secretKeyRef": secret}}


def _threads(template: Template) -> list[Object]:
    """As many threads as the pod may use cores. Libraries would start one for each core of the node, and wait."""
    limits = (template.resources.limits if template.resources else None) or {}
    is_told = any(variable.name == _THREADS for variable in template.environment)
    if "cpu" not in limits or is_told:
        return []
    return [{"name": _THREADS, "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]


def _proxy(context: Context, template: Template) -> list[Object]:
    """The proxy, in both spellings that programs look for. The coordinator is always reached directly."""
    if template.proxy is None:
        return []
    direct = ",".join(part for part in (template.proxy.exceptions, context.service_host) if part)
    values = {"http_proxy": template.proxy.http, "https_proxy": template.proxy.https, "no_proxy": direct}
    return [
        {"name": name, "value": value} for plain, value in values.items() if value for name in (plain, plain.upper())
    ]


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
