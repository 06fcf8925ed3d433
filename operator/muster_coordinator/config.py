"""What the engine has to know of a job: numbers and names, with every choice already made.

`config_of` reads them off the resolved job once, when the coordinator starts; nothing below it looks at a manifest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from muster_coordinator.aggregation import AggregationNumber
from muster_coordinator.compression import codecs_of, parts_text, search_of
from muster_coordinator.deadlines import AdaptiveDeadline
from muster_coordinator.exclusion import Exclusion
from muster_coordinator.modes import Buffered, Mode, mode_of
from muster_coordinator.robust import least_updates
from muster_coordinator.selection import SELECTORS, Selector
from muster_coordinator.selectors import selector_of
from muster_coordinator.stepcontrol import StepControl, step_control_of
from muster_coordinator.stragglers import PartialWork
from muster_coordinator.weighing import Weighing, weighing_of
from muster_spec.clients import ClientId, client_id
from muster_spec.types import ResolvedJob
from muster_wire.adaptive import Search

GRACE_S = 10.0  # how long the first round waits for more clients after the last one came
LONGEST_GRACE_S = 60.0  # ... when they keep trickling in
WAIT_FOR_CLIENTS_S = 24 * 3600.0  # a queue of a supercomputer may be long; a day without clients is not a queue
CONTRIBUTION_DECAY = 0.9  # where nobody chooses by contributions: they are kept for people
ROUNDING = 1e-9  # 10 × (1 + 0.1) is 11 clients, though floating point says a little more


@dataclass(frozen=True, slots=True)
class PoolSize:
    """A pool, as far as the engine cares."""

    name: str
    clients: int
    trusted: bool


@dataclass(frozen=True, slots=True)
class LatePolicy:
    """Updates that come after their round are folded into the current one, discounted. Of a mode, the same of all."""

    max_staleness: int
    exponent: float


@dataclass(frozen=True, slots=True)
class Goal:
    """The metric that ends the job early once it is as good as `value`."""

    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """`cohort` and `asked` are counts of clients; `min_updates` is fastest-K; `late` is None for Discard.

    `candidates` are those who may be asked to train, where that is not everybody. Where rounds are not waited for,
    `mode` says how they close instead; `cohort` is then the updates of one, and `asked` who trains at one time.
    """

    seed: int
    epoch: int
    pools: tuple[PoolSize, ...]
    clients: tuple[ClientId, ...]  # all of them, by ordinal
    ordinals: Mapping[ClientId, int]
    total: int
    cohort: int
    asked: int  # the cohort and its over-selection
    min_updates: int | None
    deadline_s: float
    on_insufficient: Literal["Retry", "Extend", "Fail"]
    max_failed: int  # attempts in a row
    late: LatePolicy | None
    goal: Goal | None
    patience: int | None
    evaluate_every: int
    central: bool
    federated: bool
    evaluation_timeout_s: float
    compression: str  # in words
    is_auto: bool  # each client's uplink is chosen by its bandwidth
    initial_model: str | None  # path of a file; None: a trusted client makes it
    selector: Selector
    wait_for_clients_s: float = WAIT_FOR_CLIENTS_S
    waits_for_queues: bool = True  # even longer, while clients are known to be in the queue of a batch system
    active_deadline_s: float | None = None
    contribution_decay: float = CONTRIBUTION_DECAY  # what is left of a client's older contributions with each newer one
    candidates: frozenset[ClientId] | None = None
    deadline_control: AdaptiveDeadline | None = None
    partial: PartialWork | None = None  # for stragglers that stop in time
    inclusion_limit: float | None = None  # the most that a weight grows by for a client that is seldom counted
    exclusion: Exclusion | None = None
    weighing: Weighing = field(default_factory=Weighing)
    least: int = 1  # updates without which the way they are combined makes no sense
    step_control: StepControl | None = None  # where the number of local steps is learnt
    aggregation: AggregationNumber | None = None  # where each round chooses how many updates it waits for (FedPA)
    is_matched: bool = False  # whether layers are matched, a round each (FedMA)
    is_balanced: bool = False  # whether slow clients choose examples (local.sampling: FedBalancer)
    search: Search | None = None  # where the share of values that updates send is learnt: how that begins
    mode: Mode | None = None  # None: each round waits for its cohort

    @property
    def candidates_in_order(self) -> tuple[ClientId, ...]:
        """Who may be asked to train, by ordinal."""
        if self.candidates is None:
            return self.clients
        return tuple(client for client in self.clients if client in self.candidates)

    @property
    def minimum(self) -> int:
        """Updates without which a round fails at its deadline."""
        return max(self.min_updates or math.ceil(self.cohort / 2), self.least)

    @property
    def trusted(self) -> frozenset[str]:
        return frozenset(pool.name for pool in self.pools if pool.trusted)

    def is_trusted(self, client: ClientId) -> bool:
        return client.rpartition("/")[0] in self.trusted


def config_of(job: ResolvedJob, epoch: int) -> EngineConfig:
    """The engine's half of a job that validation let pass; `epoch` names this session of the coordinator."""
    rounds, evaluation, policy = job.spec.rounds, job.spec.evaluation, job.spec.run_policy
    clients = tuple(client_id(pool.name, index) for pool in job.pools for index in range(pool.spec.clients))
    candidates = _candidates(job)
    there = len(clients) if candidates is None else len(candidates)
    mode = mode_of(rounds, there, by_examples=job.spec.strategy.weighting.type == "Examples")
    at_once = rounds.asynchronous.concurrency if rounds.asynchronous else rounds.cohort
    everybody = at_once is None or job.spec.selection.type == "All"
    cohort = there if everybody else min(at_once or there, there)
    initial = job.spec.task.initial_model
    return EngineConfig(
        seed=job.spec.seed,
        epoch=epoch,
        pools=tuple(PoolSize(pool.name, pool.spec.clients, pool.spec.is_trusted) for pool in job.pools),
        clients=clients,
        ordinals={client: ordinal for ordinal, client in enumerate(clients)},
        total=rounds.total,
        cohort=mode.size if isinstance(mode, Buffered) else cohort,
        asked=min(math.ceil(cohort * (1 + rounds.overselect) - ROUNDING), there),
        min_updates=_min_updates(job, cohort),
        deadline_s=float(rounds.deadline_seconds),
        on_insufficient=rounds.on_insufficient,
        max_failed=max(rounds.max_failed_rounds, 1),
        late=_late_policy(job),
        goal=Goal(rounds.target.metric, rounds.target.value) if rounds.target else None,
        patience=rounds.patience,
        evaluate_every=evaluation.every,
        central=evaluation.central.type != "Never",
        federated=evaluation.federated,
        evaluation_timeout_s=float(evaluation.timeout_seconds),
        compression=codecs_of(job.spec.compression).text + parts_text(job.spec.compression.federated_dropout),
        is_auto=job.spec.compression.preset == "auto",
        search=search_of(job.spec.compression),
        initial_model=initial.file.path if initial.file else None,
        selector=_selector(job, everybody=cohort == there),
        wait_for_clients_s=float(policy.pre_running_deadline_seconds or WAIT_FOR_CLIENTS_S),
        waits_for_queues=policy.pre_running_deadline_seconds is None,
        active_deadline_s=policy.active_deadline_seconds,
        weighing=weighing_of(job.spec),
        least=least_updates(job.spec.robustness),
        candidates=candidates,
        exclusion=_exclusion(job),
        deadline_control=_deadline_control(job),
        partial=_partial(job),
        step_control=step_control_of(job.spec.local),
        mode=mode,
        aggregation=AggregationNumber(job.spec.strategy.fed_pa.min_share) if job.spec.strategy.fed_pa else None,
        is_matched=job.spec.strategy.type == "FedMA",
        is_balanced=job.spec.local.sampling.type == "FedBalancer",
        inclusion_limit=rounds.inclusion_correction.max_factor if rounds.inclusion_correction else None,
        contribution_decay=history.decay
        if (history := job.spec.selection.contribution_history)
        else CONTRIBUTION_DECAY,
    )


