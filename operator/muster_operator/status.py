"""The part of a job's status that the operator writes: all but `training`, which is the coordinator's.

It is told from what is observed, each time anew. Of the status before it takes only the times at which conditions
changed last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from muster_operator.build.common import CLIENT, Context
from muster_operator.build.coordinator import checkpoint_location
from muster_operator.diagnosis import Trouble, ending_of, first_trouble, is_ready, refusal, refused_pods
from muster_operator.difference import is_queued
from muster_operator.ledger import Ledger
from muster_operator.objects import Object, condition_of, dig, is_going, label_of, timestamp
from muster_operator.observed import Observed
from muster_operator.pinning import Pinned, Refusal
from muster_operator.sites import site_entry
from muster_spec.types import ResolvedPool
from muster_spec.wording import counted

NAME_TAKEN = "NameTaken"
WARNINGS = frozenset({"Stalled", "Failed"})


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a job stands. `is_stalled`: somebody has to do something."""

    phase: str
    reason: str
    message: str
    is_stalled: bool = False


def refused_status(seen: Observed, refusal: Refusal, now: float) -> Object:
    """Of a job that can't start as it is."""
    return _status(seen, Standing("Pending", refusal.reason, refusal.message[:1024], is_stalled=True), now)


def waiting_status(seen: Observed, now: float) -> Object:
    """Of a job that was suspended before it started."""
    return _status(seen, Standing("Suspended", "Suspended", "spec.suspend is true; nothing was started yet"), now)


def build_status(seen: Observed, context: Context, pinned: Pinned, ledger: Ledger, now: float) -> Object:
    """Of a job that was started."""
    pools = list(_pools(seen, context, pinned, is_over=ledger.running_since is None))
    coordinator = seen.child("Job", context.coordinator_name)
    pods = seen.pods_of(coordinator) if coordinator else []
    whole = _status(seen, _standing(seen, context, ledger, pods, pools), now)
    whole |= {
        "startTime": timestamp(ledger.started),
        "specDigest": context.spec_digest,
        "restarts": max(0, len(pods) - 1),
        "coordinator": _coordinator(seen, context, pods),
        "pools": pools,
    }
    if context.external and context.authority:
        whole["coordinator"] |= {"certificateAuthority": context.authority}
    return whole | ({"completionTime": timestamp(ledger.ended)} if ledger.ended is not None else {})


# --- where it stands --------------------------------------------------------------------------------------------------


def _standing(seen: Observed, context: Context, ledger: Ledger, pods: list[Object], pools: list[Object]) -> Standing:
    if ledger.verdict:
        return Standing(ledger.verdict.outcome, ledger.verdict.reason, ledger.verdict.message)
    if ledger.is_resting:
        return Standing("Suspended", "Suspended", f"spec.suspend is true{_how_far(seen)}; the checkpoint is kept")
    if ledger.suspending_since is not None:
        return Standing("Running", "Suspending", "spec.suspend is true: the round that is open is ended first")
    active = [pod for pod in pods if not ending_of(pod) and not is_going(pod)]
    if not any(map(is_ready, active)):
        return _starting(seen, context, active, pods)
    running = _running(pools)
    return (_held_up(seen) or running) if running.reason == "Running" else running


def _held_up(seen: Observed) -> Standing | None:
    """What the coordinator says that its rounds wait for, where nothing is wrong with the pods."""
    told = dig(seen.job, "status", "training") or {}
    return Standing("Running", str(told["reason"]), str(told.get("message") or "")) if told.get("reason") else None


def _how_far(seen: Observed) -> str:
    """What the coordinator has told of its rounds, for people."""
    done = dig(seen.job, "status", "training", "round")
    total = dig(seen.job, "spec", "rounds", "total")
    return f": {counted(done, 'round')} of {total} done" if isinstance(done, int) else ""


def _starting(seen: Observed, context: Context, active: list[Object], pods: list[Object]) -> Standing:
    """Of a job whose coordinator doesn't run."""
    if seen.strangers:
        names = ", ".join(map(str, sorted(seen.strangers)))
        return Standing("Pending", NAME_TAKEN, f"what is left of an older job has to go first: {names}"[:1024])
    job = seen.child("Job", context.coordinator_name)
    if job is not None and is_queued(job):
        message = f"Job {context.coordinator_name} is suspended by somebody else, such as a queue"
        return Standing("Pending", "Queued", message)
    trouble = first_trouble(active) or (None if active else _refused(seen, job) or first_trouble(pods))
    if trouble:
        return Standing("Starting", f"Coordinator{trouble.reason}", f"the coordinator's {trouble.message}"[:1024])
    if active:
        return Standing("Starting", "CoordinatorStarting", "the coordinator's pod is starting")
    if any((ending := ending_of(pod)) and ending.code == 0 for pod in pods):
        return Standing("Running", "Finishing", "the coordinator has ended well; its Job is about to say so")
    return Standing("Pending", "Creating", "the job's parts are being created")


