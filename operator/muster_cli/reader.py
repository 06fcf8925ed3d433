"""The pod through which a job's model is read: finished pods can't be copied from, nor volumes from outside.

Pure: the job and its coordinator's pod template in, a manifest out. The reader is as its coordinator was (the same
image, the same kind of nodes, the same credentials), sees the checkpoint read-only, and only waits until it is asked or
its time is up.
"""

from __future__ import annotations

from typing import Any

from muster_cli.errors import BadInput
from muster_operator.build.coordinator import CHECKPOINT_FOLDER
from muster_operator.build.pods import NOBODY, container, security, temporary_volumes
from muster_spec.pool_types import RunAs

Object = dict[str, Any]

READER = "reader"
_LIVES_S = 3600
_STAYS_S = 60
_WAIT = "import time; time.sleep(86400)"
_KEPT = ("nodeSelector", "tolerations", "imagePullSecrets", "priorityClassName")
_MODEST = {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}


def _location(job: Object) -> str:
    """Where the job's checkpoint is, as its status says. Raises BadInput where there is none yet."""
    place = str(job.get("status", {}).get("coordinator", {}).get("checkpointLocation", ""))
    if "://" not in place and not place.startswith("pvc/"):
        raise BadInput(f"fedjob {job['metadata']['name']} has no checkpoint in the cluster: it hasn't been started")
    return place


def folder_of(job: Object) -> str:
    """Where the job's models are: in the reader and in the coordinator alike, or in an object store."""
    place = _location(job)
    return place if "://" in place else f"{CHECKPOINT_FOLDER}/{job['metadata']['uid']}"


def build_reader(job: Object, coordinator: Object) -> Object:
    """The reader, as a Job: it ends and goes by itself, even if whoever made it is gone."""
    template: Object = coordinator["spec"]["template"]["spec"]
    claim = _location(job).removeprefix("pvc/")
    is_mounted = "://" not in claim
    volume = {"name": "checkpoint", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}}
    mount = {"name": "checkpoint", "mountPath": CHECKPOINT_FOLDER, "readOnly": True}
    # Where the volume is, the node may have been kept for others since.
    anywhere = {"tolerations": [{"operator": "Exists"}]} if is_mounted else {}
    pod = (
        {name: template[name] for name in _KEPT if name in template}
        | anywhere
        | {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": security(RunAs(user=NOBODY.user, group=NOBODY.group, volume_group=NOBODY.group)),
            "containers": [
                container(
                    READER,
                    template["containers"][0]["image"],
                    ["python", "-c", _WAIT],
                    resources=_MODEST,
                    volumeMounts=[mount] if is_mounted else [],
                    envFrom=template["containers"][0].get("envFrom", []),  # an object store's credentials
                )
            ],
            "volumes": [*temporary_volumes(), *([volume] if is_mounted else [])],
        }
    )
    labels = {"app.kubernetes.io/name": "muster", "app.kubernetes.io/component": READER}
    spec = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": _LIVES_S,
        "ttlSecondsAfterFinished": _STAYS_S,
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
    metadata = {"generateName": f"read-{job['metadata']['name'][:40]}-", "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}
