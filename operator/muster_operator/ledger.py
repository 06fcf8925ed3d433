"""What has to be remembered of a job, and can't be seen in the cluster: how long it has run, and how it ended.

It is kept in annotations of the ConfigMap that holds the job's pinned spec, and of its copy (build/memory.py), so the
plan never has to read the status that it wrote itself: a status that is lost, late or edited changes nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from muster_operator.objects import Object, annotation_of, timestamp, unix_of

_PREFIX = "operator.muster.dev"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job ended, and why, for programs and for people."""

    outcome: Literal["Complete", "Failed"]
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """Times in unix seconds, whole ones. `running_since` is None while the job rests, and once it ended.

    `suspending_since` is when the wish to suspend it was first seen; `begun`, of a job that may only wait for so long,
    when its coordinator was first seen to run.
    """

    started: float
    ran_s: float = 0.0
    running_since: float | None = None
    verdict: Verdict | None = None
    ended: float | None = None
    suspending_since: float | None = None
    begun: float | None = None

    @property
    def is_resting(self) -> bool:
        """Whether it was suspended, and has come to rest."""
        return self.verdict is None and self.running_since is None

    def active_s(self, now: float) -> float:
        """Seconds that the job has run, suspended time not counted."""
        return self.ran_s + (max(0.0, now - self.running_since) if self.running_since is not None else 0.0)

    def stopped(self, now: float) -> Ledger:
        """The clock stands still."""
        return dataclasses.replace(self, ran_s=self.active_s(now), running_since=None)


def open_ledger(now: float) -> Ledger:
    """The ledger of a job that starts now."""
    return Ledger(started=float(int(now)), running_since=float(int(now)))


def wished(ledger: Ledger, *, is_suspended: bool, now: float) -> Ledger:
    """The ledger with when it was first seen that the job is to be suspended."""
    if ledger.verdict:
        return ledger
    since = ledger.suspending_since if ledger.suspending_since is not None else float(int(now))
    return dataclasses.replace(ledger, suspending_since=since if is_suspended else None)


def noticed(ledger: Ledger, *, has_begun: bool, now: float) -> Ledger:
    """The ledger with when the coordinator was first seen to run. It stays begun, whatever becomes of its pods."""
    if ledger.verdict or ledger.begun is not None or not has_begun:
        return ledger
    return dataclasses.replace(ledger, begun=float(int(now)))


def advance(ledger: Ledger, *, is_resting: bool, verdict: Verdict | None, now: float) -> Ledger:
    """The ledger after what was seen now. An entry, once made, stays."""
    now = float(int(now))
    if ledger.verdict:
        return ledger
    if verdict:
        return dataclasses.replace(ledger.stopped(now), verdict=verdict, ended=now)
    if is_resting:
        return ledger.stopped(now)
    return ledger if ledger.running_since is not None else dataclasses.replace(ledger, running_since=now)


def read_ledger(config: Object) -> Ledger:
    """What a job's ConfigMap says, or its copy. One without entries was started when it was made."""
    made = unix_of(config["metadata"].get("creationTimestamp")) or 0.0
    started = unix_of(annotation_of(config, f"{_PREFIX}/started")) or made
    ran = annotation_of(config, f"{_PREFIX}/ran-seconds")
    outcome = annotation_of(config, f"{_PREFIX}/outcome")
    return Ledger(
        started=started,
        ran_s=float(ran) if ran.isdecimal() else 0.0,
        running_since=unix_of(annotation_of(config, f"{_PREFIX}/running-since")),
        verdict=_verdict(config, "Complete" if outcome == "Complete" else "Failed") if outcome else None,
        ended=unix_of(annotation_of(config, f"{_PREFIX}/ended")),
        suspending_since=unix_of(annotation_of(config, f"{_PREFIX}/suspending-since")),
        begun=unix_of(annotation_of(config, f"{_PREFIX}/begun")),
    )


def _verdict(config: Object, outcome: Literal["Complete", "Failed"]) -> Verdict:
    reason, message = (annotation_of(config, f"{_PREFIX}/{name}") for name in ("reason", "message"))
    return Verdict(outcome, reason, message)


def ledger_annotations(ledger: Ledger) -> dict[str, str]:
    """The same as annotations."""
    times = {
        "started": ledger.started,
        "running-since": ledger.running_since,
        "ended": ledger.ended,
        "suspending-since": ledger.suspending_since,
        "begun": ledger.begun,
    }
    entries = {name: timestamp(at) for name, at in times.items() if at is not None}
    entries["ran-seconds"] = str(int(ledger.ran_s))
    if ledger.verdict:
        entries |= {"outcome": ledger.verdict.outcome, "reason": ledger.verdict.reason}
        entries |= {"message": ledger.verdict.message}
    return {f"{_PREFIX}/{name}": text for name, text in entries.items() if text}
