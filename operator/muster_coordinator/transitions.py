"""From one phase to the next: what becomes durable, who is asked, who is told.

The order of the instructions is what makes a crash harmless at any point between two of them: a plan is stored before
anybody is asked, a commit before anybody is told that its update was used, the failure of an attempt (which is the next
attempt's plan) before anybody is told that an update was in vain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from muster_coordinator import evaluation, history, tells, waves
from muster_coordinator.gathering import Ready, left_out
from muster_coordinator.instructions import (
    Finish,
    Instruction,
    OpenRound,
    Outcome,
    Reason,
    Scope,
    Settle,
    StoreCommit,
    StoreEvaluation,
    StorePlan,
    Withdraw,
)
from muster_coordinator.late import expired, owed_after, owed_of
from muster_coordinator.matching.phases import length_of, passes_after, phase_of
from muster_coordinator.membership import order_evaluation, order_of, orders_for
from muster_coordinator.moves import Moves, moved
from muster_coordinator.planning import build_plan
from muster_coordinator.records import Absence, AssignmentId, EvaluationRecord, RoundCommit, RoundPlan
from muster_coordinator.recovery import after_commit, after_evaluation
from muster_coordinator.rounds import absences, extend, failed_clients, fold_rest, in_queue, open_round
from muster_coordinator.state import (
    Collecting,
    Committing,
    Evaluating,
    Finished,
    Gathering,
    JobState,
    Owed,
    Planning,
    Round,
    StoringEvaluation,
)
from muster_spec.clients import ClientId
from muster_spec.wording import counted

EVALUATORS = 3  # trusted clients that are asked for one central evaluation before it is given up

# --- planning ---------------------------------------------------------------------------------------------------------


def plan(state: JobState, gathering: Gathering, ready: Ready, now: float) -> Moves:
    """Choose the cohort and store the choice; nobody is asked yet."""
    if state.config.mode and gathering.round:
        return waves.plan_first(state, gathering, now)
    chosen = build_plan(state, gathering, ready)
    return moved(state, StorePlan(chosen), phase=Planning(chosen))


def plan_stored(state: JobState, stored: RoundPlan, now: float) -> Moves:
    """The choice is durable: tell those of the attempt before how it ended, and ask the cohort."""
    if not isinstance(state.phase, Planning) or state.phase.plan != stored:
        return moved(state)
    if state.config.mode and stored.round:
        return waves.plan_stored(state, state.phase, now)
    asked = [planned.client for planned in stored.cohort]
    out: list[Instruction] = [*state.deferred.values(), opened_of(state, stored)]
    state, withdrawn = _release(state, asked)
    opened = open_round(stored, now, state.config.weighing)
    state = replace(state, phase=Collecting(opened), deferred={}, initialisers=_asked_first(state, stored))
    state, folds = waves.fold_parked(state)
    here = [planned for planned in stored.cohort if planned.client in state.roster]
    round_ = state.phase.round if isinstance(state.phase, Collecting) else None
    orders = [order_of(state, round_, planned) for planned in here] if round_ else []
    return state, [*out, *withdrawn, *folds, *orders, tells.planned(stored, state.config, left_out(state))]


def opened_of(state: JobState, stored: RoundPlan) -> OpenRound:
    """What has to be ready for a round's updates."""
    return OpenRound(stored.round, stored.base, phase_of(stored.round, state.progress.widths))


def _asked_first(state: JobState, stored: RoundPlan) -> tuple[ClientId, ...]:
    """Who has been asked for the first model, the latest last."""
    if stored.round:
        return state.initialisers
    client = stored.cohort[0].client
    return (*(each for each in state.initialisers if each != client), client)


def _release(state: JobState, asked: Iterable[ClientId]) -> Moves:
    """Whoever is asked for this round is not held to an earlier one."""
    busy = set(asked)
    parked = {update.assignment for update in state.parked}
    gone = [name for name, work in state.owed.items() if work.client in busy and name not in parked]
    out = [Withdraw(state.owed[name].client, name, "its client is asked for a newer round") for name in gone]
    return replace(state, owed=_without(state.owed, gone)), list(out)


