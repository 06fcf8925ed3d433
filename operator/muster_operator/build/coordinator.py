"""The coordinator of a job: a Job of one pod, the Service in front of it, and the claim that its history is on."""

from __future__ import annotations

from muster_operator.build.common import (
    COORDINATOR,
    INPUTS,
    PORT,
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
from muster_operator.build.trust import (
    AUTHORITY_CERTIFICATE,
    AUTHORITY_KEY,
    POOLS,
    SERVER_CERTIFICATE,
    SERVER_KEY,
    TRUST_FOLDER,
    coordinator_volume,
)
from muster_operator.objects import Object, digest
from muster_spec.pool_types import RunAs
from muster_spec.types import Coordinator, Service, StorageVolume

JOB_FOLDER = "/etc/muster/job"
JOB_KEY, CODE_KEY = "job.json", "code.json"
SPEC_DIGEST = "muster.dev/spec-digest"
CHECKPOINT_FOLDER = "/var/lib/muster/checkpoint"
ACCOUNT_FOLDER = "/etc/muster/account"

# Which exits count is more than a Job's own policy can say together with podReplacementPolicy TerminatingOrFailed, so
# the operator counts them (see verdict.py) and the Job itself never gives up.
_NEVER = 1_000_000
_UNREACHABLE_S = 30
_TOKEN_S = 3600  # kubelets renew it at four fifths of that
_MODEST = {"requests": {"cpu": "250m", "memory": "512Mi"}}


def build_coordinator(context: Context) -> Object:
    """The coordinator's Job.

    A replacement starts as soon as the old pod is told to go, even if its node has gone silent: of two coordinators one
    loses at the next commit and leaves.
    """
    spec = {
        "completions": 1,
        "parallelism": 1,
        "backoffLimit": _NEVER,
        "podReplacementPolicy": "TerminatingOrFailed",
        "template": {"metadata": {"labels": labels(context.job, COORDINATOR)}, "spec": _pod(context)},
    }
    whole = manifest(context.job, "Job", context.coordinator_name, COORDINATOR, spec=spec)
    whole["metadata"]["labels"] |= context.queue
    return annotated(whole, {INPUTS: digest([context.config_name, context.authority_id])})


def _pod(context: Context) -> Object:
    wanted = context.job.spec.coordinator or Coordinator()
    image = wanted.image or ""
    volumes = [
        *temporary_volumes(),
        {"name": "job", "configMap": {"name": context.config_name}},
        coordinator_volume(context),
        {"name": "checkpoint"} | _checkpoint(context),
        _account(),
    ]
    pod = {
        "restartPolicy": "Never",
        "serviceAccountName": context.coordinator_name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security(RunAs(user=NOBODY.user, group=NOBODY.group, volume_group=NOBODY.group)),
        "terminationGracePeriodSeconds": 30,
        "nodeSelector": wanted.node_selector,
        "priorityClassName": wanted.priority_class_name,
        "imagePullSecrets": pull_secrets(*context.pull_secrets),
        "tolerations": [
            {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute"}
            | {"tolerationSeconds": _UNREACHABLE_S}
            for taint in ("unreachable", "not-ready")
        ],
        "containers": [_container(context, image, wanted)],
        "volumes": volumes,
    }
    return without_nothing(pod)


def _checkpoint(context: Context) -> Object:
    """The claim; with an object store, room for a copy of what it keeps."""
    if store_url(context):
        return {"emptyDir": {}}
    return {"persistentVolumeClaim": {"claimName": claim_name(context)}}


def _account() -> Object:
    """What the coordinator writes its part of the status with, and no more than that."""
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": _TOKEN_S}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    return {"name": "account", "projected": {"sources": sources, "defaultMode": 0o440}}


def _container(context: Context, image: str, wanted: Coordinator) -> Object:
    command = ["python", "-m", "muster_coordinator", "--job", f"{JOB_FOLDER}/{JOB_KEY}"]
    folder, url = f"{CHECKPOINT_FOLDER}/{context.job.uid}", store_url(context)
    command += ["--storage", url, "--scratch", folder] if url else ["--storage", folder]
    command += ["--listen", f"0.0.0.0:{PORT}"]
    command += ["--tls-cert", f"{TRUST_FOLDER}/{SERVER_CERTIFICATE}", "--tls-key", f"{TRUST_FOLDER}/{SERVER_KEY}"]
    command += ["--client-ca", f"{TRUST_FOLDER}/{AUTHORITY_CERTIFICATE}"]
    command += ["--enrol-key", f"{TRUST_FOLDER}/{AUTHORITY_KEY}"]
    command += ["--enrol-minutes", str(context.worker_certificate_minutes)]
    command += ["--pool-authorities", f"{TRUST_FOLDER}/{POOLS}"] if context.external else []
    command += SERVE_METRICS
    command += ["--service-account", ACCOUNT_FOLDER]
    return container(
        COORDINATOR,
        image,
        command,
        envFrom=_credentials(context),
        resources=resources(wanted.resources) or _MODEST,
        ports=[
            {"name": "federation", "containerPort": PORT, "protocol": "TCP"},
            metrics_port(),
        ],
        readinessProbe={"tcpSocket": {"port": PORT}, "periodSeconds": 5},
        volumeMounts=[
            {"name": "job", "mountPath": JOB_FOLDER, "readOnly": True},
            {"name": "trust", "mountPath": TRUST_FOLDER, "readOnly": True},
            {"name": "checkpoint", "mountPath": CHECKPOINT_FOLDER},
            {"name": "account", "mountPath": ACCOUNT_FOLDER, "readOnly": True},
        ],
    )


def build_service(context: Context) -> Object:
    """Where workers dial in. Pods that aren't ready are in it: workers try again by themselves."""
    coordinator = context.job.spec.coordinator
    wanted = coordinator.service if coordinator else None
    service = wanted or Service(type="ClusterIP", port=context.service_port)
    port = {"name": "federation", "port": service.port, "targetPort": PORT, "protocol": "TCP"}
    if service.node_port:
        port["nodePort"] = service.node_port
    spec = {
        "type": service.type,
        "ports": [port],
        "selector": labels(context.job, COORDINATOR),
        "publishNotReadyAddresses": True,
    }
    whole = manifest(context.job, "Service", context.coordinator_name, COORDINATOR, spec=spec)
    return annotated(whole, dict(service.annotations)) if service.annotations else whole


def store_url(context: Context) -> str:
    """The job's folder in an object store; empty where its checkpoint is on a claim."""
    storage = context.job.spec.checkpoint.storage
    return f"{storage.url.url.rstrip('/')}/{context.job.uid}" if storage and storage.url else ""


def checkpoint_location(context: Context) -> str:
    """Where the checkpoint is, as the job's status says it."""
    return store_url(context) or f"pvc/{claim_name(context)}"


def _credentials(context: Context) -> list[Object]:
    """The keys of the user's secret, as the store's library looks for them in the environment."""
    storage = context.job.spec.checkpoint.storage
    name = storage.url.secret_name if storage and storage.url else None
    return [{"secretRef": {"name": name}}] if name else []


def claim_name(context: Context) -> str:
    """The claim that the checkpoint is on. One of ours carries the job's uid: it may outlive the job."""
    volume = _volume(context)
    return volume.claim_name or child_name(context.job.name, f"checkpoint-{context.job.uid[:8]}")


def build_claim(context: Context) -> Object | None:
    """The claim for the checkpoint; None where there is one, or none is wanted. With Retain nobody owns it."""
    volume = _volume(context)
    if volume.claim_name or store_url(context):
        return None
    spec = without_nothing(
        {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": volume.size}},
            "storageClassName": volume.storage_class_name,
        }
    )
    is_owned = context.job.spec.checkpoint.when_deleted == "Delete"
    return manifest(
        context.job, "PersistentVolumeClaim", claim_name(context), COORDINATOR, is_owned=is_owned, spec=spec
    )


def _volume(context: Context) -> StorageVolume:
    storage = context.job.spec.checkpoint.storage
    return (storage.volume if storage else None) or StorageVolume(size="10Gi")
