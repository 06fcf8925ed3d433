"""Why pods aren't made: a quota, a LimitRange, Pod Security. The job controller says so in Events, and nowhere else.

Events are many, so they aren't watched: those of a Job that lacks pods are asked for, which is seldom. In a namespace
that is being deleted there are no new ones, so where pods go and no others come, the API server is asked itself.
"""

from __future__ import annotations

import dataclasses
import logging

from muster_operator.api import Api
from muster_operator.diagnosis import is_closing, lacks_pods
from muster_operator.errors import ApiError, TryLater
from muster_operator.objects import MANAGED_BY, MANAGER, Object, is_going
from muster_operator.observed import Observed

log = logging.getLogger("muster.operator")

REASON = "FailedCreate"


async def with_refusals(api: Api, seen: Observed) -> Observed:
    """What is observed, with the API server's words to Jobs that lack pods. Raises TryLater."""
    lacking = {str(job["metadata"]["uid"]): pods for job, pods in _pods_by_job(seen) if lacks_pods(job, pods)}
    have_gone = any(is_going(pod) for pods in lacking.values() for pod in pods)
    closing = await _closing(api, seen.namespace) if have_gone else ""
    words = {uid: closing or await _words(api, seen.namespace, uid) for uid in lacking}
    found = {uid: said for uid, said in words.items() if said}
    return dataclasses.replace(seen, refusals=found) if found else seen


def _pods_by_job(seen: Observed) -> list[tuple[Object, list[Object]]]:
    return [(job, seen.pods_of(job)) for job in seen.of_kind("Job")]


async def _closing(api: Api, namespace: str) -> str:
    """What the API server says to whoever makes something in a namespace that is being deleted; "" of any other."""
    metadata = {"name": "muster-asks", "namespace": namespace, "labels": {MANAGED_BY: MANAGER}}
    try:
        await api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}, is_dry_run=True)
    except TryLater:
        raise
    except ApiError as error:
        return error.message if is_closing(error.message) else ""
    return ""


async def _words(api: Api, namespace: str, uid: str) -> str:
    try:
        events = await api.events_of(namespace, uid, REASON)
    except TryLater:
        raise
    except ApiError as error:
        log.info("can't see why pods are missing, in the Events of namespace %s: %s", namespace, error)
        return ""
    newest = max(events, key=_moment, default=None)
    return str(newest.get("message") or "") if newest else ""


def _moment(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp") or "")
