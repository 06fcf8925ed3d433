"""What keeps a job with SLURM pools from vanishing before somebody has seen that SLURM has nothing of it left. Pure.

A bridge that is told to end cancels what it has. One that is crashed, pending or on a lost node isn't there to be told,
and one that SLURM doesn't answer can't. So before a job has its first bridge it gets a finalizer, and when it has ended
or is to be deleted, each of its bridges is seen off: told to end, and where it doesn't get as far as exit code 0,
followed by a canceller. Then the finalizer goes; at the latest after a time, and at once where the user says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from muster_operator.actions import Action, Create, Delete, Patch, Plan, Tell
from muster_operator.build.bridge import BRIDGE, CANCELLER, bridge_name, build_canceller
from muster_operator.build.common import INPUTS, Context
from muster_operator.build.coordinator import SPEC_DIGEST
from muster_operator.build.environment import with_environment
from muster_operator.difference import difference
from muster_operator.objects import Key, Object, annotation_of, condition_of, dig, is_going, key_of, unix_of
from muster_operator.observed import Observed
from muster_operator.pinning import current_config, digest_of, read_pinned
from muster_operator.settings import Install
from muster_spec.types import ResolvedJob, ResolvedPool

FINALIZER = "muster.dev/slurm"
ABANDON = "muster.dev/abandon-slurm"
"""Annotation of a FederatedJob, "true": it is to be deleted, whatever SLURM has of it."""
GIVEN_UP_S = 300.0
"""How long after its deletion was asked for a job goes at the latest."""
_OTHERWISE = "workers leave some minutes after they lost their coordinator, and the pool's timeLimit ends them"


def is_held(job: Object) -> bool:
    """Whether our finalizer is there."""
    return FINALIZER in _finalizers(job)


def hold(seen: Observed, job: ResolvedJob) -> tuple[Patch, ...]:
    """What a job with SLURM pools needs before anything is made for it."""
    if is_held(seen.job) or not slurm_pools(job):
        return ()
    return (_with_finalizers(seen, [*_finalizers(seen.job), FINALIZER]),)


def slurm_pools(job: ResolvedJob) -> tuple[ResolvedPool, ...]:
    """The pools that have bridges."""
    return tuple(pool for pool in job.pools if pool.spec.type == "Slurm")


def bridge_keys(context: Context) -> frozenset[Key]:
    """Their Jobs."""
    return frozenset(Key("Job", bridge_name(context, pool)) for pool in slurm_pools(context.job))


def _release(seen: Observed) -> Patch:
    return _with_finalizers(seen, [one for one in _finalizers(seen.job) if one != FINALIZER])


def _finalizers(job: Object) -> list[str]:
    return dig(job, "metadata", "finalizers") or []


def _with_finalizers(seen: Observed, wanted: list[str]) -> Patch:
    """In the version that we saw, and no other: the list has others' finalizers, too."""
    metadata = {"finalizers": wanted, "resourceVersion": seen.job["metadata"]["resourceVersion"]}
    return Patch(key_of(seen.job), seen.uid, {"metadata": metadata})


# --- a job that is to be deleted --------------------------------------------------------------------------------------


def plan_departure(seen: Observed, install: Install, now: float) -> Plan:
    """What to do for a job whose deletion was asked for. Without our finalizer the garbage collector does it all."""
    if not is_held(seen.job):
        return Plan()
    if annotation_of(seen.job, ABANDON) == "true":
        message = f"{ABANDON} is true, so nobody cancels what SLURM may have of this job: {_OTHERWISE}"
        return Plan((Tell(seen.job, "SlurmAbandoned", message, is_warning=True), _release(seen)))
    until = (unix_of(dig(seen.job, "metadata", "deletionTimestamp")) or now) + GIVEN_UP_S
    config = current_config(seen)
    if config is None or key_of(config) not in seen.children:
        return _plan_without_parts(seen, until, now)
    context = Context(
        read_pinned(config),
        annotation_of(config, SPEC_DIGEST) or digest_of(read_pinned(config)),
        environment=install.environment,
        pull_secrets=install.pull_secrets,
    )
    farewell = see_off(seen, context, now)
    if farewell.waits_for and now >= until:
        late = f"in {GIVEN_UP_S:.0f} s nobody has seen that nothing is left"
        return Plan((_left(seen, farewell.waits_for, late), _release(seen)))
    return Plan((*_stop_others(seen, context), *farewell.actions), wake_at=min(until, farewell.look_at or until))