def _without(owed: Mapping[AssignmentId, Owed], names: Iterable[AssignmentId]) -> dict[AssignmentId, Owed]:
    gone = set(names)
    return {name: work for name, work in owed.items() if name not in gone}


# --- closing ----------------------------------------------------------------------------------------------------------


def close(state: JobState, round_: Round, why: str, now: float) -> Moves:
    """Sum what waited for its turn, and store the commit."""
    round_, folds = fold_rest(round_)
    commit = StoreCommit(
        round=round_.number,
        attempt=round_.plan.attempt,
        base=round_.plan.base,
        used=round_.folded,
        failed=failed_clients(round_, state.roster, why),
        failed_attempts=round_.failed_before,
        opened=round_.opened,
        owed=owed_after(round_, state.config.late),
        stragglers=round_.outstanding - in_queue(round_, state.roster),
        scale=round_.scale,
        corrections=state.progress.reach.corrections(len(round_.places)),
        reason=history.closing_reason(round_.plan, why),
        absences=_absences(state, round_, now),
        profiled=state.profiled,
    )
    return moved(state, *folds, commit, phase=Committing(round_))


def _absences(state: JobState, round_: Round, now: float) -> dict[ClientId, Absence]:
    """Who is missing from this round, in its last attempt or in those before; whoever made up for it is not."""
    used = {planned.client for planned in round_.plan.cohort if planned.assignment in round_.updates}
    before = {client: why for client, why in state.absences.items() if client not in used}
    return before | absences(round_, state.roster, now)


def extend_deadline(state: JobState, round_: Round, why: str, now: float) -> Moves:
    """Let the same attempt run on; its clients hear of the new deadline."""
    extended = extend(round_, now)
    state = replace(state, phase=Collecting(extended))
    orders = orders_for(state, [planned.client for planned in round_.plan.cohort], now)
    return state, [tells.failed_attempt(round_.plan, why), *orders]


def give_attempt_up(state: JobState, round_: Round, why: str, now: float) -> Moves:
    """Look for another cohort. Nobody is told before the next plan makes the failure durable."""
    deferred: dict[AssignmentId, Settle | Withdraw] = {}
    for planned in round_.plan.cohort:
        name, client = planned.assignment, planned.client
        if name in round_.updates:
            deferred[name] = Settle(client, name, used=False, reason=f"the attempt failed: {why}")
        elif name not in round_.failures:
            deferred[name] = Withdraw(client, name, f"the attempt failed: {why}")
    for name in round_.late:
        deferred[name] = Settle(state.owed[name].client, name, used=False, reason=f"the attempt failed: {why}")
    gathering = Gathering(round_.number, round_.failed_before + 1, now, patient=False, because=why)
    state = replace(state, failed_attempt=history.failed_attempt(round_, state.roster, why, now))
    told = tells.failed_attempt(round_.plan, why)
    state = replace(state, absences=_missing(state, round_, now))
    return moved(state, told, phase=gathering, deferred=deferred, owed=_without(state.owed, round_.late))


def _missing(state: JobState, round_: Round, now: float) -> Mapping[ClientId, Absence]:
    """Whose fault it is so far that this round is not done; nobody's who was still in time."""
    if not round_.number:
        return {}
    found = absences(round_, state.roster, now)
    return {**state.absences, **{client: why for client, why in found.items() if why is not Absence.OVERTAKEN}}


def round_stored(state: JobState, commit: RoundCommit, now: float) -> Moves:
    """The round is over for good: tell everybody what became of their work, and go on."""
    number = state.phase.round.number if isinstance(state.phase, Committing) else 0
    if commit.round != number or state.progress.committed >= number:
        return moved(state, tells.warning(f"a commit of round {commit.round} came out of turn"))
    settled = [Settle(each.client, each.assignment, used=True, reason="its round is committed") for each in commit.used]
    state, out = _settle_the_rest(state, commit)
    newer = {client: found for client, found in state.profiled.items() if commit.profiled.get(client) != found}
    state = replace(
        state, progress=after_commit(state.progress, commit, state.config), failed_attempt=None, profiled=newer
    )
    state, more = _measure_or_go_on(state, commit, now)
    return state, [*settled, *out, tells.committed(commit, state.progress, state.config), *more]


