"""What clients send: updates, failures, measurements. Each may come twice, late, or when nobody asked any more.

An update is answered with Accept (keep it until its settlement) or Refuse (forget it). One that comes while its round
is being committed, or between a failed attempt and the next plan, is accepted and settled later: were it refused now
and the coordinator died, its client would have to train again.
"""

from __future__ import annotations

from dataclasses import replace

from muster_coordinator import evaluation, tells
from muster_coordinator.assignments import evaluation_id
from muster_coordinator.config import EngineConfig
from muster_coordinator.events import EvaluationReported, UpdateRejected, UpdateStaged, WorkFailed
from muster_coordinator.instructions import Accept, Instruction, Refuse, Scope, Settle
from muster_coordinator.late import decide_late
from muster_coordinator.membership import is_received, round_of
from muster_coordinator.modes import Grouped
from muster_coordinator.moves import Moves, moved
from muster_coordinator.records import AssignmentId
from muster_coordinator.rounds import add_late, give_up, receive
from muster_coordinator.state import Collecting, Committing, Evaluating, Failure, JobState, Round
from muster_coordinator.uplink import measured
from muster_coordinator.waves import note_failure

# --- updates ----------------------------------------------------------------------------------------------------------


def take_update(state: JobState, update: UpdateStaged, now: float) -> Moves:
    """An update is here, whole and checked."""
    assignment, round_ = update.assignment, round_of(state)
    state = _with_line(state, update)
    accept = Accept(update.client, assignment)
    if state.progress.has_used(update.client, assignment):
        return moved(state, Settle(update.client, assignment, used=True, reason="its round is committed"))
    if is_received(state, assignment):
        return moved(state, accept)
    if round_ is not None and assignment in round_.places:
        return _take_current(state, round_, update, now)
    if assignment in state.owed:
        return _take_late(state, update, now)
    if assignment in state.deferred:
        settled = Settle(update.client, assignment, used=False, reason="its attempt failed")
        return moved(state, accept, deferred={**state.deferred, assignment: settled})
    return moved(state, Refuse(update.client, assignment, "nobody waits for this update: its round is over"))


def _take_current(state: JobState, round_: Round, update: UpdateStaged, now: float) -> Moves:
    assignment = update.assignment
    if assignment in round_.failures:
        return moved(state, Refuse(update.client, assignment, round_.failures[assignment].reason))
    fault = _fault(round_, update, state.config)
    if fault is not None:
        return _drop(state, update, fault)
    told = _taken(update, round_.number)
    planned = round_.plan.cohort[round_.places[assignment]]
    update = replace(update, factor=planned.factor * _share(state, update, round_.plan.steps))
    if isinstance(state.phase, Committing):
        return moved(state, *told, parked=(*state.parked, update))
    round_, folds = receive(round_, update, now)
    return moved(state, *told, *folds, phase=Collecting(round_))


def _share(state: JobState, update: UpdateStaged, planned: int) -> float:
    partial = state.config.partial
    return partial.share(update.examples, update.steps, planned) if partial else 1.0


def _with_line(state: JobState, update: UpdateStaged) -> JobState:
    """What is known of the client's uplink now."""
    if not state.config.is_auto:
        return state
    line = measured(state.lines.get(update.client), update, state.surveyed_up(update.client))
    return replace(state, lines={**state.lines, update.client: line}) if line else state


def _taken(update: UpdateStaged, round_number: int) -> list[Instruction]:
    out: list[Instruction] = [Accept(update.client, update.assignment), tells.received(update, round_number)]
    return [*out, tells.memory_lost(update)] if update.memory_lost else out


def _fault(round_: Round, update: UpdateStaged, config: EngineConfig) -> str | None:
    """What only the engine can find wrong with an update that passed every check of its bytes."""
    owner = round_.plan.cohort[round_.places[update.assignment]].client
    if update.client != owner:
        return f"this assignment is {owner}'s"
    return _weightless(update, config) if round_.number else None


def _weightless(update: UpdateStaged, config: EngineConfig) -> str | None:
    """Why an update can't be weighed."""
    if update.examples < 1:
        return "trained on no examples: it has no weight"
    return config.weighing.problem(update.steps, update.metrics)


def _drop(state: JobState, update: UpdateStaged, fault: str) -> Moves:
    """Refuse it; if it is its owner's, don't wait for another."""
    refuse = Refuse(update.client, update.assignment, fault)
    round_ = round_of(state)
    if round_ is None or round_.plan.cohort[round_.places[update.assignment]].client != update.client:
        return moved(state, refuse)
    state, out = _fail_current(state, update.assignment, Failure(fault, raised=False))
    return state, [refuse, *out]


