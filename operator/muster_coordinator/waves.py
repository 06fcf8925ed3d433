"""What happens to a round that nobody waits for: more clients are asked, work is given up, a version closes.

The moves that belong to the decisions of rolling.py, as transitions.py has those of rounds with a cohort.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from muster_coordinator import history, tells
from muster_coordinator.assignments import client_of
from muster_coordinator.compass import ALONE, Group, group_of, with_member
from muster_coordinator.gathering import left_out
from muster_coordinator.instructions import Instruction, OpenRound, Settle, StoreCommit, StorePlan, Withdraw
from muster_coordinator.late import damping, decide_late, expired, owed_of
from muster_coordinator.membership import orders_for
from muster_coordinator.modes import Grouped
from muster_coordinator.moves import Moves, moved
from muster_coordinator.planning import build_rolling
from muster_coordinator.records import Absence, AssignmentId, RoundCommit, UsedUpdate
from muster_coordinator.rolling import due_groups, due_updates, room, to_ask, working
from muster_coordinator.rounds import Extend, add_late, extend, fold_rest, open_round, with_more
from muster_coordinator.state import Collecting, Committing, Failure, Gathering, JobState, Owed, Planning, Round
from muster_spec.clients import ClientId

# --- asking -----------------------------------------------------------------------------------------------------------


def plan_first(state: JobState, gathering: Gathering, now: float) -> Moves:
    """A version's first plan: whoever is idle is asked, be it nobody."""
    chosen = build_rolling(state, gathering, to_ask(state, None, now), room(state, None), now)
    return moved(state, StorePlan(chosen), phase=Planning(chosen))


def plan_more(state: JobState, round_: Round, now: float) -> Moves:
    """Ask those who have become idle, or have come, where there is room for them."""
    idle = to_ask(state, round_, now)
    if not idle:
        return moved(state)
    serial = Gathering(round_.number, round_.next_plan, now, patient=False)
    chosen = build_rolling(state, serial, idle, room(state, round_), now)
    if not chosen.cohort:
        return moved(state)
    return moved(state, StorePlan(chosen), phase=Planning(chosen, round_))


def plan_stored(state: JobState, phase: Planning, now: float) -> Moves:
    """The choice is durable: what is asked for is owed from now on."""
    stored, within = phase.plan, phase.within
    out: list[Instruction] = []
    if within is None:
        out = [*state.deferred.values(), OpenRound(stored.round, stored.base)]
        round_ = open_round(stored, now, state.config.weighing, is_rolling=True)
    else:
        grown = with_more(within.plan, stored)
        round_ = replace(within, plan=grown, next_plan=stored.attempt + 1)
    owed = owed_of(stored, {planned.assignment for planned in stored.cohort})
    asked = {name: replace(work, asked_at=now, until=now + stored.deadline_s) for name, work in owed.items()}
    groups = _with_members(state, asked.values(), now)
    before = [work.client for work in working(state, within).values()]
    state = replace(state, phase=Collecting(round_), owed={**state.owed, **asked}, groups=groups, deferred={})
    state, folds = fold_parked(state)
    orders = orders_for(state, [planned.client for planned in stored.cohort], now)
    told = tells.planned(
        stored, state.config, left_out(state), tells.Rolling(tuple(before), is_more=within is not None)
    )
    return state, [*out, *folds, *orders, told]


def _with_members(state: JobState, asked: Iterable[Owed], now: float) -> Mapping[int, Group]:
    groups, mode = dict(state.groups), state.config.mode
    for work in asked:
        if isinstance(mode, Grouped) and work.stint and work.stint.group != ALONE:
            begun = groups.get(work.stint.group) or group_of(work.stint, mode.lateness, now)
            groups[work.stint.group] = with_member(begun, work.stint)
    return groups


# --- updates ----------------------------------------------------------------------------------------------------------


def fold_parked(state: JobState, names: frozenset[AssignmentId] | None = None) -> Moves:
    """Sum updates that are here; all of them, unless groups are waited for: then those that are named."""
    if not isinstance(state.phase, Collecting) or (names is None and isinstance(state.config.mode, Grouped)):
        return moved(state)
    round_, owed, out = state.phase.round, dict(state.owed), list[Instruction]()
    chosen = [update for update in state.parked if names is None or update.assignment in names]
    for update in chosen:
        late = decide_late(update, owed[update.assignment].round, round_.number, state.config.late)
        if late.used is None:
            del owed[update.assignment]
            out.append(Settle(update.client, update.assignment, used=False, reason=late.why))
            continue
        round_, folds = add_late(round_, late.used)
        out += folds
    parked = tuple(update for update in state.parked if update not in chosen)
    return replace(state, phase=Collecting(round_), owed=owed, parked=parked), out


# --- giving up --------------------------------------------------------------------------------------------------------


def note_failure(state: JobState, assignment: AssignmentId, failure: Failure) -> JobState:
    """Work that will come to nothing: it is owed no more, and its client is not asked again for this version."""
    owed = {name: work for name, work in state.owed.items() if name != assignment}
    state, phase = replace(state, owed=owed), state.phase
    if state.config.mode is None:
        return state
    match phase:
        case Collecting(round_):
            return replace(state, phase=Collecting(_with_failure(round_, assignment, failure)))
        case Planning(within=Round() as round_):
            return replace(state, phase=replace(phase, within=_with_failure(round_, assignment, failure)))
        case _:  # between two versions, or while one is being stored: it is the next one's
            return replace(state, absences={**state.absences, client_of(assignment): failure.absence})


