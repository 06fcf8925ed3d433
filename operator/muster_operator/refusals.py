"""Why pods aren't made: a quota, a LimitRange, Pod Security. The job controller says so in Events, and nowhere else.

Events are many, so they aren't watched: those of a Job that lacks pods are asked for, which is seldom.
"""

from __future__ import annotations

import dataclasses
import logging

from muster_operator.api import Api
from muster_operator.diagnosis import lacks_pods
from muster_operator.errors import ApiError, TryLater
from muster_operator.objects import Object
from muster_operator.observed import Observed

log = logging.getLogger("muster.operator")

REASON = "FailedCreate"


async def with_refusals(api: Api, seen: Observed) -> Observed:
    """What is observed, with the API server's words to Jobs that lack pods. Raises TryLater."""
    found = {}
    for job in seen.of_kind("Job"):
        uid = str(job["metadata"]["uid"])
        if lacks_pods(job, seen.pods_of(job)):
            words = await _words(api, seen.namespace, uid)
            found.update({uid: words} if words else {})
    return dataclasses.replace(seen, refusals=found) if found else seen


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
