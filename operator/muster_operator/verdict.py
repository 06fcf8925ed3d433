"""Whether a job has ended, and how: judged by what its coordinator left behind, by deadlines and by its workers."""

from __future__ import annotations

import json

from muster_operator.build.common import COORDINATOR, child_name
from muster_operator.diagnosis import STOPPED, Ending, ending_of, is_disrupted
from muster_operator.ledger import Ledger, Verdict
from muster_operator.objects import Object, condition_of, dig
from muster_operator.observed import Observed
from muster_operator.pinning import Pinned

# The coordinator's exit codes, as muster_coordinator.process gives them.
_FAILED, _BAD_INPUT, _FENCED = 1, 2, 3


def judge(seen: Observed, pinned: Pinned, ledger: Ledger, now: float) -> Verdict | None:
    """The verdict on a job that has none yet."""
    job = seen.child("Job", child_name(seen.name, COORDINATOR))
    if job:
        verdict = _judge_coordinator(seen, pinned, job)
        if verdict:
            return verdict
    return _judge_deadline(pinned, ledger, now) or _judge_workers(seen, pinned)


def deadline(pinned: Pinned, ledger: Ledger, now: float) -> float | None:
    """When the job's time is up, if it goes on as it does. None without a limit, and while the clock stands still."""
    limits = [limit for limit in (pinned.run_policy.active_deadline_seconds, _patience(pinned, ledger)) if limit]
    return now + min(limits) - ledger.active_s(now) if limits and ledger.running_since is not None else None


def has_begun(seen: Observed, pinned: Pinned) -> bool:
    """Whether a coordinator that may only take so long to start is seen to run, or to have run: by its pod, or by what
    it told of its training while nobody looked at its pods. Without a limit nobody asks.
    """
    if pinned.run_policy.pre_running_deadline_seconds is None:
        return False
    job = seen.child("Job", child_name(seen.name, COORDINATOR))
    pods = seen.pods_of(job) if job else []
    is_seen = any(dig(pod, "status", "phase") in {"Running", "Succeeded", "Failed"} for pod in pods)
    return is_seen or bool(dig(seen.job, "status", "training"))


def _patience(pinned: Pinned, ledger: Ledger) -> int | None:
    """preRunningDeadlineSeconds, until the coordinator has begun: from then on it counts by itself."""
    return None if ledger.begun is not None else pinned.run_policy.pre_running_deadline_seconds


def _judge_deadline(pinned: Pinned, ledger: Ledger, now: float) -> Verdict | None:
    at = deadline(pinned, ledger, now)
    if at is None or now < at:
        return None
    limit, patience = pinned.run_policy.active_deadline_seconds, _patience(pinned, ledger)
    if patience is not None and ledger.active_s(now) >= patience:
        message = f"the coordinator didn't start within the {patience} s of preRunningDeadlineSeconds"
        return Verdict("Failed", "NotStarted", message)
    return Verdict("Failed", "DeadlineExceeded", f"the job ran for {limit} s, all that activeDeadlineSeconds gives it")


def _judge_coordinator(seen: Observed, pinned: Pinned, job: Object) -> Verdict | None:
    pods = seen.pods_of(job)
    if condition_of(job, "Complete"):
        return Verdict("Complete", "Completed", _last_words(pods) or "all rounds are done")
    for pod in pods:
        ending = ending_of(pod)
        if ending and not is_disrupted(pod) and ending.code in {_FAILED, _BAD_INPUT}:
            return _own_failure(ending)
    failures = [ending for pod in pods if (ending := ending_of(pod)) and is_fault(pod, ending)]
    limit = pinned.run_policy.backoff_limit
    if len(failures) > limit:
        message = (
            f"the coordinator failed {len(failures)} times (backoffLimit is {limit}), at last: {_plain(failures[-1])}"
        )
        return Verdict("Failed", "BackoffLimitExceeded", message[:1024])
    failed = condition_of(job, "Failed")
    return Verdict("Failed", "CoordinatorFailed", str(failed.get("message", ""))[:1024]) if failed else None


def is_fault(pod: Object, ending: Ending) -> bool:
    """Whether a pod's end counts as a failure: not where it was told to go, or another coordinator was faster."""
    return ending.code not in {0, _FENCED, STOPPED} and not is_disrupted(pod)


def _own_failure(ending: Ending) -> Verdict:
    """The coordinator itself says that the job has failed, or that it can't work with what it was given."""
    told = _finished(ending.message)
    if ending.code == _FAILED and told:
        return Verdict("Failed", str(told.get("reason") or "TrainingFailed"), str(told.get("message") or "")[:1024])
    reason = "TrainingFailed" if ending.code == _FAILED else "CoordinatorRefused"
    return Verdict("Failed", reason, _plain(ending))


def _plain(ending: Ending) -> str:
    last = ending.message.splitlines()[-1] if ending.message else ending.reason
    return f"exit code {ending.code}: {last}"[:1024]


def _last_words(pods: list[Object]) -> str:
    """What the coordinator said of the job's end."""
    for pod in reversed(pods):
        ending = ending_of(pod)
        told = _finished(ending.message) if ending else None
        if told:
            return str(told.get("message") or "")[:1024]
    return ""


def _finished(log: str) -> dict[str, object] | None:
    """The event `finished` among the last lines of the coordinator's output, which the kubelet keeps in the status."""
    for line in reversed(log.splitlines()):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("event") == "finished":
            return event
    return None


def _judge_workers(seen: Observed, pinned: Pinned) -> Verdict | None:
    """With every pool's workers given up, nobody will ever train."""
    jobs = {pool.name: seen.workers_of(pool.name) for pool in pinned.job.pools}
    if not all(of_pool and all(condition_of(job, "Failed") for job in of_pool) for of_pool in jobs.values()):
        return None
    last = [of_pool[-1] for of_pool in jobs.values()]
    message = "; ".join(
        f"{job['metadata']['name']}: {(condition_of(job, 'Failed') or {}).get('message', '')}" for job in last
    )
    return Verdict("Failed", "WorkersFailed", f"the workers of every pool have given up: {message}"[:1024])
