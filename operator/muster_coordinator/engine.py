"""The round engine: events in, instructions out. It knows of no network, disk, thread or clock.

`start` makes the state of a job from what earlier coordinators wrote down; `step` moves it on by one event. Each step
first takes the event in (`_hear`), then does whatever is due, until nothing is (`_advance`): what to do next follows
from the state and the time alone, so a lost or repeated event changes nothing. Every policy has a module of its own;
this one only says which is asked when.
"""

from __future__ import annotations

from dataclasses import replace

from muster_coordinator import arrivals, membership, rolling, tells, transitions, waves
from muster_coordinator.config import GRACE_S, EngineConfig, config_of
from muster_coordinator.events import (
    BudgetExceeded,
    ClientsJoined,
    ClientsLost,
    ClientsProfiled,
    EvaluationReported,
    EvaluationStored,
    Event,
    PauseWished,
    PlanStored,
    QueueSeen,
    RoundStored,
    StopRequested,
    Tick,
    UpdateRejected,
    UpdateStaged,
    WorkFailed,
)
from muster_coordinator.gathering import Ready, decide_gathering, next_look
from muster_coordinator.instructions import Instruction, LoadFirstModel, Outcome, Reason, WakeAt
from muster_coordinator.moves import Moves, moved
from muster_coordinator.recovery import History, HistoryError, Restored, restore
from muster_coordinator.rounds import Commit, Extend, Fail, Retry, Wait, decide_closing, reopen_round
from muster_coordinator.state import Collecting, Evaluating, Gathering, JobState, LoadingModel, Round

__all__ = ["EngineConfig", "History", "HistoryError", "JobState", "config_of", "start", "step"]


def start(config: EngineConfig, history: History, now: float) -> Moves:
    """A new job, or an old one where its records end. Raises HistoryError when they contradict one another."""
    restored = restore(config, history)
    active = config.active_deadline_s
    state = JobState(
        config=config,
        phase=Gathering(0, 0, now, patient=True),
        progress=restored.progress,
        owed=rolling.taken_up(config, restored.owed, now),
        groups=rolling.groups_of(config, restored.owed, now),
        absences=restored.plan.absences if restored.plan else {},
        initialisers=restored.initialisers,
        active_until=None if active is None else now + active - restored.progress.seconds,
    )
    return _settled(*_begin(state, restored, now), now)


def step(state: JobState, event: Event, now: float) -> Moves:
    """The next state, and what to do about it, in order. Any event may come in any state; time may jump."""
    if state.is_finished:
        return state, []
    after, out = _hear(_without_old_news(state, now), event, now)
    after, out = _settled(after, out, now)
    if isinstance(event, Tick) and not any(isinstance(each, WakeAt) for each in out):
        out += _wake(after)  # it may have come a little early
    return after, out


def _without_old_news(state: JobState, now: float) -> JobState:
    """What a bridge said too long ago isn't believed."""
    queues = state.roster.queues.fresh(now)
    return state if queues is state.roster.queues else replace(state, roster=replace(state.roster, queues=queues))


# --- starting ---------------------------------------------------------------------------------------------------------


def _begin(state: JobState, restored: Restored, now: float) -> Moves:
    """Where the records end: before the first model, within a round, before an evaluation, or between two rounds."""
    last, plan = restored.progress.last, restored.plan
    told = [tells.resumed(restored.progress, plan)] if last or plan else []
    if plan is not None:
        phase = Collecting(reopen_round(plan, now, GRACE_S, state.config.weighing, restored.next_plan))
        return moved(state, *told, transitions.opened_of(state, plan), phase=phase)
    if last is None:
        return _first_model(state)
    measured = restored.progress.evaluated
    if transitions.is_to_measure(state, last.round) and (measured is None or measured.round < last.round):
        state, out = transitions.measure(state, last, now, restored=True)
    else:
        state, out = transitions.go_on(state, now, patient=True)
    return state, [*told, *out]


def _first_model(state: JobState) -> Moves:
    path = state.config.initial_model
    return moved(state) if path is None else moved(state, LoadFirstModel(path), phase=LoadingModel())


# --- hearing ----------------------------------------------------------------------------------------------------------