def _settle_the_rest(state: JobState, commit: RoundCommit) -> Moves:
    """Work of this round and of earlier ones that is now too late, or still welcome."""
    if not isinstance(state.phase, Committing):
        return moved(state)
    if commit.is_rolling:
        return waves.settle_the_rest(state, state.phase.round, commit)
    round_, parked = state.phase.round, {update.assignment: update for update in state.parked}
    owed = {**_without(state.owed, round_.late), **owed_of(round_.plan, commit.owed)}
    too_late = {name: owed[name].client for name in expired(owed, commit.round, state.config.late)}
    dropped = [planned for planned in round_.plan.cohort if round_.is_outstanding(planned.assignment)]
    too_late |= {planned.assignment: planned.client for planned in dropped if planned.assignment not in owed}
    out = [_dismiss(client, name, held=name in parked) for name, client in too_late.items()]
    kept = tuple(update for name, update in parked.items() if name not in too_late)
    return replace(state, owed=_without(owed, too_late), parked=kept, absences={}), out


def _dismiss(client: ClientId, assignment: AssignmentId, *, held: bool) -> Instruction:
    why = "its round closed without it"
    return Settle(client, assignment, used=False, reason=why) if held else Withdraw(client, assignment, why)


# --- measuring --------------------------------------------------------------------------------------------------------


def _measure_or_go_on(state: JobState, commit: RoundCommit, now: float) -> Moves:
    can_be_measured = state.config.federated or state.has_test_set
    if not can_be_measured or not is_to_measure(state, commit.round):
        return go_on(state, now, patient=commit.round == 0)
    return measure(state, commit, now, restored=False)


def is_to_measure(state: JobState, number: int) -> bool:
    """Whether this round's model is to be measured. Within a pass of matching none is whole, and passes count."""
    done = passes_after(number, state.progress.widths)
    if not state.progress.widths or done is None:
        return done is not None and evaluation.is_due(state.config, number)
    return evaluation.is_due(state.config, state.config.total if _is_last_pass(state, number) else done)


def _is_last_pass(state: JobState, number: int) -> bool:
    return number + length_of(state.progress.widths) > state.config.total


def measure(state: JobState, commit: RoundCommit, now: float, *, restored: bool) -> Moves:
    """Ask the cohort and an evaluator how good the model is."""
    phase = evaluation.begin(state.config, commit, central=state.has_test_set, restored=restored, now=now)
    if not restored:
        away = [client for client in phase.waiting if client not in state.roster]
        phase = evaluation.give_up_local(phase, away, evaluation.AWAY)
    state = replace(state, phase=phase)
    return state, orders_for(state, sorted(phase.waiting), now)


def go_on_measuring(state: JobState, phase: Evaluating, now: float) -> Moves:
    """Find an evaluator if one is wanted, and close the evaluation when there is nothing left to wait for."""
    if evaluation.is_over(phase, now):
        return _close_evaluation(state, phase)
    if not phase.central_wanted or phase.evaluator is not None:
        return moved(state)
    busy = {work.client for work in state.owed.values()} if state.config.mode else set()
    tries = len(phase.tried)
    client = evaluation.next_evaluator(phase, state.config, state.roster, busy) if tries < EVALUATORS else None
    if client is not None:
        asked = replace(phase, evaluator=client)
        return moved(state, order_evaluation(asked, client, Scope.CENTRAL), phase=asked)
    if phase.restored and not phase.tried:
        return moved(state)
    return moved(state, phase=replace(phase, central_wanted=False))


