"""Carries a plan out: the only place that changes anything in the cluster.

Each action may be done twice, or half of them, and the next pass mends it: what is there already is left alone, what is
gone already is as good as deleted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

from muster_operator.actions import Action, Apply, Create, CreateAuthority, Delete, Issue, Patch, Tell
from muster_operator.api import Api
from muster_operator.errors import ApiError, Conflict, NotFound
from muster_operator.issuing import create_authority, issue
from muster_operator.objects import MANAGED_BY, MANAGER, RESOURCES, Object, contains, digest, label_of, timestamp
from muster_operator.status import Transition

log = logging.getLogger("muster.operator")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the API server refused for good (a quota, a policy), and which names are somebody else's, for the status;
    and whether we had seen what is.
    """

    refused: list[str]
    taken: list[str]
    was_stale: bool


async def apply_actions(api: Api, namespace: str, actions: Sequence[Action]) -> Outcome:
    """Carry them out in order. Raises TryLater where the server is busy or away, so that the whole is tried again."""
    refused, taken, was_stale = list[str](), list[str](), False
    for action in actions:
        try:
            await _apply(api, namespace, action)
        except (Conflict, NotFound) as error:
            if error.reason == "AlreadyExists" and await _is_anothers(api, namespace, action):
                taken.append(_name(action))
                continue
            log.info("%s: as good as done, or the next pass will see: %s", namespace, error)
            was_stale = True
        except ApiError as error:
            if error.status in {400, 403, 422}:
                refused.append(f"{_name(action)}: {error.message}")
            else:
                raise
    return Outcome(refused, taken, was_stale)


async def _is_anothers(api: Api, namespace: str, action: Action) -> bool:
    """Whether what there is under this name was not made by us. What was, a watch is about to show."""
    if isinstance(action, (Patch, Delete, Tell)):
        return False
    found = await api.find(action.manifest["kind"], namespace, action.manifest["metadata"]["name"])
    return found is not None and label_of(found, MANAGED_BY) != MANAGER


async def _apply(api: Api, namespace: str, action: Action) -> None:
    log.info("%s: %s %s", namespace, type(action).__name__, _name(action))
    match action:
        case Create(manifest):
            await api.create(manifest)
        case CreateAuthority():
            await create_authority(api, action, time.time())
        case Issue():
            await issue(api, namespace, action)
        case Apply(manifest):
            await api.apply(manifest)
        case Patch(key, uid, body):
            await api.patch(key, namespace, uid, body)
        case Delete(key, uid, _):
            await api.delete(key, namespace, uid)
        case Tell(about, reason, message, is_warning):
            await _post_event(api, about, Transition(reason, message, is_warning))


def _name(action: Action) -> str:
    if isinstance(action, (Patch, Delete)):
        return str(action.key)
    if isinstance(action, Tell):
        return action.reason
    return f"{action.manifest['kind']}/{action.manifest['metadata']['name']}"


THEIRS = frozenset({"training", "lobby"})
"""Parts of a status that others write: of a job its coordinator, of a pool the lobby."""


async def write_status(api: Api, owner: Object, status: Object, news: Sequence[Transition]) -> bool:
    """Write the status of a job or a pool where it differs, then tell of its news. False if it wasn't as we saw it."""
    before, metadata = owner.get("status") or {}, owner["metadata"]
    ours = {name: value for name, value in before.items() if name not in THEIRS}
    if ours.keys() == status.keys() and contains(ours, status) and contains(status, ours):
        return True
    head = {"apiVersion": RESOURCES[owner["kind"]].api_version, "kind": owner["kind"]}
    # With the uid: the status of an object of the same name that was made since is another's.
    exact = {name: metadata[name] for name in ("name", "namespace", "uid")}
    try:
        await api.apply(head | {"metadata": exact, "status": status}, "status")
    except (Conflict, NotFound) as error:
        log.info("%s/%s: gone, or another by now: %s", metadata["namespace"], metadata["name"], error)
        return False
    for transition in news:
        await _post_event(api, owner, transition)
    return True


async def _post_event(api: Api, owner: Object, transition: Transition) -> None:
    """One Event. Should it be lost, the condition says the same."""
    now, metadata = timestamp(time.time()), owner["metadata"]
    reference = {name: metadata.get(name) for name in ("name", "namespace", "uid", "resourceVersion")}
    name = digest([transition.reason, transition.message, metadata["uid"], now])
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.{name}", "namespace": metadata["namespace"]},
        "involvedObject": {"apiVersion": RESOURCES[owner["kind"]].api_version, "kind": owner["kind"]} | reference,
        "type": "Warning" if transition.is_warning else "Normal",
        "reason": transition.reason,
        "message": transition.message,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": "muster-operator"},
    }
    try:
        await api.create(event)
    except Conflict:
        log.debug("an earlier pass has posted this Event already")
    except ApiError as error:
        log.warning("an Event of %s/%s is lost: %s", metadata["namespace"], metadata["name"], error)
