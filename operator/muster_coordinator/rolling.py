"""Rounds that nobody waits for: who may be asked next, what is overdue, and when a version closes.

In modes Asynchronous and SemiSynchronous a round is a version of the model. All work is owed from the moment it is
planned, whichever version it began from, and every update is a late one in the sense of late.py: it counts by its age.
A client has one piece of work at a time, and none while its update waits to be counted: its next training would begin
from a model that lacks the last, and what it keeps (error feedback, private state) moves only with a commit. So it is
asked once a version, again only after its version has failed for want of updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from muster_coordinator.assignments import client_of
from muster_coordinator.compass import ALONE, Group, group_of, with_member
from muster_coordinator.config import GRACE_S, EngineConfig
from muster_coordinator.gathering import admitted, count_available, patience_end
from muster_coordinator.instructions import Reason
from muster_coordinator.modes import Buffered, Grouped
from muster_coordinator.records import Absence, AssignmentId
from muster_coordinator.rounds import IN_AT_DEADLINE, Closing, Commit, Extend, Fail, Wait, failure_text
from muster_coordinator.state import Failure, JobState, Owed, Roster, Round
from muster_spec.clients import ClientId
from muster_spec.wording import counted

_BACK = (Absence.LOST, Absence.QUEUED)  # who comes back from there has not failed

# --- who is at work ---------------------------------------------------------------------------------------------------


def working(state: JobState, round_: Round | None) -> dict[AssignmentId, Owed]:
    """Work that is wanted and not here yet."""
    received = {update.assignment for update in state.parked} | (round_.late if round_ else frozenset())
    return {name: work for name, work in state.owed.items() if name not in received}


def askable(state: JobState, round_: Round | None, now: float) -> tuple[ClientId, ...]:
    """Clients with nothing to do, who have not failed at this version. Who was lost and is back may try again."""
    busy = {work.client for work in state.owed.values()}
    failures = round_.failures if round_ else {}
    failed = {client_of(name) for name, failure in failures.items() if failure.absence not in _BACK}
    return tuple(client for client in admitted(state, now) if client not in busy and client not in failed)


def room(state: JobState, round_: Round | None) -> int:
    """How many more clients may train now. Who is lost takes nobody's place."""
    at_work = sum(work.client in state.roster for work in working(state, round_).values())
    return state.config.asked - at_work


def to_ask(state: JobState, round_: Round | None, now: float) -> tuple[ClientId, ...]:
    """Those to choose from, if there is room for anybody."""
    return askable(state, round_, now) if room(state, round_) > 0 else ()


# --- when it closes ---------------------------------------------------------------------------------------------------


def decide_rolling(state: JobState, round_: Round, now: float) -> Closing:
    """Whether this version is made, and of what."""
    if isinstance(state.config.mode, Grouped):
        return _decide_groups(state, round_, now)
    return _decide_buffer(state, round_, now)


def _decide_buffer(state: JobState, round_: Round, now: float) -> Closing:
    arrived, plan = len(round_.folded), round_.plan
    if arrived >= plan.close_at:
        return Commit(f"{counted(arrived, 'update')} in the buffer")
    if _is_stuck(state, round_, now) and arrived >= plan.minimum:
        return Commit(f"{arrived} of {plan.close_at} updates are in, and nobody else can be asked")
    return _wait_or_end(state, round_, arrived, now)


def _decide_groups(state: JobState, round_: Round, now: float) -> Closing:
    due, why = due_updates(state, round_, now)
    if due:
        return Commit(why)
    return _wait_or_end(state, round_, len(state.parked), now)


def _wait_or_end(state: JobState, round_: Round, arrived: int, now: float) -> Closing:
    so_far = f"{arrived} of at least {round_.plan.minimum} updates"
    if _is_stuck(state, round_, now) and round_.failures:
        return _insufficient(state, round_, f"{so_far} are in, and nobody else can be asked", now)
    if now < round_.deadline:
        return Wait(f"{so_far}, {round_.deadline - now:.0f} s left")
    if arrived >= round_.plan.minimum:
        return Commit(f"{arrived} {IN_AT_DEADLINE}")
    return _insufficient(state, round_, f"{so_far} by the deadline", now)


def _is_stuck(state: JobState, round_: Round, now: float) -> bool:
    return not working(state, round_) and not askable(state, round_, now)


def _insufficient(state: JobState, round_: Round, why: str, now: float) -> Closing:
    """What is in stays in, so that Retry comes to the same as Extend: clients are asked all the time anyway."""
    config, failures = state.config, round_.failed_before + 1
    why = f"round {round_.number}: {why}{failure_text(round_)}"
    if config.on_insufficient == "Fail":
        return Fail(Reason.NOT_ENOUGH_UPDATES, why)
    if count_available(state, now) < config.minimum:  # a want of clients is no failure of theirs
        why = f"{why}; {len(state.roster)} clients are here"
        if now >= patience_end(round_.opened, config, state.roster):
            return Fail(Reason.NO_CLIENTS, why)
        return Wait(why) if now < round_.deadline else Extend(why, is_failure=False)
    if _has_everybody_raised(state, round_):
        return Fail(Reason.TASK_FAILED, f"the task raised on every client that was asked{failure_text(round_)}")
    if failures >= config.max_failed:
        return Fail(Reason.TOO_MANY_FAILED_ROUNDS, f"{failures} failed attempts in a row; {why}")
    return Extend(why)