def _selector(job: ResolvedJob, *, everybody: bool) -> Selector:
    """With everybody in the cohort there is nothing to draw."""
    is_draw = job.spec.selection.type == "Random"
    return SELECTORS["All"] if everybody and is_draw else selector_of(job)


def _candidates(job: ResolvedJob) -> frozenset[ClientId] | None:
    """The clients with the labels that the job asks for; None where it asks for none."""
    if job.spec.selection.label is None:
        return None
    wanted = job.spec.selection.label.match_labels.items()
    return frozenset(
        client_id(pool.name, index)
        for pool in job.pools
        for index in range(pool.spec.clients)
        if wanted <= pool.spec.labels_of(index).items()
    )


def _exclusion(job: ResolvedJob) -> Exclusion | None:
    adaptive = job.spec.selection.adaptive
    return Exclusion(adaptive.exclusion_rounds, adaptive.max_exclusion_rounds) if adaptive else None


def _deadline_control(job: ResolvedJob) -> AdaptiveDeadline | None:
    adaptive, local = job.spec.rounds.deadline_control.adaptive, job.spec.local
    if adaptive is None:
        return None
    return AdaptiveDeadline(float(adaptive.min_seconds), local.epochs, job.spec.rounds.stragglers.type != "Drop")


def _partial(job: ResolvedJob) -> PartialWork | None:
    """FedNova counts steps by itself, so that weights by steps would count them twice."""
    local = job.spec.local
    is_partial = job.spec.rounds.stragglers.type in {"Partial", "LayerWise"}
    is_weighed = job.spec.strategy.type != "FedNova"
    return PartialWork(local.epochs, local.batch_size, local.max_steps, is_weighed) if is_partial else None


def _min_updates(job: ResolvedJob, cohort: int) -> int | None:
    partial = job.spec.strategy.fed_pa
    return job.spec.rounds.min_updates if partial is None else math.ceil(partial.min_share * cohort - ROUNDING)


def _late_policy(job: ResolvedJob) -> LatePolicy | None:
    """What becomes of late updates: as `rounds` says, or the strategy."""
    rounds = job.spec.rounds
    late = job.spec.strategy.fed_pa or rounds.late_updates.next_round or rounds.asynchronous or rounds.semi_synchronous
    return LatePolicy(late.max_staleness, late.exponent) if late else None