def _running(pools: list[Object]) -> Standing:
    ready, wanted = (sum(pool[name] for pool in pools) for name in ("workersReady", "workersWanted"))
    troubled = next((pool for pool in pools if pool["workersReady"] < pool["workersWanted"] and "reason" in pool), None)
    if troubled:
        phase = "Running" if ready else "Starting"
        return Standing(phase, troubled["reason"], f"pool {troubled['name']}: {troubled['message']}"[:1024])
    if not ready:
        return Standing(
            "Starting", "WorkersStarting", f"the coordinator is ready and waits for {counted(wanted, 'worker')}"
        )
    return Standing("Running", "Running", f"{ready} of {wanted} workers are ready")


# --- its parts --------------------------------------------------------------------------------------------------------


def _pools(seen: Observed, context: Context, pinned: Pinned, *, is_over: bool) -> Iterator[Object]:
    for pool in pinned.job.pools:
        if pool.spec.type == "External":
            workers = 0 if is_over else context.workers[pool.name]
            yield site_entry(seen, context, pool, workers, pinned.drift.get(pool.name))
            continue
        jobs = seen.workers_of(pool.name)
        entry: Object = {
            "name": pool.name,
            "type": pool.spec.type,
            "clients": pool.spec.clients,
            "workersWanted": 0 if is_over else _pods_wanted(context, pool),
            "workersReady": sum(int(dig(job, "status", "ready") or 0) for job in jobs),
        }
        trouble = _pool_trouble(seen, pinned, pool.name, jobs)
        yield entry | ({"reason": trouble.reason, "message": trouble.message[:1024]} if trouble else {})


def _pods_wanted(context: Context, pool: ResolvedPool) -> int:
    """The workers; where these are SLURM's, the one bridge to them."""
    return 1 if pool.spec.type == "Slurm" else context.workers[pool.name]


def _pool_trouble(seen: Observed, pinned: Pinned, pool: str, jobs: Sequence[Object]) -> Trouble | None:
    """The gravest trouble of a pool. What became of one Job is told before what keeps another's pods waiting."""
    for job in jobs:
        failed = condition_of(job, "Failed")
        if failed:
            words = failed.get("message") or "its workers have given up"
            client = label_of(job, CLIENT)
            return Trouble("WorkersFailed", f"client {client}: {words}" if client else str(words))
    if any(map(is_queued, jobs)):
        return Trouble("Queued", "its worker Job is suspended by somebody else, such as a queue")
    troubles = (_refused(seen, job) or first_trouble(_of_interest(seen.pods_of(job))) for job in jobs)
    drift = pinned.drift.get(pool)
    return next(filter(None, troubles), Trouble("SpecDrift", drift) if drift else None)


def _refused(seen: Observed, job: Object | None) -> Trouble | None:
    words = seen.refusals.get(job["metadata"]["uid"]) if job else None
    return refused_pods(words) if words else None


def _of_interest(pods: Sequence[Object]) -> list[Object]:
    """The newest pod of each index: what went wrong before it is history."""
    newest = {dig(pod, "metadata", "annotations", "batch.kubernetes.io/job-completion-index"): pod for pod in pods}
    return [pod for pod in pods if pod in newest.values() and not is_ready(pod)]


def _coordinator(seen: Observed, context: Context, pods: list[Object]) -> Object:
    current = [pod for pod in pods if not is_going(pod)] or pods
    name = {"podName": current[-1]["metadata"]["name"]} if current else {}
    return {"endpoint": endpoint(seen, context), "checkpointLocation": checkpoint_location(context)} | name


def endpoint(seen: Observed, context: Context) -> str:
    """Where clients dial in: what the user says, else the load balancer's address, else the Service's name."""
    coordinator = context.job.spec.coordinator
    given = coordinator.service.address if coordinator and coordinator.service else None
    if given:
        return given if ":" in given else f"{given}:{context.service_port}"
    service = seen.child("Service", context.coordinator_name) or {}
    balancer = dig(service, "status", "loadBalancer", "ingress", 0) or {}
    host = balancer.get("hostname") or balancer.get("ip") or context.service_host
    return f"{host}:{context.service_port}"