def _plan_without_parts(seen: Observed, until: float, now: float) -> Plan:
    """Somebody deletes the parts, too: a namespace that goes, a deletion in the foreground. Bridges that run are waited
    for, and there is nothing to make another of.
    """
    bridges = [pod for pod in seen.pods if dig(pod, "spec", "containers", 0, "name") == BRIDGE and _lives(pod, now)]
    if bridges and now < until:
        return Plan(wake_at=min(until, _grace_ends(bridges) or until))
    return Plan((_left(seen, (), "its parts are gone already, so nobody can look"), _release(seen)))


def _stop_others(seen: Observed, context: Context) -> Iterator[Delete]:
    bridges = bridge_keys(context)
    for key, job in sorted(seen.children.items()):
        if key.kind == "Job" and key not in bridges and not is_going(job):
            yield Delete(key, job["metadata"]["uid"], "the job is to be deleted")


# --- seeing bridges off -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Farewell:
    """What to do now; the pools that are waited for; and when a pod's time is up, of which no event may tell.

    With none left to wait for, the finalizer goes.
    """

    actions: tuple[Action, ...]
    waits_for: tuple[str, ...]
    look_at: float | None


@dataclass(frozen=True, slots=True)
class _Step:
    state: Literal["waiting", "clean", "failed"]
    actions: tuple[Action, ...] = ()


def see_off(seen: Observed, context: Context, now: float, *, stops: bool = True) -> Farewell:
    """The bridges of a job that has ended or is to be deleted. `stops`: those that live are told to end."""
    pools = slurm_pools(context.job)
    steps = {pool.name: _see_off(seen, context, pool, now, stops=stops) for pool in pools}
    waiting, failed = (
        tuple(name for name, step in steps.items() if step.state == state) for state in ("waiting", "failed")
    )
    if waiting:
        actions = tuple(action for step in steps.values() for action in step.actions)
        return Farewell(actions, waiting, _grace_ends([pod for pool in pools for pod in _living(seen, pool, now)]))
    told = (_left(seen, failed, "since its canceller has failed"),) if failed else ()
    return Farewell((*told, _release(seen)), (), None)


def _see_off(seen: Observed, context: Context, pool: ResolvedPool, now: float, *, stops: bool) -> _Step:
    canceller = with_environment(build_canceller(context, pool), context.environment)
    key, living = key_of(canceller), _living(seen, pool, now)
    have = seen.child("Job", key.name)
    if have is None:
        message = f"pool {pool.name}: no bridge has said that SLURM has nothing left, so a pod looks, and cancels"
        told = Tell(seen.job, "CancellingSlurm", message, is_warning=False)
        return _Step("waiting", () if living else (Create(canceller), told))
    if condition_of(have, "Complete"):
        return _Step("clean")  # exit code 0, of a bridge or a canceller: nothing is left
    if annotation_of(have, INPUTS) == CANCELLER:
        return _Step("failed" if condition_of(have, "Failed") else "waiting")
    if living or is_going(have):
        return _Step("waiting", tuple(difference(seen, {key: have}, frozenset({key}))) if stops else ())
    return _Step("waiting", (Delete(key, have["metadata"]["uid"], "a canceller takes its place"),))


def _living(seen: Observed, pool: ResolvedPool, now: float) -> list[Object]:
    return [pod for pod in seen.pods_of(None, pool.name) if _lives(pod, now)]


def _lives(pod: Object, now: float) -> bool:
    """Whether it runs, or may yet. One that is still there after its grace is on a node that nobody hears from."""
    if dig(pod, "status", "phase") in {"Succeeded", "Failed"}:
        return False
    grace_ends = _grace_ends([pod])
    return grace_ends is None or now < grace_ends


def _grace_ends(pods: Iterable[Object]) -> float | None:
    ends = (unix_of(dig(pod, "metadata", "deletionTimestamp")) for pod in pods)
    return min((at for at in ends if at is not None), default=None)


def _left(seen: Observed, pools: tuple[str, ...], why: str) -> Tell:
    where = f"pool {', '.join(pools)}: " if pools else ""
    message = f"{where}SLURM may have something of this job left, {why}: {_OTHERWISE}"
    return Tell(seen.job, "SlurmNotCancelled", message, is_warning=True)
