"""The task's code from a config map, as workers see it: a copy of the job's own, which nobody can change under it."""

from __future__ import annotations

from muster_operator.build.common import WORKER, Context, child_name, manifest
from muster_operator.objects import Object, digest

CODE_FOLDER = "/etc/muster/code"


def code_name(context: Context) -> str:
    """The name of the copy. Other code, another name."""
    return child_name(context.job.name, f"code-{digest(dict(context.code))}")


def build_code(context: Context) -> Object | None:
    """The copy, one file a key; None for a task whose code comes with the image."""
    if not context.code:
        return None
    return manifest(context.job, "ConfigMap", code_name(context), WORKER, immutable=True, data=dict(context.code))


def code_volume(context: Context) -> list[tuple[Object, Object]]:
    """The copy as a volume, with its mount."""
    if not context.code:
        return []
    volume = {"name": "code", "configMap": {"name": code_name(context)}}
    return [(volume, {"mountPath": CODE_FOLDER, "readOnly": True})]