# --- conditions -------------------------------------------------------------------------------------------------------


def _status(seen: Observed, standing: Standing, now: float) -> Object:
    return {
        "observedGeneration": seen.generation,
        "phase": standing.phase,
        "reason": standing.reason[:128],
        "message": standing.message[:1024],
        "conditions": list(_conditions(seen, standing, now)),
    }


def _conditions(seen: Observed, standing: Standing, now: float) -> Iterator[Object]:
    """Running and Suspended always; the end once it is there. Reconciling and Stalled are for kstatus and its like."""
    before = {one.get("type"): one for one in dig(seen.job, "status", "conditions") or ()}
    holds = {
        "Running": standing.phase == "Running",
        "Suspended": standing.phase == "Suspended",
        "Complete": standing.phase == "Complete",
        "Failed": standing.phase == "Failed",
        "Reconciling": standing.phase in {"Pending", "Starting"} and not standing.is_stalled,
        "Stalled": standing.phase == "Failed" or standing.is_stalled,
    }
    for kind, is_true in holds.items():
        if is_true or kind in {"Running", "Suspended"}:
            status = "True" if is_true else "False"
            old = before.get(kind, {})
            changed = old.get("lastTransitionTime") if old.get("status") == status else None
            yield {
                "type": kind,
                "status": status,
                "reason": standing.reason,
                "message": standing.message,
                "observedGeneration": seen.generation,
                "lastTransitionTime": changed or timestamp(now),
            }


def with_refused(status: Object, refused: Sequence[str]) -> Object:
    """The status of a job some of whose parts the API server won't have: a quota, a policy, a bad value."""
    if not refused:
        return status
    message = f"the API server refused {'; '.join(refused)}"
    return _told(status, refusal(message, "Refused"), message)


def with_taken(status: Object, taken: Sequence[str], whose: str = "job") -> Object:
    """The status of a job or pool some of whose parts can't be made: somebody else's objects are called the same."""
    if not taken:
        return status
    names = ", ".join(taken)
    return _told(
        status,
        NAME_TAKEN,
        f"{names}: there already, and not the {whose}'s; remove it, or give the {whose} another name",
    )


def _told(status: Object, reason: str, message: str) -> Object:
    told = {"reason": reason, "message": message[:1024]}
    return status | told | {"conditions": [condition | told for condition in status["conditions"]]}


# --- transitions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transition:
    """A change that is worth an Event."""

    reason: str
    message: str
    is_warning: bool


def transitions(before: Object, after: Object) -> tuple[Transition, ...]:
    """What an Event is posted for: the job's or a pool's reason has become another."""
    found = []
    if (before.get("phase"), before.get("reason")) != (after["phase"], after["reason"]):
        is_warning = any(one["type"] in WARNINGS for one in after["conditions"]) or _is_trouble(after["reason"])
        found.append(Transition(after["reason"], after["message"], is_warning))
    found += _scaled(before, after)
    old = {pool.get("name"): pool.get("reason") for pool in before.get("pools") or ()}
    for pool in after.get("pools", ()):
        reason = pool.get("reason")
        if reason and reason not in {old.get(pool["name"]), after["reason"]}:
            found.append(Transition(reason, f"pool {pool['name']}: {pool['message']}"[:1024], is_warning=True))
    return tuple(found)


def _scaled(before: Object, after: Object) -> Iterator[Transition]:
    """Pools that are to have more or fewer workers than a moment ago, while the job goes on."""
    if before.get("phase") not in _GOES_ON or after["phase"] not in _GOES_ON:
        return
    had = {pool.get("name"): pool.get("workersWanted") for pool in before.get("pools") or ()}
    for pool in after.get("pools", ()):
        count, wanted = had.get(pool["name"]), pool.get("workersWanted")
        if None not in {count, wanted} and count != wanted:
            message = f"pool {pool['name']}: {counted(wanted, 'worker')} instead of {count}"
            yield Transition("WorkersScaled", message, is_warning=False)


_GOES_ON = frozenset({"Starting", "Running"})
_CALM = frozenset(
    {
        "Creating",
        "CoordinatorStarting",
        "WorkersStarting",
        "Running",
        "Finishing",
        "Suspending",
        "Suspended",
        "Completed",
        "Queued",
    }
)


def _is_trouble(reason: str) -> bool:
    return reason not in _CALM
