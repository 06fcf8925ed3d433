"""The status of a ClientPool: who works for its clients now, added up over the jobs that use it.

A sum of what the jobs' own statuses say, for people and for `kubectl wait`; nothing is decided by it. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from muster_operator.objects import Object, dig, is_going, timestamp
from muster_operator.status import Transition
from muster_spec.defaults import with_defaults
from muster_spec.schemas import schema_of
from muster_spec.support import unsupported_fields
from muster_spec.wording import counted

_OVER = frozenset({"Complete", "Failed", "Suspended"})
_CALM = frozenset({"Idle", "WorkersReady", "WorkersStarting"})


@dataclass(frozen=True, slots=True)
class PoolSeen:
    """A pool, and the jobs that name it."""

    pool: Object
    jobs: tuple[Object, ...]

    @property
    def name(self) -> str:
        return str(self.pool["metadata"]["name"])

    @property
    def clients(self) -> int:
        return int(self.pool["spec"]["clients"])


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


def pool_status(seen: PoolSeen, now: float) -> Object:
    """What is true of the pool. Of the status before it takes only the times at which conditions changed last."""
    using = uses(seen)
    wanted, ready = sum(use.wanted for use in using), sum(min(use.ready, use.wanted) for use in using)
    told = [use.connected for use in using if use.connected is not None]
    reason, message, is_ready, is_progressing = _standing(seen, using, wanted, ready)
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
    return status | ({"clients": clients} if told else {})


def _standing(seen: PoolSeen, using: tuple[Use, ...], wanted: int, ready: int) -> tuple[str, str, bool, bool]:
    """Reason, message, whether it is ready, whether it is on the way to be."""
    refusal = _refusal(seen.pool)
    if refusal:
        return "NotSupported", refusal, False, False
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
    return "; ".join(f"{problem.path}: {problem.text}" for _, problem in unsupported_fields(document, "ClientPool"))


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
