"""What coordinator and worker pods have in common: Pod Security "restricted", and small parts of a pod."""

from __future__ import annotations

from typing import Any

from muster_operator.build.common import METRICS, METRICS_PORT
from muster_operator.objects import Object
from muster_spec.pool_types import RunAs
from muster_spec.values import Resources

NOBODY = RunAs(user=65532, group=65532)
SERVE_METRICS = ("--metrics", f"0.0.0.0:{METRICS_PORT}")
"""What any process of a job is told, so that they are found at `metrics_port`."""


def security(run_as: RunAs = NOBODY) -> Object:
    """A pod's security context that "restricted" admits."""
    context: Object = {
        "runAsNonRoot": True,
        "runAsUser": run_as.user,
        "runAsGroup": run_as.group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return context | ({"fsGroup": run_as.volume_group} if run_as.volume_group else {})


def container(name: str, image: str, command: list[str], **body: Any) -> Object:
    """A container that can write to /tmp and to its volumes, and nowhere else."""
    body["volumeMounts"] = [{"name": "tmp", "mountPath": "/tmp"}, *body.get("volumeMounts", ())]  # noqa: S108
    body["env"] = [{"name": "HOME", "value": "/tmp"}, *body.get("env", ())]  # noqa: S108
    return {
        "name": name,
        "image": image,
        "command": command,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        # The end of the log comes with the pod's status, so that what went wrong outlives the log.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    } | body


def resources(given: Resources | None) -> Object:
    """The requests and limits that are set. Kubernetes takes missing requests from the limits."""
    if given is None:
        return {}
    amounts = {"requests": given.requests, "limits": given.limits}
    return {name: {key: str(each) for key, each in value.items()} for name, value in amounts.items() if value}


def pull_secrets(*names: str) -> list[Object]:
    """What opens the registries of a pod's images, each once."""
    return [{"name": name} for name in dict.fromkeys(names)]


def metrics_port() -> Object:
    """Where a container serves its metrics: PodMonitors look for the name."""
    return {"name": METRICS, "containerPort": METRICS_PORT, "protocol": "TCP"}


def temporary_volumes() -> list[Object]:
    """What every container may write to."""
    return [{"name": "tmp", "emptyDir": {}}]


def without_nothing(value: Object) -> Object:
    """The fields that are set. Most of a template is optional."""
    return {name: each for name, each in value.items() if each not in (None, {}, [], "")}
