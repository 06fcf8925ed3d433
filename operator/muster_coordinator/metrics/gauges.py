"""What is so right now, read off the engine's state when Prometheus asks. Pure.

Read off the state and not counted along, so that a coordinator that starts again says at once what the one before it
said.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from muster_coordinator.assignments import client_of
from muster_coordinator.metrics.changes import pool_of
from muster_coordinator.records import PlannedClient, Scores
from muster_coordinator.rolling import working
from muster_coordinator.rounds import mean_metrics
from muster_coordinator.state import (
    Collecting,
    Committing,
    Evaluating,
    Finished,
    Gathering,
    JobState,
    LoadingModel,
    Planning,
    Progress,
    Roster,
    Round,
    StoringEvaluation,
)

PHASES = {
    LoadingModel: "loading",
    Gathering: "gathering",
    Planning: "planning",
    Collecting: "collecting",
    Committing: "committing",
    Evaluating: "evaluating",
    StoringEvaluation: "evaluating",
    Finished: "finished",
}
COHORT = ("working", "away", "received", "failed")
ALWAYS_SHOWN = ("accuracy", "loss")  # of all that a task measures; names come from clients, so not all are


@dataclass(frozen=True, slots=True)
class Gauge:
    """One value that is so now."""

    family: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


def gauges_of(state: JobState, started: float) -> Iterator[Gauge]:
    """Of a job; `started` is when this coordinator began (Unix time)."""
    config, progress = state.config, state.progress
    yield Gauge("muster_round", _round_number(state))
    yield Gauge("muster_round_committed", max(progress.committed, 0))
    yield Gauge("muster_rounds_target", config.total)
    yield Gauge("muster_round_deadline_seconds", config.deadline_s)
    yield Gauge("muster_clients_needed", config.minimum)
    yield Gauge("muster_progress_timestamp_seconds", max(started, _last_commit(progress)))
    for phase in dict.fromkeys(PHASES.values()):
        yield Gauge("muster_round_phase", PHASES[type(state.phase)] == phase, (("phase", phase),))
    yield from _clients(state)
    yield from _cohort(state)
    yield from _scores(state)


def _round_number(state: JobState) -> int:
    match state.phase:
        case Collecting(round_) | Committing(round_):
            return round_.number
        case Planning(plan):
            return plan.round
        case Gathering() as gathering:
            return gathering.round
        case _:
            return max(state.progress.committed, 0)


def _last_commit(progress: Progress) -> float:
    return progress.last.started_s + progress.last.seconds if progress.last else 0.0


def _clients(state: JobState) -> Iterator[Gauge]:
    here = Counter(map(pool_of, state.roster.workers))
    queued = Counter(pool_of(client) for client, _ in state.roster.queues.waiting(state.roster.workers))
    for pool in state.config.pools:
        counts = {"here": here[pool.name], "queued": queued[pool.name]}
        counts["away"] = pool.clients - counts["here"] - counts["queued"]
        for name, count in counts.items():
            yield Gauge("muster_clients", count, (("pool", pool.name), ("state", name)))


def _cohort(state: JobState) -> Iterator[Gauge]:
    """All zero between two rounds, rather than absent."""
    counts: Counter[tuple[str, str]] = Counter()
    if isinstance(state.phase, (Collecting, Committing)):
        round_ = state.phase.round
        counts.update(_rolling(state, round_) if round_.is_rolling else _standings(round_, state.roster))
    for pool, standing in itertools.product((pool.name for pool in state.config.pools), COHORT):
        yield Gauge("muster_cohort_clients", counts[pool, standing], (("pool", pool), ("state", standing)))


def _standings(round_: Round, roster: Roster) -> Iterator[tuple[str, str]]:
    return ((pool_of(one.client), _standing(one, round_, roster)) for one in round_.plan.cohort)


def _rolling(state: JobState, round_: Round) -> Iterator[tuple[str, str]]:
    """Of a round that nobody waits for: all work that is owed, whichever version it began from."""
    at_work = working(state, round_)
    for name, work in state.owed.items():
        is_here = "working" if work.client in state.roster else "away"
        yield pool_of(work.client), is_here if name in at_work else "received"
    for name in round_.failures:
        yield pool_of(client_of(name)), "failed"


def _standing(planned: PlannedClient, round_: Round, roster: Roster) -> str:
    if planned.assignment in round_.updates:
        return "received"
    if planned.assignment in round_.failures:
        return "failed"
    return "working" if planned.client in roster else "away"


def _scores(state: JobState) -> Iterator[Gauge]:
    measured, last = state.progress.evaluated, state.progress.last
    if last is not None and last.used:
        yield from _scores_on("training", mean_metrics(last.fresh), state)
    if measured is not None:
        yield from _scores_on("central", _metrics(measured.central), state)
        yield from _scores_on("federated", _metrics(measured.federated), state)


def _metrics(scores: Scores | None) -> Mapping[str, float]:
    return scores.metrics if scores else {}


def _scores_on(where: str, metrics: Mapping[str, float], state: JobState) -> Iterator[Gauge]:
    goal = state.config.goal
    for name in (*ALWAYS_SHOWN, *([goal.metric] if goal and goal.metric not in ALWAYS_SHOWN else [])):
        if name in metrics:
            yield Gauge("muster_model_score", metrics[name], (("on", where), ("metric", name)))
