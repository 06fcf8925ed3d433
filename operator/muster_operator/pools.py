"""The status of a ClientPool: who works for its clients now, added up over the jobs that use it.

A sum of what the jobs' own statuses say, for people and for `kubectl wait`; nothing is decided by it. Of an External
pool it also says how its site gets in, which the lobby and coordinators go by; `lobby` is the lobby's own part. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from muster_operator.build.pools import LobbyAccount, authority_name, bundle_name
from muster_operator.credentials import CERTIFICATE, EXPIRES, ISSUED
from muster_operator.objects import Key, Object, annotation_of, dig, is_controlled_by, is_going, timestamp
from muster_operator.podless import lacking_in_pods
from muster_operator.status import Transition
from muster_spec.defaults import with_defaults
from muster_spec.schemas import schema_of
from muster_spec.support import unsupported_fields
from muster_spec.wording import counted

_OVER = frozenset({"Complete", "Failed", "Suspended"})
_CALM = frozenset({"Idle", "WorkersReady", "WorkersStarting", "Enrolling", "NoWorkers"})


@dataclass(frozen=True, slots=True)
class Lobby:
    """Where External workers dial in. `authority` (PEM) vouches for it; empty as long as it isn't known."""

    address: str
    authority: str
    account: LobbyAccount


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """A pool, the jobs that name it, and what is its own."""

    pool: Object
    jobs: tuple[Object, ...]
    children: Mapping[Key, Object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return str(self.pool["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.pool["metadata"]["uid"])

    @property
    def clients(self) -> int:
        return int(self.pool["spec"]["clients"])

    @property
    def is_external(self) -> bool:
        return bool(self.pool["spec"]["type"] == "External")

    @property
    def is_revoked(self) -> bool:
        return bool(dig(self.pool, "spec", "external", "revoked"))

    def secret(self, name: str) -> Object | None:
        """A Secret of its own, unless it is on its way out."""
        have = self.children.get(Key("Secret", name))
        return have if have is not None and is_controlled_by(have, self.uid) and not is_going(have) else None


@dataclass(frozen=True, slots=True)
class Use:
    """What one job says of the pool. `connected` is None as long as its coordinator has said nothing."""

    job: str
    wanted: int
    ready: int
    connected: int | None
    reason: str
    message: str


def uses(seen: PoolSeen) -> tuple[Use, ...]:
    """By the jobs that are neither over nor at rest, by name."""
    jobs = sorted(seen.jobs, key=lambda job: str(job["metadata"]["name"]))
    return tuple(_use(seen.name, job) for job in jobs if not is_going(job) and _is_active(job))


def _is_active(job: Object) -> bool:
    return dig(job, "status", "phase") not in _OVER and dig(job, "status", "specDigest") is not None


def _use(pool: str, job: Object) -> Use:
    entry = _named(dig(job, "status", "pools"), pool)
    told = _named(dig(job, "status", "training", "clients", "pools"), pool)
    return Use(
        job=str(job["metadata"]["name"]),
        wanted=int(entry.get("workersWanted") or 0),
        ready=int(entry.get("workersReady") or 0),
        connected=told.get("connected"),
        reason=str(entry.get("reason") or ""),
        message=str(entry.get("message") or ""),
    )


def _named(entries: Any, name: str) -> Mapping[str, Any]:
    return next((one for one in entries or () if one.get("name") == name), {})


def pool_status(seen: PoolSeen, now: float, lobby: Lobby | None = None) -> Object:
    """What is true of the pool. Of the status before it takes only the times at which conditions changed last."""
    using = uses(seen)
    wanted, ready = sum(use.wanted for use in using), sum(min(use.ready, use.wanted) for use in using)
    told = [use.connected for use in using if use.connected is not None]
    standing = _refused_standing(seen) or (_site_standing(seen, lobby) if seen.is_external else None)
    reason, message, is_ready, is_progressing = standing or _standing(using, wanted, ready)
    holds = {"Ready": is_ready, "Progressing": is_progressing, "Stalled": not (is_ready or is_progressing)}
    status: Object = {
        "observedGeneration": int(seen.pool["metadata"].get("generation", 0)),
        "reason": reason[:128],
        "message": message[:1024],
        "activeJobs": len(using),
        "workers": {
            "summary": f"{ready}/{wanted}",
            "wanted": wanted,
            "ready": ready,
            "pending": wanted - ready,
        },
        "conditions": list(_conditions(seen, holds, reason, message, now)),
    }
    connected = sum(told)
    clients = {"connected": connected, "missing": max(0, seen.clients * len(told) - connected)}
    enrolment = _enrolment(seen) if seen.is_external else {}
    return status | ({"clients": clients} if told else {}) | ({"enrolment": enrolment} if enrolment else {})


def _enrolment(seen: PoolSeen) -> Object:
    """How the site gets in: nothing while the pool is revoked, or where there is no lobby."""
    authority, bundle = seen.secret(authority_name(seen.name)), seen.secret(bundle_name(seen.pool))
    if authority is None or seen.is_revoked:
        return {}
    told = {"certificateAuthority": annotation_of(authority, CERTIFICATE), "since": annotation_of(authority, ISSUED)}
    if bundle is not None:
        told |= {"secretName": bundle["metadata"]["name"], "expirationTime": annotation_of(bundle, EXPIRES)}
    return {name: text for name, text in told.items() if text}


_Standing: TypeAlias = tuple[str, str, bool, bool]
"""Reason, message, whether it is ready, whether it is on the way to be."""


def _refused_standing(seen: PoolSeen) -> _Standing | None:
    refusal = _refusal(seen.pool)
    return ("NotSupported", refusal, False, False) if refusal else None


def _site_standing(seen: PoolSeen, lobby: Lobby | None) -> _Standing:
    """Of a pool whose workers somebody else runs: what keeps them out, or who is there."""
    if lobby is None:
        return "NoLobby", "External pools need the lobby: install the chart with lobby.enabled", False, False
    if seen.is_revoked:
        message = "its bundle and certificates are turned away; a new one is made once spec.external.revoked is false"
        return "Revoked", message, False, False
    if seen.secret(bundle_name(seen.pool)) is None:
        return "Enrolling", "its bundle is being made", False, True
    told = dig(seen.pool, "status", "lobby") or {}
    if not told.get("workers"):
        return "NoWorkers", f"nobody of its site is in the lobby at {lobby.address}", False, True
    refused = next(iter(told.get("refusals") or ()), None)
    if refused:
        words = f"job {refused.get('job')}: {refused.get('reason')}: {refused.get('message')}"
        return "RefusedBySite", words, True, False
    return "WorkersReady", f"{told.get('waiting', 0)} in the lobby, {told.get('working', 0)} at work", True, False


def _standing(using: tuple[Use, ...], wanted: int, ready: int) -> _Standing:
    if not using:
        return "Idle", "no job uses it now", True, False
    troubled = next((use for use in using if use.reason and use.ready < use.wanted), None)
    if troubled:
        return troubled.reason, f"job {troubled.job}: {troubled.message}", False, True
    if not wanted:
        return "Idle", f"{counted(len(using), 'job')} can do without its clients now", True, False
    words = f"{ready} of {counted(wanted, 'worker')} ready for {counted(len(using), 'job')}"
    if ready < wanted:
        return "WorkersStarting", words, False, True
    return "WorkersReady", words, True, False


def _refusal(pool: Object) -> str:
    document: Any = with_defaults(pool, schema_of("ClientPool"))
    problems = [f"{problem.path}: {problem.text}" for _, problem in unsupported_fields(document, "ClientPool")]
    slurm = dig(pool, "spec", "slurm") or {}
    lacking = lacking_in_pods(dig(slurm, "command", "type"), dig(slurm, "relay", "type"))
    return "; ".join([*problems, *([f"spec.slurm: {lacking}"] if lacking else [])])


def _conditions(seen: PoolSeen, holds: Mapping[str, bool], reason: str, message: str, now: float) -> Iterator[Object]:
    before: Iterable[Object] = dig(seen.pool, "status", "conditions") or ()
    for kind, is_true in holds.items():
        if kind == "Stalled" and not is_true:
            continue  # for kstatus and its like, which look for it only where it holds
        status = "True" if is_true else "False"
        old = next((one for one in before if one.get("type") == kind and one.get("status") == status), {})
        yield {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "observedGeneration": int(seen.pool["metadata"].get("generation", 0)),
            "lastTransitionTime": old.get("lastTransitionTime") or timestamp(now),
        }


def pool_transitions(seen: PoolSeen, after: Object) -> tuple[Transition, ...]:
    """What an Event is posted for: workers are in trouble, or are ready again after they were."""
    before, reason = str(dig(seen.pool, "status", "reason") or ""), str(after["reason"])
    if before == reason or (reason in _CALM and before in {"", *_CALM}):
        return ()
    return (Transition(reason, after["message"], is_warning=reason not in _CALM),)
