"""One attempt at a round: what comes in, in which order it is summed, and when the round closes.

`decide_closing` is the whole policy of deadlines, fastest-K and failed attempts; the engine only carries out what it
answers. Each answer says why, for people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec

from muster_coordinator.assignments import client_of
from muster_coordinator.config import EngineConfig
from muster_coordinator.events import UpdateStaged
from muster_coordinator.instructions import Fold, Reason
from muster_coordinator.records import Absence, AssignmentId, RoundCommit, RoundPlan, UsedUpdate
from muster_coordinator.state import Failure, Roster, Round
from muster_coordinator.weighing import Weighing
from muster_spec.clients import ClientId

BY_EXAMPLES = Weighing()
IN_AT_DEADLINE = "updates are in at the deadline"  # of a round that the deadline closed; simulations count those
MAKERS = 3  # processes that a client may lose over the first model: a task that kills its process kills them all
_DEADLY = f"its worker process ended {MAKERS} times while it made the first model; is there memory enough?"

# --- decisions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do yet."""

    why: str


@dataclass(frozen=True, slots=True)
class Commit:
    """Make the next model of what is in."""

    why: str


@dataclass(frozen=True, slots=True)
class Retry:
    """Give this attempt up and make another with a new cohort."""

    why: str


@dataclass(frozen=True, slots=True)
class Extend:
    """Let the deadline run once more; everything that is in stays in. It is a failure unless clients are away."""

    why: str
    is_failure: bool = True


@dataclass(frozen=True, slots=True)
class Fail:
    """The job is over."""

    reason: Reason
    why: str


Closing = Wait | Commit | Retry | Extend | Fail


def decide_closing(round_: Round, config: EngineConfig, roster: Roster, now: float) -> Closing:
    """Whether the round is over, and how."""
    if round_.number == 0:
        return _decide_first_model(round_, now)
    arrived, possible, plan = len(round_.updates), len(round_.updates) + round_.outstanding, round_.plan
    if arrived >= plan.close_at or (arrived >= plan.minimum and round_.outstanding == _too_far_back(round_, roster)):
        return Commit(f"{arrived} of {plan.close_at} updates are in and nobody else is waited for")
    if possible < plan.minimum and not _may_be_the_task(round_):
        return _insufficient(round_, config, roster, f"only {possible} of at least {plan.minimum} updates are possible")
    if now < round_.deadline:
        return Wait(f"{arrived} of {plan.close_at} updates, {round_.deadline - now:.0f} s left")
    if arrived >= plan.minimum:
        return Commit(f"{arrived} {IN_AT_DEADLINE}")
    return _insufficient(round_, config, roster, f"{arrived} of at least {plan.minimum} updates by the deadline")


def _too_far_back(round_: Round, roster: Roster) -> int:
    """How many were sent back to a queue in the midst of the round, and should come out of it only after its deadline.

    It is no reason to give a round up: estimates are often too long.
    """
    if not roster.queues.allocations:
        return 0
    waits = (roster.queued(each.client) for each in round_.plan.cohort if round_.is_outstanding(each.assignment))
    return sum(wait is not None and (wait.starts or 0.0) > round_.deadline for wait in waits)


def _decide_first_model(round_: Round, now: float) -> Closing:
    """One trusted client makes the first model; who is asked after it, and how often, gathering.py decides."""
    client = round_.plan.cohort[0].client
    if round_.updates:
        return Commit("the first model is here")
    if round_.failures:
        return Retry(f"no first model{first_failure(round_)}")
    if now < round_.deadline:
        return Wait(f"{client} makes the first model, {round_.deadline - now:.0f} s left")
    return Retry(f"{client} sent no first model in time")


def _insufficient(round_: Round, config: EngineConfig, roster: Roster, why: str) -> Closing:
    failures = round_.failed_before + 1
    is_last = failures >= config.max_failed or config.on_insufficient == "Fail"
    why = f"round {round_.number}: {why}{first_failure(round_)}"
    if has_everybody_raised(round_) and (is_last or _others(round_, roster) == 0):
        return Fail(Reason.TASK_FAILED, f"the task raised on every client that was asked{first_failure(round_)}")
    if config.on_insufficient == "Fail":
        return Fail(Reason.NOT_ENOUGH_UPDATES, why)
    if is_last:
        return Fail(Reason.TOO_MANY_FAILED_ROUNDS, f"{failures} failed attempts in a row; {why}")
    if config.on_insufficient == "Extend" and len(round_.updates) + round_.outstanding >= round_.plan.minimum:
        return Extend(why)
    return Retry(why)


def has_everybody_raised(round_: Round) -> bool:
    """Whether the task's own code failed on the whole cohort."""
    return len(round_.failures) == len(round_.places) and all(each.raised for each in round_.failures.values())


