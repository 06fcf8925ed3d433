"""How good the newest model is: when it is measured, by whom, and what follows from the result.

Central: one trusted client measures it on the task's test set. Federated: this round's cohort measures it, each on its
own held-out data. Both are averaged over examples in the order of client names, so that arrival order changes no bit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from muster_coordinator.claims import is_measured
from muster_coordinator.config import EngineConfig, Goal
from muster_coordinator.records import EvaluationRecord, RoundCommit, Scores
from muster_coordinator.state import Best, Evaluating, Roster
from muster_spec.clients import ClientId

AWAY = "away"  # the reason of a client of the cohort that isn't connected when the model is measured
LOWER_IS_BETTER = ("loss", "error", "perplexity")


def is_due(config: EngineConfig, round_number: int) -> bool:
    """Every few rounds, and after the last one."""
    if round_number < 1 or not (config.central or config.federated):
        return False
    return round_number >= config.total or (config.evaluate_every > 0 and round_number % config.evaluate_every == 0)


def begin(config: EngineConfig, commit: RoundCommit, *, central: bool, restored: bool, now: float) -> Evaluating:
    """Measure the model of this commit. `central`: the task may have a test set."""
    cohort = {each.client for each in commit.fresh} | commit.failed.keys()
    return Evaluating(
        round=commit.round,
        model=commit.model,
        until=now + config.evaluation_timeout_s,
        restored=restored,
        waiting=frozenset(cohort if config.federated else ()),
        central_wanted=config.central and central,
    )


def next_evaluator(
    phase: Evaluating, config: EngineConfig, roster: Roster, busy: Collection[ClientId] = ()
) -> ClientId | None:
    """The first trusted client here that has not failed at this; rather one that isn't at work."""
    usable = [c for c in config.clients if c in roster and c not in phase.tried and config.is_trusted(c)]
    return next((c for c in usable if c not in busy), usable[0] if usable else None)


def report_local(phase: Evaluating, client: ClientId, scores: Scores) -> Evaluating:
    """One client of the cohort has measured the model."""
    measured = {**phase.local, client: scores} if scores.examples > 0 else phase.local
    return replace(phase, local=measured, waiting=phase.waiting - {client})


def give_up_local(phase: Evaluating, clients: Iterable[ClientId], reason: str) -> Evaluating:
    """These clients of the cohort will not measure it."""
    gone = phase.waiting.intersection(clients)
    return replace(
        phase, waiting=phase.waiting - gone, missing={**phase.missing, **dict.fromkeys(sorted(gone), reason)}
    )


def give_up_central(phase: Evaluating, reason: str) -> Evaluating:
    """The one who was asked can't do it: somebody else may."""
    if phase.evaluator is None:
        return phase
    missing = {**phase.missing, phase.evaluator: reason}
    return replace(phase, evaluator=None, tried=phase.tried | {phase.evaluator}, missing=missing)


def is_over(phase: Evaluating, now: float) -> bool:
    """Whether everybody has answered, or had the time to."""
    return now >= phase.until or not (phase.waiting or phase.central_wanted)


def record_of(phase: Evaluating) -> EvaluationRecord:
    """What has been measured, and who is missing from it."""
    late = dict.fromkeys(sorted(phase.waiting), "no result in time")
    if phase.central_wanted and phase.evaluator is not None:
        late[phase.evaluator] = "no result in time"
    return EvaluationRecord(
        round=phase.round,
        model=phase.model,
        central=phase.central,
        federated=average(phase.local),
        missing={**late, **phase.missing},
    )


def average(measured: Mapping[ClientId, Scores]) -> Scores | None:
    """Each metric over the examples of those who reported it."""
    if not measured:
        return None
    parts = [measured[client] for client in sorted(measured)]
    names = sorted({name for part in parts for name in part.metrics})
    metrics = {
        name: sum(part.metrics[name] * part.examples for part in parts if name in part.metrics)
        / sum(part.examples for part in parts if name in part.metrics)
        for name in names
    }
    return Scores(metrics=metrics, examples=sum(part.examples for part in parts), clients=len(parts))


def scores_of(examples: int, metrics: Mapping[str, float]) -> Scores:
    """One client's result; what is not a number is left out."""
    usable = {name: float(value) for name, value in metrics.items() if is_measured(value)}
    return Scores(metrics=usable, examples=max(examples, 0), clients=1)


def undefined_metrics(metrics: Mapping[str, float]) -> list[str]:
    """What `scores_of` leaves out."""
    return sorted(name for name, value in metrics.items() if not is_measured(value))


def concerns(record: EvaluationRecord, before: EvaluationRecord | None, goal: Goal | None) -> list[str]:
    """What somebody should know about a measurement; what was so the last time has been said."""
    known = {AWAY, *(before.missing.values() if before else ())}
    news = {reason: client for client, reason in record.missing.items() if reason not in known}
    where = f"evaluation of round {record.round}"
    return [*(f"{where}: {client}: {reason}" for reason, client in news.items()), *_goal_concerns(record, before, goal)]


def _goal_concerns(record: EvaluationRecord, before: EvaluationRecord | None, goal: Goal | None) -> list[str]:
    metrics = sorted({name for scores in (record.central, record.federated) if scores for name in scores.metrics})
    if goal is None or before is not None or not metrics or goal.metric in metrics:
        return []
    why = f"the task measures no {goal.metric}, so the target can't be reached; it measures {', '.join(metrics)}"
    return [f"spec.rounds.target.metric: {why}"]


# --- what follows -----------------------------------------------------------------------------------------------------


def is_better(metric: str, value: float, than: float) -> bool:
    """Whether a value beats another; less is better for losses, errors and perplexities."""
    lower = any(word in metric.lower() for word in LOWER_IS_BETTER)
    return value < than if lower else value > than


def value_in(record: EvaluationRecord, metric: str) -> float | None:
    """On the task's test set if it was measured there, else on the clients' own data."""
    for scores in (record.central, record.federated):
        if scores is not None and metric in scores.metrics:
            return scores.metrics[metric]
    return None


def best_of(best: Best | None, record: EvaluationRecord, goal: Goal | None) -> Best | None:
    """The better of the two by the goal's metric, else accuracy, else loss; the earlier one when they are equal."""
    for metric in (goal.metric,) if goal else ("accuracy", "loss"):
        value = value_in(record, metric)
        if value is not None and (best is None or best.metric == metric):
            better = best is None or is_better(metric, value, best.value)
            return Best(record.round, record.model, metric, value) if better else best
    return best


def has_reached(goal: Goal | None, record: EvaluationRecord | None) -> bool:
    """Whether the model is as good as the job asks for."""
    if goal is None or record is None:
        return False
    value = value_in(record, goal.metric)
    return value is not None and (value == goal.value or is_better(goal.metric, value, goal.value))


def has_stalled(patience: int | None, best: Best | None, newest: EvaluationRecord | None) -> bool:
    """No better model for as many rounds as the job is patient, as far as has been measured."""
    if patience is None or best is None or newest is None:
        return False
    return newest.round - best.round >= patience
