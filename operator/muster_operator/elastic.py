"""How many workers each pool of a job should have: within its bounds, as the job asks for clients, cheapest pool first.

Pure. More are wanted at once; fewer only once that has been so for a while, which an annotation of the worker Job
remembers. What changes is how many workers act for clients, never who the data holders are: the coordinator has leases
move. Pools that aren't pods, or whose clients each have a worker of their own, are counted and left alone; so are all
pools of a job for a queue, which would stop a Job that it has admitted if that grew, and let it wait for its turn.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from muster_operator.build.common import FEWER_SINCE, WORKER, has_queue
from muster_operator.diagnosis import is_ready, unschedulable_since
from muster_operator.objects import COMPONENT, Object, annotation_of, dig, label_of, unix_of
from muster_operator.observed import Observed
from muster_spec.pool_types import PoolSpec
from muster_spec.types import ResolvedJob, ResolvedPool

FEWER_AFTER_S = 300.0
STUCK_AFTER_S = 60.0
"""A pod that no node takes for so long is not counted on: a cluster that grows may still bring one."""


@dataclass(frozen=True, slots=True)
class Supply:
    """One pool, as far as its number of workers depends on it.

    `useful` clients may be asked to train, and `connected` ones are there, as far as the coordinator has told. `is_on`:
    it has workers now. `is_stuck`: not one of them runs, and none could be placed.
    """

    name: str
    spec: PoolSpec
    useful: int
    is_elastic: bool = True
    connected: int | None = None
    is_on: bool = False
    is_stuck: bool = False

    @property
    def is_optional(self) -> bool:
        """Whether the job may do without it."""
        return self.is_elastic and self.spec.workers.min == 0

    @property
    def price(self) -> tuple[float, float, float]:
        """By the money that a worker costs, then by how often it is taken away, then by the power it draws."""
        cost = self.spec.cost
        return (cost.per_hour, cost.interruptions_per_hour, cost.watts) if cost else (0.0, 0.0, 0.0)

    @property
    def here(self) -> int:
        """How many of its clients can be asked now."""
        return self.useful if self.connected is None else min(self.useful, self.connected)


@dataclass(frozen=True, slots=True)
class Elastic:
    """How many workers each pool is to have now; since when a pool has had too many; when to look again."""

    workers: dict[str, int] = field(default_factory=dict)
    fewer_since: dict[str, float] = field(default_factory=dict)
    look_at: float | None = None


def plan_elastic(seen: Observed, job: ResolvedJob, live: dict[str, PoolSpec], now: float) -> Elastic:
    """What is wanted of every pool. `live` are the pools with the bounds that they have by now."""
    supplies = [_supply(seen, pool, job, live[pool.name], now) for pool in job.pools]
    wanted = workers_wanted(supplies, clients_asked(job), lacks_clients=_lacks_clients(seen))
    workers, since, looks = dict[str, int](), dict[str, float](), list[float]()
    for supply in supplies:
        child = _worker_job(seen, supply)
        workers[supply.name] = _slowly(supply, wanted[supply.name], child, now)
        if workers[supply.name] > wanted[supply.name]:
            since[supply.name] = _fewer_since(child) or now
            looks.append(since[supply.name] + FEWER_AFTER_S)
        looks += [at for at in _stuck_moments(seen, child) if at > now]
    return Elastic(workers, since, min(looks, default=None))


# --- how many are wanted ----------------------------------------------------------------------------------------------


def clients_asked(job: ResolvedJob) -> int:
    """How many clients work at one time: the cohort with its over-selection, or all."""
    rounds, everybody = job.spec.rounds, sum(_useful(job, pool) for pool in job.pools)
    if rounds.mode == "Asynchronous" and rounds.asynchronous and rounds.asynchronous.concurrency:
        return min(rounds.asynchronous.concurrency, everybody)
    if rounds.cohort is None or job.spec.selection.type == "All":
        return everybody
    return min(math.ceil(rounds.cohort * (1 + rounds.overselect) - 1e-9), everybody)


def workers_wanted(supplies: Sequence[Supply], asked: int, *, lacks_clients: bool = False) -> dict[str, int]:
    """Of every pool, while `asked` clients work at one time. A pool that the job can do without has none.

    One that is off comes on when the others have too few clients, or the coordinator `lacks_clients`; one that is on
    stays so until enough clients of the others are really there.
    """
    used = [supply for supply in supplies if not supply.is_optional]
    for supply in sorted((one for one in supplies if one.is_optional), key=lambda one: one.price):
        offered = sum(one.here if supply.is_on else one.useful for one in used if not one.is_stuck)
        if supply.useful and (offered < asked or (lacks_clients and not supply.is_on)):
            used.append(supply)
    total = sum(supply.useful for supply in used) or 1
    wanted = {supply.name: _workers(supply, math.ceil(asked * supply.useful / total)) for supply in used}
    return {supply.name: wanted.get(supply.name, 0) for supply in supplies}


def _workers(supply: Supply, at_once: int) -> int:
    """Where a client's state outlives its worker, work moves to whoever is idle: a pool needs no more workers than it
    has clients in a cohort. Elsewhere each client is worked for by the worker that has it, whoever is asked.
    """
    spec, most = supply.spec, supply.spec.workers_wanted
    if not supply.is_elastic or not spec.state_outlives_workers:
        return most
    enough = math.ceil(min(at_once, supply.useful) / spec.workers.clients_per_worker)
    return min(max(enough, spec.workers.min, 1), most)


def _slowly(supply: Supply, wanted: int, child: Object | None, now: float) -> int:
    """More at once, fewer after a while; bounds that were changed hold at once."""
    if not supply.is_elastic or child is None:
        return wanted
    have = min(_parallelism(child), supply.spec.workers_wanted)
    since = _fewer_since(child)
    is_over = since is not None and now >= since + FEWER_AFTER_S
    return wanted if wanted >= have or is_over else have


# --- what there is ----------------------------------------------------------------------------------------------------


def _supply(seen: Observed, pool: ResolvedPool, job: ResolvedJob, live: PoolSpec, now: float) -> Supply:
    is_elastic = pool.spec.type == "Kubernetes" and not pool.spec.has_own_places and not has_queue(seen.labels)
    supply = Supply(pool.name, live, _useful(job, pool), is_elastic, _connected(seen, pool.name))
    child = _worker_job(seen, supply)
    if child is None:
        return supply
    return replace(supply, is_on=_parallelism(child) > 0, is_stuck=_is_stuck(seen, child, now))


def _useful(job: ResolvedJob, pool: ResolvedPool) -> int:
    label = job.spec.selection.label
    if label is None:
        return pool.spec.clients
    labels = label.match_labels.items()
    return sum(labels <= pool.spec.labels_of(index).items() for index in range(pool.spec.clients))


def _connected(seen: Observed, pool: str) -> int | None:
    told = dig(seen.job, "status", "training", "clients", "pools") or ()
    found = next((one.get("connected") for one in told if one.get("name") == pool), None)
    return int(found) if found is not None else None


def _lacks_clients(seen: Observed) -> bool:
    """Whether the coordinator has waited in vain for clients, though there are workers wherever some are wanted."""
    jobs = [job for job in seen.of_kind("Job") if label_of(job, COMPONENT) == WORKER and _parallelism(job)]
    told = dig(seen.job, "status", "training", "reason")
    return told == "NoQuorum" and all(dig(job, "status", "ready") for job in jobs)


def _worker_job(seen: Observed, supply: Supply) -> Object | None:
    """The one Job of a pool whose number of workers may change."""
    return next(iter(seen.workers_of(supply.name)), None) if supply.is_elastic else None


def _parallelism(job: Object) -> int:
    return int(dig(job, "spec", "parallelism") or 0)


def _fewer_since(job: Object | None) -> float | None:
    return unix_of(annotation_of(job, FEWER_SINCE)) if job else None


def _is_stuck(seen: Observed, child: Object, now: float) -> bool:
    if any(map(is_ready, seen.pods_of(child))):
        return False
    is_refused = child["metadata"]["uid"] in seen.refusals
    return is_refused or any(at <= now for at in _stuck_moments(seen, child))


def _stuck_moments(seen: Observed, child: Object | None) -> list[float]:
    """When each pod that no node takes will have waited long enough."""
    pods = seen.pods_of(child) if child else []
    return [since + STUCK_AFTER_S for pod in pods if (since := unschedulable_since(pod)) is not None]
