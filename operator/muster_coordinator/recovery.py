"""What a coordinator knows when it starts: a fold over the records of those before it.

Nothing else survives. `restore` checks that the records tell one story (rounds without gap or repeat, each from the
model before it) and gives back the progress, the plan that was under way and the late work that is still welcome.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from muster_coordinator.aggregation import noise_after
from muster_coordinator.carried import begin_with
from muster_coordinator.config import EngineConfig
from muster_coordinator.errors import StorageError
from muster_coordinator.evaluation import best_of
from muster_coordinator.history import add_round
from muster_coordinator.late import expired, owed_of
from muster_coordinator.records import AssignmentId, EvaluationRecord, KnownClient, RoundCommit, RoundPlan
from muster_coordinator.rounds import with_more
from muster_coordinator.sparsity import after_round
from muster_coordinator.state import Owed, Progress
from muster_coordinator.stepcontrol import Pace
from muster_spec.clients import ClientId

REMEMBERED = 4  # used updates of each client: a client holds at most one for each round since its last settlement


class HistoryError(StorageError):
    """The records of a job contradict one another; nothing is changed until somebody has looked."""


@dataclass(frozen=True, slots=True)
class History:
    """Every record of a job that could be read, in any order. Of the plans only the newest rounds' are needed.

    When the store sets a damaged commit aside, the records of later rounds and that round's evaluation go with it.
    """

    commits: tuple[RoundCommit, ...] = ()
    plans: tuple[RoundPlan, ...] = ()
    evaluations: tuple[EvaluationRecord, ...] = ()
    carried: Mapping[ClientId, KnownClient] = field(default_factory=dict)  # what earlier jobs knew of clients


@dataclass(frozen=True, slots=True)
class Restored:
    """What the records come to."""

    progress: Progress
    plan: RoundPlan | None  # of the round under way; all that it has, together, where it may have several
    owed: dict[AssignmentId, Owed]
    initialisers: tuple[ClientId, ...]
    next_plan: int = 0  # the number of the next plan of that round; 0: it has only the one


def restore(config: EngineConfig, history: History) -> Restored:
    """Fold the records. Raises HistoryError when they have a gap, a repeat, or name a model that is not there."""
    progress = Progress(histories=begin_with(history.carried, config.ordinals))
    for commit in sorted(history.commits, key=lambda each: each.round):
        progress = after_commit(_next_in_line(progress, commit), commit, config)
    for record in sorted(history.evaluations, key=lambda each: each.round):
        progress = after_evaluation(progress, _about(progress, record), config)
    plans = sorted(history.plans, key=lambda each: (each.round, each.attempt))
    plan, asked_first = _under_way(progress, plans), _asked_first(plans)
    if config.mode is None or progress.last is None:
        return Restored(progress, plan, _still_owed(config, history, plans), asked_first)
    ours = [each for each in plans if plan and each.round == plan.round]
    merged = functools.reduce(with_more, ours) if ours else None
    owed = _rolling_owed(config, progress.last, plans)
    return Restored(progress, merged, owed, asked_first, ours[-1].attempt + 1 if ours else 0)


def after_commit(progress: Progress, commit: RoundCommit, config: EngineConfig) -> Progress:
    """One more round is over."""
    kept = max(REMEMBERED, config.late.max_staleness + 2 if config.late and config.mode is None else 0)
    used, participations = dict(progress.used), dict(progress.participations)
    for each in commit.used:
        used[each.client] = (*used.get(each.client, ()), each.assignment)[-kept:]
        participations[each.client] = participations.get(each.client, 0) + (commit.round > 0)
    histories = progress.histories.after(commit, config.ordinals, config.contribution_decay)

    def surveyed(client: ClientId) -> float:
        return histories.surveyed_up(client, config.ordinals)

    return replace(
        progress,
        last=commit,
        used=used,
        search=after_round(progress.search or config.search, commit, surveyed),
        reach=progress.reach.after(commit),
        noise=noise_after(progress.noise, commit),
        widths=progress.widths or commit.widths,
        pace=_pace_after(progress, commit, config),
        rounds=add_round(progress.rounds, commit),
        seconds=progress.seconds + commit.seconds,
        bytes_up=progress.bytes_up + commit.bytes_up,
        bytes_down=progress.bytes_down + commit.bytes_down,
        bytes_plain=progress.bytes_plain + commit.bytes_plain,
        bytes_plain_up=progress.bytes_plain_up + commit.bytes_plain_up,
        participations=participations,
        histories=histories,
    )


def _pace_after(progress: Progress, commit: RoundCommit, config: EngineConfig) -> Pace | None:
    control = config.step_control
    return control.after(progress.pace or control.first, commit, progress.seconds + commit.seconds) if control else None


def after_evaluation(progress: Progress, record: EvaluationRecord, config: EngineConfig) -> Progress:
    """One more model is measured."""
    return replace(progress, evaluated=record, best=best_of(progress.best, record, config.goal))


def _next_in_line(progress: Progress, commit: RoundCommit) -> Progress:
    expected = progress.committed + 1
    if commit.round != expected:
        problem = "is there twice" if commit.round < expected else f"is there, but not round {expected}"
        raise HistoryError(f"rounds: the commit of round {commit.round} {problem}")
    if commit.base != progress.model:
        raise HistoryError(f"rounds: round {commit.round} started from {commit.base}, not from {progress.model}")
    return progress


def _about(progress: Progress, record: EvaluationRecord) -> EvaluationRecord:
    if record.round > progress.committed:
        raise HistoryError(f"evaluations: round {record.round} is measured, but its commit is not there")
    if progress.evaluated is not None and record.round == progress.evaluated.round:
        raise HistoryError(f"evaluations: round {record.round} is there twice")
    return record


def _under_way(progress: Progress, plans: Iterable[RoundPlan]) -> RoundPlan | None:
    newest: RoundPlan | None = None
    for plan in plans:
        if newest is not None and (plan.round, plan.attempt) == (newest.round, newest.attempt):
            raise HistoryError(f"plans: attempt {plan.attempt} of round {plan.round} is there twice")
        newest = plan
    if newest is None or newest.round <= progress.committed:
        return None
    if newest.round > progress.committed + 1:
        raise HistoryError(f"plans: round {newest.round} is planned, but round {newest.round - 1} is not committed")
    if newest.base != progress.model:
        raise HistoryError(f"plans: round {newest.round} starts from {newest.base}, not from {progress.model}")
    return newest


def _still_owed(config: EngineConfig, history: History, plans: Iterable[RoundPlan]) -> dict[AssignmentId, Owed]:
    wanted = {(commit.round, commit.attempt): frozenset(commit.owed) for commit in history.commits}
    used = {each.assignment for commit in history.commits for each in commit.used}
    owed: dict[AssignmentId, Owed] = {}
    for plan in plans:
        owed.update(owed_of(plan, wanted.get((plan.round, plan.attempt), frozenset()) - used))
    gone = expired(owed, max((commit.round for commit in history.commits), default=-1), config.late)
    return {name: work for name, work in owed.items() if name not in gone}


def _rolling_owed(config: EngineConfig, last: RoundCommit, plans: Iterable[RoundPlan]) -> dict[AssignmentId, Owed]:
    """What the newest commit left open, and what has been planned since. Of a client's work only the newest is wanted.

    Whatever came before it has been given up, or nothing else would have been asked of that client.
    """
    open_, newest = frozenset(last.owed), dict[ClientId, tuple[AssignmentId, Owed]]()
    for plan in plans:
        is_planned_since = plan.round > last.round
        names = [each.assignment for each in plan.cohort if is_planned_since or each.assignment in open_]
        newest |= {work.client: (name, work) for name, work in owed_of(plan, names).items()}
    owed = dict(newest.values())
    gone = expired(owed, last.round, config.late)
    return {name: work for name, work in owed.items() if name not in gone}


def _asked_first(plans: Iterable[RoundPlan]) -> tuple[ClientId, ...]:
    asked = [plan.cohort[0].client for plan in plans if plan.round == 0]
    return tuple(dict.fromkeys(reversed(asked)))[::-1]
