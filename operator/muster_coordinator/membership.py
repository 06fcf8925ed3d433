"""Clients come and go. What one that comes back has to do, and what became of what it holds, follows from the state.

Orders are never remembered as sent: whoever joins is given all the work that is outstanding for it, again if need be,
and a worker that already does or holds it carries on. So a broken connection, a restarted worker and a restarted
coordinator are one case.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from muster_coordinator import evaluation, tells
from muster_coordinator.assignments import client_of, evaluation_id, training_id
from muster_coordinator.config import GRACE_S
from muster_coordinator.events import ClientsJoined, ClientsLost, ClientsProfiled, QueueSeen
from muster_coordinator.instructions import (
    Instruction,
    Matched,
    OrderEvaluation,
    OrderInitialisation,
    OrderTraining,
    Sampling,
    Scope,
    Settle,
)
from muster_coordinator.matching.phases import phase_of
from muster_coordinator.moves import Moves, moved
from muster_coordinator.records import AssignmentId, PlannedClient
from muster_coordinator.rounds import shift_first_model
from muster_coordinator.state import Collecting, Committing, Evaluating, JobState, Owed, Planning, Round
from muster_coordinator.stragglers import stop_by
from muster_spec.clients import ClientId


def join(state: JobState, event: ClientsJoined, now: float) -> Moves:
    """A worker opened a session: settle what it holds, and order what is outstanding."""
    ours = tuple(client for client in event.clients if client in state.config.ordinals)
    state = _with_clock_of_first_model(replace(state, roster=state.roster.joined(event.worker, ours, now)), ours, now)
    out: list[Instruction] = [tells.joined(event, ours)]
    if len(ours) < len(event.clients):
        strangers = sorted(set(event.clients) - set(ours))
        out.append(
            tells.warning(f"{event.worker} offers clients that the job does not have: {', '.join(strangers[:5])}")
        )
    if ours:
        out += [_fate(state, assignment, ours) for assignment in event.held if not is_open(state, assignment)]
    return state, [*out, *orders_for(state, ours, now)]


def profile(state: JobState, event: ClientsProfiled) -> Moves:
    """A worker has measured itself: it goes into the next commit, and counts for choices from now on."""
    workers = state.roster.workers
    ours = tuple(client for client in event.clients if workers.get(client) == event.worker)
    if not ours:
        return moved(state)
    profiled = {**state.profiled, **dict.fromkeys(ours, event.profile)}
    return moved(state, tells.profiled(event, ours), profiled=profiled)


def lose(state: JobState, event: ClientsLost, now: float) -> Moves:
    """Whoever is lost keeps a place in the round until its deadline; only an evaluation goes on without it."""
    workers = state.roster.workers
    gone = tuple(c for c in event.clients if c in workers and event.worker in ("", workers[c]))
    if not gone:
        return moved(state)
    state = _with_clock_of_first_model(replace(state, roster=state.roster.lost(gone)), gone, now)
    if isinstance(state.phase, Evaluating):
        phase = evaluation.give_up_local(state.phase, gone, f"lost: {event.reason}")
        if phase.evaluator in gone:
            phase = evaluation.give_up_central(phase, f"lost: {event.reason}")
        state = replace(state, phase=phase)
    return moved(state, tells.lost(gone, event.reason))


def note_queue(state: JobState, event: QueueSeen, now: float) -> Moves:
    """A batch system has these clients in its queue or at work; said again and again, it is told when it changes."""
    before = _queued(state)
    roster = replace(state.roster, queues=state.roster.queues.told(event.pool, event.allocations, now))
    state = replace(state, roster=roster)
    queued = _queued(state)
    return moved(state, tells.queued(queued)) if queued != before else moved(state)


def _queued(state: JobState) -> tuple[ClientId, ...]:
    return tuple(client for client, _ in state.roster.queues.waiting(state.roster.workers))


def _with_clock_of_first_model(state: JobState, clients: tuple[ClientId, ...], now: float) -> JobState:
    phase = state.phase
    if not isinstance(phase, Collecting) or phase.round.number or phase.round.plan.cohort[0].client not in clients:
        return state
    return replace(state, phase=Collecting(shift_first_model(phase.round, state.roster, now, GRACE_S)))


# --- fates ------------------------------------------------------------------------------------------------------------


def is_open(state: JobState, assignment: AssignmentId) -> bool:
    """Whether the fate of this training is still to be decided."""
    round_ = round_of(state)
    if round_ is not None and assignment in round_.places:
        return assignment not in round_.failures
    return assignment in state.owed or assignment in state.deferred


def is_received(state: JobState, assignment: AssignmentId) -> bool:
    """Whether this update is already accepted, in the sum or waiting for one."""
    round_ = round_of(state)
    if round_ is not None and (assignment in round_.updates or assignment in round_.late):
        return True
    return any(update.assignment == assignment for update in state.parked)


def round_of(state: JobState) -> Round | None:
    """The round that is open or being committed, if there is one."""
    match state.phase:
        case Collecting(round_) | Committing(round_) | Planning(within=Round() as round_):
            return round_
        case _:
            return None


def _fate(state: JobState, assignment: AssignmentId, clients: tuple[ClientId, ...]) -> Settle:
    client = client_of(assignment)
    if state.progress.has_used(client, assignment):
        return Settle(client, assignment, used=True, reason="its round is committed")
    holder = client if client in clients else clients[0]
    return Settle(holder, assignment, used=False, reason="its round went on without it")


# --- orders -----------------------------------------------------------------------------------------------------------


def orders_for(state: JobState, clients: Iterable[ClientId], now: float) -> list[Instruction]:
    """All the work that is outstanding for these clients, of those that are here."""
    here = [client for client in clients if client in state.roster]
    phase = state.phase
    orders: list[Instruction] = []
    if isinstance(phase, Collecting | Committing):
        orders += _round_orders(state, phase.round, here)
    if isinstance(phase, Evaluating):
        orders += _evaluation_orders(phase, here)
    if state.owed:
        orders += _owed_orders(state, set(here), now)
    return orders


def _round_orders(state: JobState, round_: Round, here: list[ClientId]) -> Iterator[Instruction]:
    parked = {update.assignment for update in state.parked}
    for client in here:
        assignment = training_id(round_.number, round_.plan.attempt, client)
        if round_.is_outstanding(assignment) and assignment not in parked:
            yield order_of(state, round_, round_.plan.cohort[round_.places[assignment]])


def order_of(state: JobState, round_: Round, planned: PlannedClient) -> Instruction:
    """What this round wants from one client of its cohort."""
    if round_.number == 0:
        return OrderInitialisation(planned.client, planned.assignment, planned.seed)
    return OrderTraining(
        client=planned.client,
        assignment=planned.assignment,
        round=round_.number,
        base=round_.plan.base,
        seed=planned.seed,
        deadline=round_.deadline,
        place=round_.places[planned.assignment],
        uplink=planned.uplink,
        participations=state.progress.participations.get(planned.client, 0),
        stop_by=_stop_by(state, round_.deadline, round_.plan.deadline_s, planned.client),
        steps=round_.plan.steps,
        sampling=_sampling(state, round_, planned.client),
        matched=_matched(state, round_, planned.client),
    )


def _matched(state: JobState, round_: Round, client: ClientId) -> Matched | None:
    phase, last = phase_of(round_.number, state.progress.widths), state.progress.last
    if phase is None or last is None:
        return None
    return Matched(phase.number, () if phase.is_first else last.matches.get(client, ()))


def _sampling(state: JobState, round_: Round, client: ClientId) -> Sampling | None:
    if not state.config.is_balanced:
        return None
    finish_by = _finish_by(state, round_.deadline, round_.plan.deadline_s, client)
    return Sampling(finish_by, round_.plan.loss_threshold)


def _stop_by(state: JobState, deadline: float, length_s: float, client: ClientId) -> float | None:
    return _finish_by(state, deadline, length_s, client) if state.config.partial else None


def _finish_by(state: JobState, deadline: float, length_s: float, client: ClientId) -> float:
    """When a client has to be done for its update to be here in time."""
    return stop_by(deadline, length_s, _upload_s(state, client))


def _upload_s(state: JobState, client: ClientId) -> float:
    """How long its updates take to come in: as measured, or as its surveyed line takes for one of them; or nan."""
    table = state.progress.histories.table
    if not len(table):
        return math.nan
    row = table[state.config.ordinals[client]]
    measured_s, used = float(row["upload_s"]), int(row["used"])
    if used and math.isnan(measured_s):
        return float(row["bytes_up"]) / used / state.surveyed_up(client)
    return measured_s


def _evaluation_orders(phase: Evaluating, here: list[ClientId]) -> Iterator[Instruction]:
    for client in here:
        if client in phase.waiting:
            yield order_evaluation(phase, client, Scope.LOCAL)
        if client == phase.evaluator:
            yield order_evaluation(phase, client, Scope.CENTRAL)


def order_evaluation(phase: Evaluating, client: ClientId, scope: Scope) -> OrderEvaluation:
    """What an evaluation wants from one client."""
    assignment = evaluation_id(phase.round, scope, client)
    return OrderEvaluation(client, assignment, round=phase.round, model=phase.model, scope=scope)


def _owed_orders(state: JobState, here: set[ClientId], now: float) -> Iterator[Instruction]:
    for assignment, work in state.owed.items():
        if work.client in here and not is_received(state, assignment):
            yield _order_owed(state, assignment, work, now)


def _order_owed(state: JobState, assignment: AssignmentId, work: Owed, now: float) -> OrderTraining:
    length_s = state.config.deadline_s
    deadline = min(work.until, now + length_s)
    return OrderTraining(
        client=work.client,
        assignment=assignment,
        round=work.round,
        base=work.base,
        seed=work.seed,
        deadline=deadline,
        place=work.place,
        uplink=work.uplink,
        participations=state.progress.participations.get(work.client, 0),
        stop_by=_stop_by(state, deadline, length_s, work.client) if state.config.mode else None,
        steps=work.steps,
        sampling=Sampling(threshold=work.loss_threshold) if state.config.is_balanced else None,
    )