def _close_evaluation(state: JobState, phase: Evaluating) -> Moves:
    record = evaluation.record_of(phase)
    here = [client for client in sorted(phase.waiting) if client in state.roster]
    orders = [order_evaluation(phase, client, Scope.LOCAL) for client in here]
    if phase.evaluator is not None:
        orders.append(order_evaluation(phase, phase.evaluator, Scope.CENTRAL))
    stops = [Withdraw(order.client, order.assignment, "the evaluation is closed") for order in orders]
    return moved(state, StoreEvaluation(record), *stops, phase=StoringEvaluation(record))


def evaluation_stored(state: JobState, record: EvaluationRecord, now: float) -> Moves:
    """The model's scores are durable: they may be the end of the job."""
    if not isinstance(state.phase, StoringEvaluation) or state.phase.record.round != record.round:
        return moved(state)
    concerns = evaluation.concerns(record, state.progress.evaluated, state.config.goal)
    state = replace(state, progress=after_evaluation(state.progress, record, state.config))
    state, out = go_on(state, now, patient=False)
    return state, [tells.evaluated(record), *map(tells.warning, concerns), *out]


# --- ends -------------------------------------------------------------------------------------------------------------


def go_on(state: JobState, now: float, *, patient: bool) -> Moves:
    """The next round, or the end."""
    progress = state.progress
    is_in_pass = progress.widths and passes_after(progress.committed, progress.widths) is None
    if not is_in_pass and (end := _end_of(state)):
        return finish(state, *end)
    return moved(state, phase=Gathering(progress.committed + 1, 0, now, patient))


def _end_of(state: JobState) -> tuple[Outcome, Reason, str] | None:
    """Why there is no next round; None if there is one."""
    config, progress = state.config, state.progress
    if evaluation.has_reached(config.goal, progress.evaluated):
        return Outcome.COMPLETE, Reason.TARGET_REACHED, f"the target is reached after round {progress.committed}"
    if evaluation.has_stalled(config.patience, progress.best, progress.evaluated):
        why = f"no better model for {counted(config.patience or 0, 'round')}"
        return Outcome.COMPLETE, Reason.NO_IMPROVEMENT, why
    if progress.committed >= config.total:
        return Outcome.COMPLETE, Reason.ROUNDS_COMPLETED, f"{_all(config.total)} done"
    if progress.widths and _is_last_pass(state, progress.committed):
        return _no_further_pass(state)
    if progress.pace and progress.pace.is_spent:
        why = f"the budget is used up after {counted(progress.committed, 'round')} in {progress.seconds:.0f} s"
        return Outcome.COMPLETE, Reason.BUDGET_SPENT, why
    return None


def _no_further_pass(state: JobState) -> tuple[Outcome, Reason, str]:
    """Fewer rounds are left than the model has layers."""
    length, done = length_of(state.progress.widths), state.progress.committed
    if not done:
        why = f"the model has {length} layers to match, a round each: raise rounds.total to {length} or more"
        return Outcome.FAILED, Reason.TASK_FAILED, why
    return Outcome.COMPLETE, Reason.ROUNDS_COMPLETED, f"{done} rounds done, and another pass would take {length}"


def give_up(state: JobState, round_: Round, reason: Reason, why: str, now: float) -> Moves:
    """A round has failed for good, and the job with it."""
    state = replace(state, failed_attempt=history.failed_attempt(round_, state.roster, why, now))
    return finish(state, Outcome.FAILED, reason, why)


def _all(total: int) -> str:
    return "the only round is" if total == 1 else f"all {total} rounds are"


def pause(state: JobState) -> Moves:
    """Leave between two rounds. An attempt that failed is taken up again by whoever goes on, with what clients hold."""
    done = counted(max(state.progress.committed, 0), "round")
    return finish(state, Outcome.SUSPENDED, Reason.PAUSED, f"suspended after {done} of {state.config.total}")


def finish(state: JobState, outcome: Outcome, reason: Reason, message: str) -> Moves:
    """The job is over; whatever was being done is dropped."""
    end = Finish(outcome, reason, message)
    return moved(
        state, tells.finished(end, state.progress, state.config), end, phase=Finished(outcome, reason, message)
    )