def _may_be_the_task(round_: Round) -> bool:
    """Everybody heard of so far has raised: whether the rest does too decides between a bad client and a bad task."""
    return round_.outstanding > 0 and not round_.updates and all(each.raised for each in round_.failures.values())


def _others(round_: Round, roster: Roster) -> int:
    """Clients here that this attempt did not ask."""
    return len(roster) - sum(planned.client in roster for planned in round_.plan.cohort)


def first_failure(round_: Round) -> str:
    """For messages: the first of the cohort that failed, and why."""
    for planned in round_.plan.cohort:
        if planned.assignment in round_.failures:
            return f"; {planned.client}: {round_.failures[planned.assignment].reason}"
    return ""


def failure_text(round_: Round) -> str:
    """The same of a rolling round, in whose version work of earlier ones may fail."""
    return next((f"; {client_of(name)}: {failed.reason}" for name, failed in round_.failures.items()), "")


# --- what happens within a round --------------------------------------------------------------------------------------


def open_round(plan: RoundPlan, now: float, weighing: Weighing = BY_EXAMPLES, *, is_rolling: bool = False) -> Round:
    """The deadline runs from now. A rolling round has no places: its work is owed."""
    places = {} if is_rolling else {planned.assignment: place for place, planned in enumerate(plan.cohort)}
    next_plan = plan.attempt + 1
    return Round(
        plan, now, now + plan.deadline_s, places, weighing=weighing, is_rolling=is_rolling, next_plan=next_plan
    )


def with_more(plan: RoundPlan, more: RoundPlan) -> RoundPlan:
    """All whom a rolling round has asked so far, in the order in which it did."""
    return msgspec.structs.replace(plan, cohort=(*plan.cohort, *more.cohort), absences=more.absences)


def reopen_round(
    plan: RoundPlan, now: float, reconnect_s: float, weighing: Weighing = BY_EXAMPLES, next_plan: int = 0
) -> Round:
    """After a restart the deadline runs anew, and longer, for workers first have to find the coordinator.

    `next_plan`: of a rolling round, the number of its next plan.
    """
    opened = open_round(plan, now, weighing, is_rolling=next_plan > 0)
    opened = replace(opened, next_plan=next_plan) if next_plan else opened
    deadline = (now if plan.round == 0 else opened.deadline) + reconnect_s
    return replace(opened, deadline=deadline, is_timed=False)


def shift_first_model(round_: Round, roster: Roster, now: float, reconnect_s: float) -> Round:
    """Anybody trusted could make the first model: an absent client is waited for only so long as it may reconnect."""
    planned = round_.plan.cohort[0]
    if round_.number or not round_.outstanding:
        return round_
    if planned.client not in roster:
        return replace(round_, deadline=min(round_.deadline, now + reconnect_s))
    makers = round_.makers | {roster.workers[planned.client]}
    if len(makers) > MAKERS:
        return give_up(round_, planned.assignment, Failure(_DEADLY, raised=True))[0]
    return replace(round_, deadline=now + round_.plan.deadline_s, makers=makers)


def extend(round_: Round, now: float, *, is_failure: bool = True) -> Round:
    """The deadline runs once more, from now."""
    extensions = round_.extensions + is_failure
    return replace(round_, deadline=now + round_.plan.deadline_s, extensions=extensions)


def receive(round_: Round, update: UpdateStaged, now: float) -> tuple[Round, list[Fold]]:
    """Take an outstanding update in, and sum what is in turn."""
    update = replace(update, elapsed_s=now - round_.opened if round_.is_timed else 0.0)
    round_ = replace(round_, updates={**round_.updates, update.assignment: update})
    if round_.keeps_order:
        return _fold_in_turn(round_)
    return _fold(round_, [update])


def give_up(round_: Round, assignment: AssignmentId, failure: Failure) -> tuple[Round, list[Fold]]:
    """Don't wait for this one any more; whoever stood behind it may be in turn now."""
    round_ = replace(round_, failures={**round_.failures, assignment: failure})
    return _fold_in_turn(round_) if round_.keeps_order else (round_, [])


def fold_rest(round_: Round) -> tuple[Round, list[Fold]]:
    """At closing: whoever waited for a turn that never came, or for what the others weigh."""
    if round_.keeps_order:
        behind = [planned.assignment for planned in round_.plan.cohort[round_.turn :]]
        round_, folds = _fold(round_, [round_.updates[name] for name in behind if name in round_.updates])
        round_ = replace(round_, turn=len(round_.places))
    else:
        folds = []
    return _fold_together(round_) if round_.waits else (round_, folds)


def add_late(round_: Round, used: UsedUpdate) -> tuple[Round, list[Fold]]:
    """Sum an update of an earlier round. It comes on top: the round still wants its own."""
    return _add(replace(round_, late=round_.late | {used.assignment}), (used,))