def _has_everybody_raised(state: JobState, round_: Round) -> bool:
    raised = {client_of(name) for name, failure in round_.failures.items() if failure.raised}
    is_all_there_is = bool(raised) and not round_.folded and not state.parked and not working(state, round_)
    return is_all_there_is and all(client in raised for client in state.roster.workers)


# --- groups -----------------------------------------------------------------------------------------------------------


def due_updates(state: JobState, round_: Round, now: float) -> tuple[frozenset[AssignmentId], str]:
    """Updates that make a version now: of groups that are in or waited for long enough, and with them who came late."""
    arrived = {update.assignment for update in state.parked}
    groups = due_groups(state, round_, now)
    of = {name: work.stint.group if work.stint else ALONE for name, work in state.owed.items() if name in arrived}
    due = {name for name, group in of.items() if group in groups}
    alone = {name for name, group in of.items() if group == ALONE}
    late = {name for name, group in of.items() if group != ALONE and group not in state.groups}
    if due:
        return frozenset(due | alone | late), f"a group is in with {counted(len(due), 'update')}{_more(alone | late)}"
    if alone:
        firsts = f"{counted(len(alone), 'update')} of clients whose speed was not known"
        return frozenset(alone | late), f"in with {firsts}{_more(late)}"
    if late and not _is_any_under_way(state, round_):
        return frozenset(late), f"in with {counted(len(late), 'late update')}, and no group is under way"
    return frozenset(), ""


def _more(names: set[AssignmentId]) -> str:
    return f", and {len(names)} besides" if names else ""


def due_groups(state: JobState, round_: Round | None, now: float) -> frozenset[int]:
    """Groups of which nobody is waited for any more."""
    awaited = _awaited(state, round_)
    return frozenset(number for number, group in state.groups.items() if number not in awaited or now >= group.latest)


def _is_any_under_way(state: JobState, round_: Round) -> bool:
    awaited = _awaited(state, round_)
    return ALONE in awaited or any(number in state.groups for number in awaited)


def _awaited(state: JobState, round_: Round | None) -> frozenset[int]:
    return frozenset(work.stint.group if work.stint else ALONE for work in working(state, round_).values())


# --- time -------------------------------------------------------------------------------------------------------------


def overdue(state: JobState, round_: Round, now: float) -> dict[AssignmentId, Failure]:
    """Work that has had its time, and why it is given up."""
    late = {name: work for name, work in working(state, round_).items() if now >= work.until}
    return {name: _missed(work, state.roster) for name, work in late.items()}


def _missed(work: Owed, roster: Roster) -> Failure:
    if work.client not in roster:
        absence = Absence.QUEUED if roster.queued(work.client) else Absence.LOST
        return Failure("in a queue" if absence is Absence.QUEUED else "lost", raised=False, absence=absence)
    return Failure("no update in time", raised=False, absence=Absence.LATE)


def next_look(state: JobState, round_: Round, now: float) -> float:
    """When something may change though nothing happens."""
    ends = [work.until for work in working(state, round_).values()]
    ends += [group.latest for group in state.groups.values()]
    ends += [round_.deadline, patience_end(round_.opened, state.config, state.roster)]
    return min((end for end in ends if end > now), default=now + state.config.deadline_s)


# --- after a restart --------------------------------------------------------------------------------------------------


def taken_up(config: EngineConfig, owed: Mapping[AssignmentId, Owed], now: float) -> dict[AssignmentId, Owed]:
    """Owed work under a new coordinator: its time runs anew, and longer, for workers first have to find us."""
    if config.mode is None:
        return dict(owed)
    return {name: replace(work, until=now + config.deadline_s + GRACE_S) for name, work in owed.items()}


def groups_of(config: EngineConfig, owed: Mapping[AssignmentId, Owed], now: float) -> dict[int, Group]:
    """The groups of such work, as if they began now."""
    groups: dict[int, Group] = {}
    for work in owed.values():
        if not isinstance(config.mode, Grouped) or work.stint is None or work.stint.group == ALONE:
            continue
        begun = group_of(work.stint, config.mode.lateness, now, GRACE_S)
        known = groups.get(work.stint.group, begun)
        latest = max(known.latest, begun.latest)
        groups[work.stint.group] = replace(with_member(known, work.stint), latest=latest)
    return groups


def closes_by_count(config: EngineConfig) -> bool:
    """Whether updates are summed as they come, since any may be the last."""
    return isinstance(config.mode, Buffered)
