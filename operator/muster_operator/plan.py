"""The pure middle of the operator: what is observed and the time in; actions, the status and the next look out.

Every pass starts from what is there, and none looks at the status that an earlier one wrote.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from muster_operator.actions import Action, Delete, Plan
from muster_operator.build.children import build_children
from muster_operator.build.common import COORDINATOR, QUEUE_LABELS, Context
from muster_operator.build.memory import build_memory
from muster_operator.credentials import CERTIFICATE, credential_keys, next_renewal, plan_credentials
from muster_operator.diagnosis import is_closing, lacks_pods
from muster_operator.difference import difference, is_finished, leftovers
from muster_operator.elastic import Elastic, plan_elastic
from muster_operator.finalizer import bridge_keys, hold, is_held, plan_departure, see_off
from muster_operator.ledger import Ledger, advance, ledger_annotations, noticed, open_ledger, read_ledger, wished
from muster_operator.objects import COMPONENT, Key, Object, annotation_of, is_going, key_of, label_of
from muster_operator.observed import Observed
from muster_operator.pinning import Pinned, Refusal, pin
from muster_operator.settings import Install
from muster_operator.status import build_status, refused_status, waiting_status
from muster_operator.suspension import is_to_rest, last_moment
from muster_operator.verdict import deadline, has_begun, judge

LACKING_S = 5.0  # between two looks at a job whose pods aren't made: nothing is heard of that


def plan(seen: Observed, install: Install, now: float) -> Plan:
    """What to do for one job."""
    if is_going(seen.job):
        return plan_departure(seen, install, now)
    if closing := tuple(_let_go(seen)):
        return Plan(closing)
    pinned = pin(seen, install)
    if isinstance(pinned, Refusal):
        again = now + pinned.again_s if pinned.again_s is not None else None
        return Plan(status=refused_status(seen, pinned, now), wake_at=again)
    if pinned.memory is None and seen.is_suspended and not seen.of_kind("Job"):
        return Plan(status=waiting_status(seen, now))
    before = read_ledger(pinned.memory) if pinned.memory else open_ledger(now)
    before = noticed(before, has_begun=has_begun(seen, pinned), now=now)
    verdict = before.verdict or judge(seen, pinned, before, now)
    before = wished(before, is_suspended=seen.is_suspended, now=now)
    is_resting = is_to_rest(seen, pinned, before.suspending_since or now, now)
    ledger = advance(before, is_resting=is_resting, verdict=verdict, now=now)
    if ledger.ended is not None and _is_overdue(pinned, ledger, now):
        key = key_of(seen.job)
        return Plan((Delete(key, seen.uid, "ttlSecondsAfterFinished is over"),))
    elastic = plan_elastic(seen, pinned.job, pinned.pools, now)
    context = dataclasses.replace(
        _context(seen, pinned, elastic),
        environment=install.environment,
        pull_secrets=install.pull_secrets,
        worker_certificate_minutes=install.worker_certificate_minutes,
        routes=install.routes,
    )
    if ledger.verdict:
        actions = _end(seen, context, pinned, ledger, now)
    else:
        actions = iter(hold(seen, pinned.job) or _go_on(seen, context, pinned, ledger, now))
    status = build_status(seen, context, pinned, ledger, now)
    looks = (_next_look(seen, context, pinned, ledger, now), elastic.look_at if ledger.running_since else None)
    return Plan(tuple(actions), status, min((at for at in looks if at is not None), default=None))


def _let_go(seen: Observed) -> Iterator[Delete]:
    """In a namespace that is being deleted, Jobs that keep it there. Of an index, Kubernetes keeps a pod that failed
    until the next one is there; here there will be no next one, and Jobs go only once all pods have gone.
    """
    for key, job in sorted(seen.children.items()):
        is_kept = is_closing(seen.refusals.get(job["metadata"]["uid"], ""))
        if is_kept and key.kind == "Job" and "backoffLimitPerIndex" in job["spec"] and not is_going(job):
            yield Delete(key, job["metadata"]["uid"], "its namespace is being deleted")


def _context(seen: Observed, pinned: Pinned, elastic: Elastic) -> Context:
    queue = {name: value for name, value in seen.labels.items() if name.startswith(QUEUE_LABELS)}
    workers, since = elastic.workers, elastic.fewer_since
    context = Context(pinned.job, pinned.spec_digest, workers=workers, fewer_since=since, code=pinned.code, queue=queue)
    authority = seen.child("Secret", context.authority_name)
    if authority is None or is_going(authority):
        return context
    certificate = annotation_of(authority, CERTIFICATE)
    return dataclasses.replace(context, authority_id=authority["metadata"]["uid"], authority=certificate)


def _go_on(seen: Observed, context: Context, pinned: Pinned, ledger: Ledger, now: float) -> Iterator[Action]:
    """Everything is to be there, credentials before the pods that show them."""
    desired = build_children(context, pinned.text, ledger_annotations(ledger))
    yield from plan_credentials(seen, context, now)
    suspended = frozenset(key for key in desired if key.kind == "Job") if ledger.is_resting else frozenset[Key]()
    yield from difference(seen, desired, suspended)
    # Jobs wait for their authority: one that isn't there yet is no reason to stop them.
    waiting = () if context.authority_id else [key for key in seen.children if key.kind == "Job"]
    yield from leftovers(seen, {*desired, *credential_keys(context), *waiting})


def _end(seen: Observed, context: Context, pinned: Pinned, ledger: Ledger, now: float) -> Iterator[Action]:
    """What is there stays, but for pods as cleanPodPolicy says. Nothing is made again, except what remembers it.

    Bridges are seen off first.
    """
    policy = pinned.run_policy.clean_pod_policy
    memory = build_memory(context, pinned.text, ledger_annotations(ledger))
    yield from difference(seen, {key_of(each): each for each in memory}, frozenset())
    jobs = {key: job for key, job in seen.children.items() if key.kind == "Job" and not is_going(job)}
    if is_held(seen.job):
        yield from see_off(seen, context, now, stops=policy != "None").actions
        jobs = {key: job for key, job in jobs.items() if key not in bridge_keys(context)}
    if policy == "All":
        for key, job in sorted(jobs.items()):
            yield Delete(key, job["metadata"]["uid"], "cleanPodPolicy is All")
        return
    stopping = {key: job for key, job in jobs.items() if not is_finished(job) and _is_to_stop(job, policy)}
    yield from difference(seen, stopping, frozenset(stopping))


def _is_to_stop(job: Object, policy: str) -> bool:
    """A coordinator never outlives its job; workers may where the user wants to look at them."""
    return policy == "Running" or label_of(job, COMPONENT) == COORDINATOR


def _is_overdue(pinned: Pinned, ledger: Ledger, now: float) -> bool:
    ttl = pinned.run_policy.ttl_seconds_after_finished
    return ttl is not None and ledger.ended is not None and now >= ledger.ended + ttl


def _next_look(seen: Observed, context: Context, pinned: Pinned, ledger: Ledger, now: float) -> float | None:
    """The next moment at which time alone changes something."""
    ttl = pinned.run_policy.ttl_seconds_after_finished
    if ledger.ended is not None:
        goes_at = ledger.ended + ttl if ttl is not None else None
        look_at = see_off(seen, context, now).look_at if is_held(seen.job) else None
        return min((at for at in (goes_at, look_at) if at is not None), default=None)
    moments = [deadline(pinned, ledger, now), next_renewal(seen, context)]
    if ledger.suspending_since is not None and not ledger.is_resting:
        moments.append(last_moment(pinned, ledger.suspending_since))
    if any(lacks_pods(job, seen.pods_of(job)) for job in seen.of_kind("Job")):
        moments.append(now + LACKING_S)
    return min((at for at in moments if at is not None), default=None)