def _fold_in_turn(round_: Round) -> tuple[Round, list[Fold]]:
    cohort, turn, due = round_.plan.cohort, round_.turn, []
    while turn < len(cohort) and not round_.is_outstanding(cohort[turn].assignment):
        if cohort[turn].assignment in round_.updates:
            due.append(round_.updates[cohort[turn].assignment])
        turn += 1
    return _fold(replace(round_, turn=turn), due)


def _fold(round_: Round, updates: list[UpdateStaged]) -> tuple[Round, list[Fold]]:
    return _add(round_, tuple(used_update(update, round_.number) for update in updates))


def _add(round_: Round, used: tuple[UsedUpdate, ...]) -> tuple[Round, list[Fold]]:
    """Into the sum; not yet, where what they weigh hangs on who else comes."""
    if round_.waits:
        return replace(round_, folded=(*round_.folded, *used)), []
    if round_.number:
        used = tuple(one for each in used for one in round_.weighing.weigh([each]))
    return replace(round_, folded=(*round_.folded, *used)), _folds(round_, used)


def _fold_together(round_: Round) -> tuple[Round, list[Fold]]:
    """Late ones first, then in the cohort's order: whoever came when, the sum has the same bits."""
    order = sorted(round_.folded, key=lambda each: round_.places.get(each.assignment, -1))
    used = round_.weighing.weigh(order)
    return replace(round_, folded=used), _folds(round_, used)


def _folds(round_: Round, used: tuple[UsedUpdate, ...]) -> list[Fold]:
    beside = round_.weighing.strategy.beside if round_.number else _nothing
    return [Fold(each.assignment, each.weight, beside(each)) for each in used]


def _nothing(_: UsedUpdate) -> float:
    return 0.0


def used_update(update: UpdateStaged, round_number: int, discount: float = 1.0) -> UsedUpdate:
    """What goes into the record. It has no weight yet, and a first model, which is no update, needs none: 1."""
    return UsedUpdate(
        client=update.client,
        assignment=update.assignment,
        round=round_number,
        examples=update.examples,
        weight=1.0,
        steps=update.steps,
        metrics=dict(update.metrics),
        train_s=update.train_ms / 1000,
        upload_s=update.upload_s,
        losses=update.losses,
        memory_lost=update.memory_lost,
        elapsed_s=round(max(update.elapsed_s, 0.0), 3),
        size_bytes=update.size_bytes,
        norm=update.norm,
        missing=update.missing,
        discount=discount * update.factor if round_number else 1.0,
    )


def failed_clients(round_: Round, roster: Roster, why: str) -> dict[ClientId, str]:
    """Who was asked and is not in the sum, and why."""
    failed: dict[ClientId, str] = {}
    for planned in round_.plan.cohort:
        if planned.assignment in round_.failures:
            failed[planned.client] = round_.failures[planned.assignment].reason
        elif planned.assignment not in round_.updates:
            failed[planned.client] = _why_missing(planned.client, roster, why)
    return failed


def _why_missing(client: ClientId, roster: Roster, why: str) -> str:
    if roster.queued(client):
        return "in a queue"
    return f"no update when the round closed ({why})" if client in roster else "lost"


def absences(round_: Round, roster: Roster, now: float) -> dict[ClientId, Absence]:
    """The same, as selectors judge it."""
    still_out = Absence.OVERTAKEN if now < round_.deadline else Absence.LATE
    found: dict[ClientId, Absence] = {}
    for planned in round_.plan.cohort:
        if planned.assignment in round_.failures:
            found[planned.client] = Absence.FAILED
        elif planned.assignment not in round_.updates:
            gone = Absence.QUEUED if roster.queued(planned.client) else Absence.LOST
            found[planned.client] = still_out if planned.client in roster else gone
    return found


def in_queue(round_: Round, roster: Roster) -> int:
    """How many of those that are waited for are in a queue."""
    return sum(each is Absence.QUEUED for each in absences(round_, roster, round_.deadline).values())


def queued_of(commit: RoundCommit) -> list[ClientId]:
    """Who is missing from a round for being in a queue, rather than for anybody's fault."""
    return [client for client in commit.failed if commit.absences.get(client) is Absence.QUEUED]


def mean_metrics(fresh: Sequence[UsedUpdate]) -> Mapping[str, float]:
    """Training metrics averaged by weight, each over those who reported it."""
    return {name: _mean(name, fresh) for name in sorted({name for each in fresh for name in each.metrics})}


def _mean(name: str, used: Sequence[UsedUpdate]) -> float:
    parts = [(each.metrics[name], each.weight) for each in used if name in each.metrics]
    return sum(value * weight for value, weight in parts) / sum(weight for _, weight in parts)