def _hear(state: JobState, event: Event, now: float) -> Moves:  # noqa: C901, PLR0911, PLR0912 - a line for each event
    match event:
        case ClientsJoined():
            return membership.join(state, event, now)
        case ClientsLost():
            return membership.lose(state, event, now)
        case ClientsProfiled():
            return membership.profile(state, event)
        case QueueSeen():
            return membership.note_queue(state, event, now)
        case UpdateStaged():
            return arrivals.take_update(state, event, now)
        case UpdateRejected():
            return arrivals.take_rejection(state, event)
        case WorkFailed():
            return arrivals.take_work_failed(state, event)
        case EvaluationReported():
            return arrivals.take_evaluation(state, event)
        case PlanStored():
            return transitions.plan_stored(state, event.plan, now)
        case RoundStored():
            return transitions.round_stored(state, event.commit, now)
        case EvaluationStored():
            return transitions.evaluation_stored(state, event.record, now)
        case BudgetExceeded():
            return transitions.finish(state, Outcome.FAILED, Reason.MEMORY_BUDGET, event.reason)
        case StopRequested():
            return transitions.finish(state, Outcome.SUSPENDED, Reason.STOPPED, event.reason)
        case PauseWished(is_wished):
            return moved(state, is_to_pause=is_wished)
        case Tick():
            return moved(state)


# --- what is due ------------------------------------------------------------------------------------------------------


def _settled(state: JobState, out: list[Instruction], now: float) -> Moves:
    """Advance until nothing is due, then say when to look again."""
    phase = None
    while phase is not state.phase:
        phase = state.phase
        state, more = _advance(state, now)
        out = [*out, *more]
    wake = _next_wake(state, now)
    if wake != state.wake:
        state = replace(state, wake=wake)
        out = [*out, *_wake(state)]
    return state, out


def _advance(state: JobState, now: float) -> Moves:  # noqa: PLR0911 - a line for each phase
    if state.is_finished:
        return moved(state)
    if state.active_until is not None and now >= state.active_until:
        why = f"the job's {state.config.active_deadline_s:.0f} s are over"
        return transitions.finish(state, Outcome.FAILED, Reason.DEADLINE_EXCEEDED, why)
    match state.phase:
        case Gathering() as gathering:
            return _gather(state, gathering, now)
        case Collecting(round_) if round_.is_rolling:
            return _collect_rolling(state, round_, now)
        case Collecting(round_):
            return _collect(state, round_, now)
        case Evaluating() as evaluating:
            return transitions.go_on_measuring(state, evaluating, now)
        case _:  # something is being stored
            return moved(state)


def _gather(state: JobState, gathering: Gathering, now: float) -> Moves:
    if state.is_to_pause:
        return transitions.pause(state)
    match decide_gathering(state, gathering, now):
        case Ready() as ready:
            return transitions.plan(state, gathering, ready, now)
        case Fail(reason, why):
            return transitions.finish(state, Outcome.FAILED, reason, why)
        case Wait():
            return moved(state)


def _collect(state: JobState, round_: Round, now: float) -> Moves:
    match decide_closing(round_, state.config, state.roster, now):
        case Wait():
            return moved(state)
        case Commit(why):
            return transitions.close(state, round_, why, now)
        case Extend(why):
            if state.is_to_pause:
                return transitions.pause(state)
            return transitions.extend_deadline(state, round_, why, now)
        case Retry(why):
            return transitions.give_attempt_up(state, round_, why, now)
        case Fail(reason, why):
            return transitions.give_up(state, round_, reason, why, now)


def _collect_rolling(state: JobState, round_: Round, now: float) -> Moves:
    """A version that nobody waits for."""
    if late := rolling.overdue(state, round_, now):
        return waves.give_overdue_up(state, late)
    state = waves.drop_empty_groups(state, round_, now)
    match rolling.decide_rolling(state, round_, now):
        case Commit(why):
            return waves.close(state, round_, why, now)
        case Extend() as extension:
            if state.is_to_pause:
                return transitions.pause(state)
            return waves.extend_deadline(state, round_, extension, now)
        case Fail(reason, why):
            return transitions.give_up(state, round_, reason, why, now)
        case _:
            return waves.plan_more(state, round_, now)


def _next_wake(state: JobState, now: float) -> float | None:
    wishes: list[float] = []
    match state.phase:
        case Gathering() as gathering:
            wishes.append(next_look(state, gathering, now))
        case Collecting(round_):
            wishes.append(rolling.next_look(state, round_, now) if round_.is_rolling else round_.deadline)
        case Evaluating(until=until):
            wishes.append(until)
    if state.active_until is not None and not state.is_finished:
        wishes.append(state.active_until)
    return min(wishes, default=None)


def _wake(state: JobState) -> list[Instruction]:
    return [] if state.wake is None else [WakeAt(state.wake)]
