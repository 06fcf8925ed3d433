"""What one attempt at a round is to be: whom to ask, for how long, and how much each update will count.

Made once, stored before anybody is asked, and never thought over: a coordinator that is restarted finds it all in the
plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import repeat

import msgspec
import numpy as np

from muster_coordinator.aggregation import Number
from muster_coordinator.assignments import training_id, training_seed
from muster_coordinator.balancing import loss_threshold
from muster_coordinator.compass import ALONE, Speed, assign
from muster_coordinator.deadlines import Deadline, choose_deadline
from muster_coordinator.gathering import Ready, known
from muster_coordinator.inclusion import inclusion_factors
from muster_coordinator.modes import Grouped
from muster_coordinator.records import PlannedClient, RoundPlan, Uplink
from muster_coordinator.selection import Choice, Request
from muster_coordinator.sparsity import uplink_of
from muster_coordinator.state import Gathering, JobState
from muster_coordinator.uplink import choose_uplink
from muster_spec.clients import ClientId


def build_plan(state: JobState, gathering: Gathering, ready: Ready) -> RoundPlan:
    """Whom to ask for what in this attempt."""
    if gathering.round == 0:
        choice = Choice(ready.eligible[0], "first model: a client of a trusted pool")
        return _plan(state, gathering, (choice,), close_at=1)
    config = state.config
    request = Request(
        config.seed, gathering.round, gathering.attempt, config.asked, ready.eligible, known(state), config.ordinals
    )
    choices = config.selector(request)
    number = _number(state, request, [choice.client for choice in choices])
    close_at = max(min(number.updates, len(choices)), config.least)
    plan = _plan(state, gathering, choices, close_at)
    deadline = _deadline(state, request, plan)
    return msgspec.structs.replace(
        plan, deadline_s=deadline.seconds, deadline_reason=deadline.why, number_reason=number.why
    )


def _number(state: JobState, request: Request, cohort: list[ClientId]) -> Number:
    """How many updates close the round."""
    config = state.config
    if config.aggregation is None:
        return Number(config.min_updates or config.cohort, "")
    times = replace(request, eligible=cohort).rows["elapsed_s"]
    return config.aggregation.choose(times, min(config.cohort, len(cohort)), state.progress.noise)


def build_rolling(
    state: JobState, gathering: Gathering, eligible: tuple[ClientId, ...], room: int, now: float
) -> RoundPlan:
    """Whom to ask in a round that nobody waits for: as many of the idle as there is room for, or nobody.

    `gathering.attempt` is which of the round's plans this is.
    """
    config = state.config
    wanted = min(room, len(eligible))
    request = Request(config.seed, gathering.round, gathering.attempt, wanted, eligible, known(state), config.ordinals)
    choices = config.selector(request)[:wanted] if wanted > 0 else ()
    close_at = 1 if isinstance(config.mode, Grouped) else config.cohort
    plan = _plan(state, gathering, choices, close_at)
    return msgspec.structs.replace(plan, cohort=_with_stints(state, plan.cohort, now))


def _with_stints(state: JobState, cohort: tuple[PlannedClient, ...], now: float) -> tuple[PlannedClient, ...]:
    """The same with as many steps for each client as let it arrive with others, in mode SemiSynchronous."""
    if not isinstance(state.config.mode, Grouped) or not cohort:
        return cohort
    clients = [planned.client for planned in cohort]
    numbers = [work.stint.group for work in state.owed.values() if work.stint] + [*state.groups]
    speeds = dict(zip(clients, _speeds(state, clients), strict=True))
    mode, within_s = state.config.mode, state.config.deadline_s / state.config.mode.lateness
    stints = assign(speeds, state.groups, mode, max(numbers, default=ALONE) + 1, now, within_s)
    return tuple(msgspec.structs.replace(each, stint=stints[each.client]) for each in cohort)


def _speeds(state: JobState, clients: list[ClientId]) -> Iterable[Speed | None]:
    """How fast they were so far; None of those that nothing is known of."""
    rows = known(state).rows_of(clients, state.config.ordinals)
    rest = np.nan_to_num(rows["fetch_s"]) + np.nan_to_num(rows["upload_s"])
    for step_s, rest_s in zip(rows["step_s"].tolist(), rest.tolist(), strict=True):
        yield None if math.isnan(step_s) else Speed(step_s, rest_s)


def _deadline(state: JobState, request: Request, plan: RoundPlan) -> Deadline:
    """The job's own for whoever tries again."""
    config = state.config
    if config.deadline_control is None or plan.attempt:
        return Deadline(config.deadline_s, "")
    cohort = replace(request, eligible=[planned.client for planned in plan.cohort]).rows
    control, rounds = config.deadline_control, request.histories.rounds
    return choose_deadline(control, config.deadline_s, cohort, request.everybody, rounds, plan.minimum)


def _plan(state: JobState, gathering: Gathering, choices: tuple[Choice, ...], close_at: int) -> RoundPlan:
    config = state.config
    return RoundPlan(
        round=gathering.round,
        attempt=gathering.attempt,
        base=state.progress.model,
        cohort=_cohort(state, gathering, choices),
        close_at=close_at,
        minimum=min(config.minimum, close_at),
        deadline_s=config.deadline_s,
        epoch=config.epoch,
        absences=state.absences,
        steps=_steps(state) if gathering.round else 0,
        loss_threshold=loss_threshold(state.progress.histories.rounds) if config.is_balanced else None,
    )


def _steps(state: JobState) -> int:
    """That each client takes; 0: as the job says."""
    control = state.config.step_control
    return (state.progress.pace or control.first).steps if control else 0


def _cohort(state: JobState, gathering: Gathering, choices: tuple[Choice, ...]) -> tuple[PlannedClient, ...]:
    """The choices as assignments, each with what its update's weight is multiplied by."""
    factors = _factors(state, [choice.client for choice in choices]) if gathering.round else repeat(1.0)
    return tuple(_planned(state, gathering, *each) for each in zip(choices, factors, strict=False))


def _factors(state: JobState, clients: list[ClientId]) -> Iterable[float]:
    config, histories = state.config, state.progress.histories
    if config.inclusion_limit is None or not len(histories.table):
        return repeat(1.0)
    asked = config.candidates_in_order
    used = histories.rows_of(asked, config.ordinals)["used"].astype(float)
    factors = inclusion_factors(used, len(histories.rounds), config.inclusion_limit).tolist()
    by_client = dict(zip(asked, factors, strict=True))
    return [round(by_client[client], 6) for client in clients]


def _planned(state: JobState, gathering: Gathering, choice: Choice, factor: float) -> PlannedClient:
    number, config = gathering.round, state.config
    seed = training_seed(config.seed, config.ordinals[choice.client], number) if number else config.seed
    assignment = training_id(number, gathering.attempt, choice.client)
    planned = PlannedClient(client=choice.client, assignment=assignment, seed=seed, reason=choice.reason, factor=factor)
    if not number:
        return planned
    if config.is_auto:
        chosen = choose_uplink(state.lines.get(choice.client))
        uplink, how = Uplink(preset=chosen.preset), f"up by {chosen.reason}"
    elif search := state.progress.search or config.search:
        uplink, how = uplink_of(search), f"up goes {100 * search.share:.3g} % of the values"
    else:
        return planned
    return msgspec.structs.replace(planned, uplink=uplink, reason=f"{choice.reason}; {how}")