def _with_failure(round_: Round, assignment: AssignmentId, failure: Failure) -> Round:
    return replace(round_, failures={**round_.failures, assignment: failure})


def give_overdue_up(state: JobState, late: Mapping[AssignmentId, Failure]) -> Moves:
    """Their time is over: whoever did them may do something else."""
    out: list[Instruction] = []
    for name, failure in late.items():
        work = state.owed[name]
        state = note_failure(state, name, failure)
        out += [tells.rejected(work.client, work.round, failure.reason), Withdraw(work.client, name, failure.reason)]
    return state, out


def drop_empty_groups(state: JobState, round_: Round, now: float) -> JobState:
    """A group that nobody came for in its time is none: who comes later counts with the next."""
    here = {update.assignment for update in state.parked}
    held = {work.stint.group for name, work in state.owed.items() if name in here and work.stint}
    over = {number for number in due_groups(state, round_, now) if number not in held}
    kept = {number: group for number, group in state.groups.items() if number not in over}
    return replace(state, groups=kept) if over else state


def extend_deadline(state: JobState, round_: Round, extension: Extend, now: float) -> Moves:
    """Too few have come: what is in stays in, and whoever failed may be asked again."""
    found = {client_of(name): failure.absence for name, failure in round_.failures.items()}
    extended = replace(extend(round_, now, is_failure=extension.is_failure), failures={})
    told = [tells.failed_attempt(round_.plan, extension.why)] if extension.is_failure else []
    return moved(state, *told, phase=Collecting(extended), absences={**state.absences, **found})


# --- closing ----------------------------------------------------------------------------------------------------------


def close(state: JobState, round_: Round, why: str, now: float) -> Moves:
    """Make a version of what is due."""
    due: frozenset[AssignmentId] | None = None
    groups = state.groups
    if isinstance(state.config.mode, Grouped):
        due, _ = due_updates(state, round_, now)
        due = due or frozenset(update.assignment for update in state.parked)  # at the deadline
        over = due_groups(state, round_, now)
        groups = {number: group for number, group in groups.items() if number not in over}
    state, folds = fold_parked(replace(state, phase=Collecting(round_)), due)
    round_ = state.phase.round if isinstance(state.phase, Collecting) else round_
    round_, rest = fold_rest(round_)
    commit = StoreCommit(
        round=round_.number,
        attempt=round_.plan.attempt,
        base=round_.plan.base,
        used=round_.folded,
        failed={client_of(name): failure.reason for name, failure in round_.failures.items()},
        failed_attempts=round_.failed_before,
        opened=round_.opened,
        owed=tuple(name for name in state.owed if name not in round_.late),
        stragglers=sum(failure.absence is Absence.LATE for failure in round_.failures.values()),
        scale=round_.scale * _share(state, round_),
        reason=history.closing_reason(round_.plan, why),
        absences=_absences(state, round_),
        is_rolling=True,
        profiled=state.profiled,
    )
    return moved(state, *folds, *rest, commit, phase=Committing(round_), groups=groups, absences={})


def _share(state: JobState, round_: Round) -> float:
    """How much of a whole step these updates make: less for being stale, and as a group for being a part of all."""
    used, late = round_.folded, state.config.late
    importances = round_.weighing.importance.of(used)
    damped = damping(used, importances, round_.number, late.exponent if late else 0.0)
    return damped * _part(state, used) if isinstance(state.config.mode, Grouped) else damped


def _part(state: JobState, used: tuple[UsedUpdate, ...]) -> float:
    """What share of all clients at work these are, FedCompass's Σ p_i, by examples where those are what counts."""
    clients = sorted({work.client for work in state.owed.values()})
    if not isinstance(state.config.mode, Grouped) or not state.config.mode.by_examples:
        return len(used) / max(len(clients), len(used))
    rows = state.progress.histories.rows_of(clients, state.config.ordinals)
    newest = {each.client: each.examples for each in used}
    known = {
        client: newest.get(client, count) for client, count in zip(clients, rows["examples"].tolist(), strict=True)
    }
    usual = sum(newest.values()) / len(newest)
    return sum(newest.values()) / sum(count or usual for count in known.values())


def _absences(state: JobState, round_: Round) -> dict[ClientId, Absence]:
    """Who is missing from this version; whoever made up for it is not."""
    used = {each.client for each in round_.folded}
    before = {client: why for client, why in state.absences.items() if client not in used}
    return before | {client_of(name): failure.absence for name, failure in round_.failures.items()}


def settle_the_rest(state: JobState, round_: Round, commit: RoundCommit) -> Moves:
    """Work that goes on for the next version, and work that would be too old for it."""
    owed = {name: work for name, work in state.owed.items() if name not in round_.late}
    held = {update.assignment for update in state.parked}
    out: list[Instruction] = []
    missing: dict[ClientId, Absence] = {}
    for name in expired(owed, commit.round, state.config.late):
        client, why = owed.pop(name).client, "its model is too old by now"
        out.append(Settle(client, name, used=False, reason=why) if name in held else Withdraw(client, name, why))
        missing[client] = Absence.OVERTAKEN
    parked = tuple(update for update in state.parked if update.assignment in owed)
    return replace(state, owed=owed, parked=parked, absences={**state.absences, **missing}), out
