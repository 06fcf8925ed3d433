"""What keeps pods from running, in one word and for people. Pure: pods and Jobs in, reasons out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from muster_operator.objects import Object, condition_of, dig, unix_of
from muster_telemetry.logs import message_of

_WAITING = {
    "ImagePullBackOff": "ImagePullFailed",
    "ErrImagePull": "ImagePullFailed",
    "InvalidImageName": "ImagePullFailed",
    "ErrImageNeverPull": "ImagePullFailed",
    "CreateContainerConfigError": "ConfigurationMissing",
    "CreateContainerError": "ContainerNotCreated",
    "RunContainerError": "ContainerNotStarted",
}
STOPPED = 143
CLOSING = "NamespaceTerminating"

# Words of the API server's admission, in which a refusal can be recognised.
_REFUSALS = (
    (CLOSING, re.compile(r"because it is being terminated")),
    ("NameTaken", re.compile(r"changes what carries its label app\.kubernetes\.io/managed-by")),
    ("QuotaExceeded", re.compile(r"exceeded quota|failed quota")),
    ("LimitRange", re.compile(r"(minimum|maximum|max limit to request ratio) .*\bper (Container|Pod)\b")),
    ("PodSecurityViolated", re.compile(r"violates PodSecurity")),
    ("ServiceAccountMissing", re.compile(r"serviceaccount .* not found", re.IGNORECASE)),
    ("PriorityClassMissing", re.compile(r"PriorityClass .* was found|priorityclass.* not found", re.IGNORECASE)),
    ("RuntimeClassMissing", re.compile(r"RuntimeClass .* not found", re.IGNORECASE)),
)
_DEVICE = re.compile(r"Insufficient ([a-z0-9.-]+/[a-z0-9.-]+)", re.IGNORECASE)  # cpu and memory have no slash


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is wrong with one pod."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Ending:
    """How a pod's container ended."""

    code: int
    reason: str
    message: str


def ending_of(pod: Object) -> Ending | None:
    """How the pod's (only) container ended; None while it hasn't."""
    ended = dig(pod, "status", "containerStatuses", 0, "state", "terminated")
    if not isinstance(ended, dict):
        return None
    return Ending(
        int(ended.get("exitCode", 0)), str(ended.get("reason") or ""), str(ended.get("message") or "").strip()
    )


def is_disrupted(pod: Object) -> bool:
    """Whether the node was taken away, or the pod pushed off it: nobody's fault."""
    return condition_of(pod, "DisruptionTarget") is not None


def is_ready(pod: Object) -> bool:
    """Whether its probes say so."""
    return condition_of(pod, "Ready") is not None


def trouble_of(pod: Object) -> Trouble | None:
    """Why a pod doesn't run, where that is known and isn't just a matter of time."""
    name = pod["metadata"]["name"]
    waiting = dig(pod, "status", "containerStatuses", 0, "state", "waiting")
    if isinstance(waiting, dict) and waiting.get("reason") in _WAITING:
        return Trouble(_WAITING[waiting["reason"]], f"pod {name}: {waiting.get('message') or waiting['reason']}")
    ending = ending_of(pod)
    if ending and ending.code:
        return _trouble_of_ending(pod, ending)
    return _scheduling(pod)


def _trouble_of_ending(pod: Object, ending: Ending) -> Trouble | None:
    name = pod["metadata"]["name"]
    if is_disrupted(pod):
        return Trouble("Disrupted", f"pod {name} was taken off its node; another takes its place")
    if ending.reason == "OOMKilled":
        limit = dig(pod, "spec", "containers", 0, "resources", "limits", "memory")
        return Trouble("OutOfMemory", f"pod {name} used more memory than its limit of {limit or 'the node'}")
    if ending.code == STOPPED:
        return None
    last = message_of(ending.message.splitlines()[-1]) if ending.message else ending.reason
    return Trouble("PodFailed", f"pod {name} ended with exit code {ending.code}: {last}"[:1000])


def _scheduling(pod: Object) -> Trouble | None:
    found = dig(pod, "status", "conditions") or ()
    blocked = [one for one in found if one.get("type") == "PodScheduled" and one.get("reason") == "Unschedulable"]
    if not blocked:
        return None
    words = str(blocked[0].get("message") or "no node fits")
    device = _DEVICE.search(words)
    if device:
        message = f"pod {pod['metadata']['name']} asks for {device[1]}, and no node has enough of it free: {words}"
        return Trouble("UnschedulableDevice", message)
    return Trouble("Unschedulable", f"pod {pod['metadata']['name']}: {words}")


def unschedulable_since(pod: Object) -> float | None:
    """Since when no node takes a pod; None where that is not so."""
    found = dig(pod, "status", "conditions") or ()
    blocked = [one for one in found if one.get("type") == "PodScheduled" and one.get("reason") == "Unschedulable"]
    return unix_of(blocked[0].get("lastTransitionTime")) if blocked else None


def lacks_pods(job: Object, pods: Sequence[Object]) -> bool:
    """Whether a Job that runs has fewer pods than it should, which is normal for a moment only."""
    spec, status = job.get("spec") or {}, job.get("status") or {}
    is_over = condition_of(job, "Complete") or condition_of(job, "Failed")
    if spec.get("suspend") or is_over or not status:  # without a status the job controller hasn't seen it yet
        return False
    done = int(status.get("succeeded") or 0) + _indexes(str(status.get("failedIndexes") or ""))
    return sum(not _has_ended(pod) for pod in pods) < int(spec.get("parallelism") or 0) - done


def _has_ended(pod: Object) -> bool:
    """Whether it runs no more: one that never got as far as a container has no ending."""
    return ending_of(pod) is not None or dig(pod, "status", "phase") in {"Succeeded", "Failed"}


def _indexes(text: str) -> int:
    """How many there are in a list such as 1,3-5."""
    ranges = [part.partition("-") for part in text.split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)


def refusal(words: str, otherwise: str) -> str:
    """One word for why the API server refused something."""
    return next((reason for reason, pattern in _REFUSALS if pattern.search(words)), otherwise)


def is_closing(words: str) -> bool:
    """Whether the API server refuses because the whole namespace is being deleted."""
    return refusal(words, "") == CLOSING


def refused_pods(words: str) -> Trouble:
    """What keeps a Job's pods from being made at all."""
    return Trouble(refusal(words, "PodsRefused"), f"its pods are refused: {words}")


def first_trouble(pods: Sequence[Object]) -> Trouble | None:
    """The newest pod's trouble, among those that have any."""
    return next((trouble for pod in reversed(pods) if (trouble := trouble_of(pod))), None)