def _take_late(state: JobState, update: UpdateStaged, now: float) -> Moves:
    work, phase = state.owed[update.assignment], state.phase
    if work.client != update.client:
        return moved(state, Refuse(update.client, update.assignment, f"this assignment is {work.client}'s"))
    if fault := _weightless(update, state.config):
        return _without(state, update, fault), [Refuse(update.client, update.assignment, fault)]
    elapsed_s = 0.0 if work.asked_at is None else now - work.asked_at
    told = _taken(update, work.round)
    update = replace(update, factor=work.factor * _share(state, update, work.steps), elapsed_s=elapsed_s)
    if not isinstance(phase, Collecting) or isinstance(state.config.mode, Grouped):
        return moved(state, *told, parked=(*state.parked, update))
    late = decide_late(update, work.round, phase.round.number, state.config.late)
    if late.used is None:
        return _without(state, update, late.why), [Refuse(update.client, update.assignment, late.why)]
    round_, folds = add_late(phase.round, late.used)
    return moved(state, *told, *folds, phase=Collecting(round_))


def _without(
    state: JobState, done: UpdateStaged | UpdateRejected | WorkFailed, why: str, *, raised: bool = False
) -> JobState:
    """Owed work that came to nothing."""
    return note_failure(state, done.assignment, Failure(why, raised))


# --- failures ---------------------------------------------------------------------------------------------------------


def take_rejection(state: JobState, event: UpdateRejected) -> Moves:
    """An update did not pass: its client has nothing to offer this round."""
    if is_received(state, event.assignment):  # a broken repetition of what is here, whole
        return moved(state)
    state, out = _take_failure(state, event, raised=False)
    return state, [Refuse(event.client, event.assignment, event.reason), *out]


def take_work_failed(state: JobState, event: WorkFailed) -> Moves:
    """The client's own code raised, in training or in an evaluation."""
    if isinstance(state.phase, Evaluating) and event.assignment in _evaluations(state.phase, event):
        return _fail_evaluation(state, state.phase, event)
    return _take_failure(state, event, raised=True)


def _take_failure(state: JobState, event: UpdateRejected | WorkFailed, *, raised: bool) -> Moves:
    round_ = round_of(state)
    if is_received(state, event.assignment):
        return moved(state)
    if event.assignment in state.owed:
        told = tells.rejected(event.client, state.owed[event.assignment].round, event.reason)
        return _without(state, event, event.reason, raised=raised), [told]
    if round_ is None or not round_.is_outstanding(event.assignment):
        return moved(state)
    if round_.plan.cohort[round_.places[event.assignment]].client != event.client:
        return moved(state)
    return _fail_current(state, event.assignment, Failure(event.reason, raised))


def _fail_current(state: JobState, assignment: AssignmentId, failure: Failure) -> Moves:
    if not isinstance(state.phase, Collecting):  # its commit is on the way: it only counts as absent
        return moved(state)
    round_ = state.phase.round
    client = round_.plan.cohort[round_.places[assignment]].client
    round_, folds = give_up(round_, assignment, failure)
    return moved(state, tells.rejected(client, round_.number, failure.reason), *folds, phase=Collecting(round_))


# --- measurements -----------------------------------------------------------------------------------------------------


def take_evaluation(state: JobState, event: EvaluationReported) -> Moves:
    """One client has measured the model."""
    phase = state.phase
    if not isinstance(phase, Evaluating):
        return moved(state)
    scores = evaluation.scores_of(event.examples, event.metrics)
    local, central = _evaluations(phase, event)
    if event.assignment == local and event.client in phase.waiting:
        state, told = _tell_undefined(state, event)
        return moved(state, *told, phase=evaluation.report_local(phase, event.client, scores))
    if event.assignment == central and event.client == phase.evaluator:
        found = scores if scores.examples > 0 else None
        done = replace(phase, central=found, central_wanted=False, evaluator=None)
        state, told = _tell_undefined(state, event)
        return moved(state, *told, phase=done, has_test_set=found is not None)
    return moved(state)


def _tell_undefined(state: JobState, event: EvaluationReported) -> Moves:
    """A metric that is no number is left out of the averages, and said once."""
    names = [name for name in evaluation.undefined_metrics(event.metrics) if name not in state.undefined]
    told = [
        tells.warning(f"{event.client} measured {name} as {event.metrics[name]}: it is left out wherever it is so")
        for name in names
    ]
    return moved(state, *told, undefined=state.undefined.union(names))


def _evaluations(phase: Evaluating, event: EvaluationReported | WorkFailed) -> tuple[AssignmentId, AssignmentId]:
    local, central = (evaluation_id(phase.round, scope, event.client) for scope in (Scope.LOCAL, Scope.CENTRAL))
    return local, central


def _fail_evaluation(state: JobState, phase: Evaluating, event: WorkFailed) -> Moves:
    if event.assignment == evaluation_id(phase.round, Scope.LOCAL, event.client):
        return moved(state, phase=evaluation.give_up_local(phase, [event.client], event.reason))
    if event.client == phase.evaluator:
        return moved(state, phase=evaluation.give_up_central(phase, event.reason))
    return moved(state)
