"""What `status.training` of the job should say: a pure function of the engine's state.

Told from the state each time anew, not from events as they pass: the same words come out whoever asks, after a restart
too, and a write that was lost is made up for by the next. crds/federatedjobs.yaml describes the fields, and a test
holds the two equal.
"""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from muster_coordinator.gathering import decide_gathering, left_out
from muster_coordinator.instructions import Outcome
from muster_coordinator.records import EvaluationRecord, RoundPlan
from muster_coordinator.rolling import working
from muster_coordinator.rounds import Wait
from muster_coordinator.shown import BestShown, ClientsShown, PoolShown, RoundShown, TrafficShown, Training
from muster_coordinator.state import (
    Collecting,
    Committing,
    Evaluating,
    Finished,
    Gathering,
    JobState,
    LoadingModel,
    Phase,
    Planning,
    Progress,
    Roster,
    Round,
    RoundSummary,
    StoringEvaluation,
)
from muster_spec.clients import ClientId
from muster_spec.wording import percent, seconds, size

METRICS_SHOWN = 64
ROUNDS_FOR_PACE = 10
LEAST_SAVED = 0.005  # frames and headers are no compression, and neither is what rounds to nothing
NO_QUORUM = "NoQuorum"
QUORUM_PATIENCE_S = 30.0
_LONGEST_REASON = 1024


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What the engine doesn't know. `now` is on its clock, and `clock_offset_s` makes Unix time of that."""

    clock_offset_s: float
    now: float


def training_of(state: JobState, around: Circumstances) -> Training:
    """What the job's status should say now."""
    progress, round_ = state.progress, _open_round(state)
    last = state.failed_attempt or (progress.rounds[-1] if progress.rounds else None)
    measured = progress.evaluated
    best, lacking = progress.best, _lacking(state, around.now)
    return Training(
        reason=NO_QUORUM if lacking else None,
        message=lacking or None,
        epoch=state.config.epoch,
        phase=_phase(state),
        round=max(progress.committed, 0),
        attempt=_attempt(state),
        progress=min(100, 100 * max(progress.committed, 0) // max(state.config.total, 1)),
        deadline=_deadline(state, around.clock_offset_s),
        estimated_completion_time=moment(estimated_end_s(progress, state.config.total)) if _goes_on(state) else None,
        accuracy=_accuracy(measured),
        metrics=_metrics_of(measured),
        best=BestShown(round=best.round, metric=best.metric[:64], value=best.value, model=best.model) if best else None,
        model=progress.model or None,
        compression=describe_compression(state.config.compression, progress),
        clients=_clients(state, round_),
        traffic=TrafficShown(
            up=size(progress.bytes_up),
            down=size(progress.bytes_down),
            up_bytes=progress.bytes_up,
            down_bytes=progress.bytes_down,
        ),
        last_round=_shown(last) if last else None,
        history=tuple(map(_shown, progress.rounds)),
    )


# --- where it is ------------------------------------------------------------------------------------------------------


_PHASES: Mapping[type[Phase], str] = {
    LoadingModel: "Initialising",
    Gathering: "Gathering",
    Planning: "Collecting",
    Collecting: "Collecting",
    Committing: "Committing",
    Evaluating: "Evaluating",
    StoringEvaluation: "Evaluating",
    Finished: "Finished",
}


def _phase(state: JobState) -> str:
    match state.phase:
        case Finished(outcome=Outcome.SUSPENDED):
            return "Suspended"
        case Planning(RoundPlan(round=0)) | Collecting(Round(plan=RoundPlan(round=0))):
            return "Initialising"
        case phase:
            return _PHASES[type(phase)]


def _deadline(state: JobState, clock_offset_s: float) -> str | None:
    return moment(state.phase.round.deadline + clock_offset_s) if isinstance(state.phase, Collecting) else None


def _open_round(state: JobState) -> Round | None:
    return state.phase.round if isinstance(state.phase, Collecting | Committing) else None


def _attempt(state: JobState) -> int | None:
    match state.phase:
        case Gathering(attempt=attempt):
            return attempt
        case Planning(plan):
            return plan.attempt
        case Collecting(round_) | Committing(round_):
            return round_.failed_before if round_.is_rolling else round_.plan.attempt
        case _:
            return None


def _clients(state: JobState, round_: Round | None) -> ClientsShown:
    if isinstance(state.phase, Finished) and state.phase.outcome is Outcome.SUSPENDED:
        state = replace(state, roster=Roster())  # nobody is connected to who has left
    connected, total = len(state.roster), len(state.config.clients)
    queued = {client for client, _ in state.roster.queues.waiting(state.roster.workers)}
    training, submitted = _at_work(state, round_)
    return ClientsShown(
        summary=f"{connected}/{total}",
        total=total,
        connected=connected,
        training=training,
        submitted=submitted,
        excluded=len(left_out(state)),
        queued=len(queued),
        lost=len(state.roster.gone - queued),
        pools=_pools(state, queued),
    )


def _at_work(state: JobState, round_: Round | None) -> tuple[int, int]:
    """How many clients are training, and how many of their updates wait for the round to close."""
    if state.config.mode:
        at_work = [work.client in state.roster for work in working(state, round_).values()]
        return sum(at_work), len(state.owed) - len(at_work)
    if round_ is None:
        return 0, 0
    here = [each for each in round_.plan.cohort if each.client in state.roster]
    return sum(round_.is_outstanding(each.assignment) for each in here), len(round_.updates)


def _pools(state: JobState, queued: Iterable[ClientId]) -> tuple[PoolShown, ...]:
    here, waiting = (Counter(each.rpartition("/")[0] for each in some) for some in (state.roster.workers, queued))
    return tuple(
        PoolShown(name=pool.name, total=pool.clients, connected=here[pool.name], queued=waiting[pool.name])
        for pool in state.config.pools
    )


def _lacking(state: JobState, now: float) -> str:
    """Who is missing, once a round has waited for them for a while; empty if it is not for want of clients."""
    if not isinstance(state.phase, Gathering) or now < state.phase.since + QUORUM_PATIENCE_S:
        return ""
    decided = decide_gathering(state, state.phase, now)
    return decided.why[:_LONGEST_REASON] if isinstance(decided, Wait) else ""


# --- when it will be done ---------------------------------------------------------------------------------------------


def _goes_on(state: JobState) -> bool:
    return not state.is_finished and bool(state.progress.rounds)


def estimated_end_s(progress: Progress, total: int) -> float:
    """Unix time at which the last round should be over, at the pace of the last few. There has to be one."""
    newest = progress.rounds[-1]
    return _end_s(newest) + _pace_s(progress.rounds) * max(total - progress.committed, 0)


def _pace_s(rounds: Sequence[RoundSummary]) -> float:
    """Seconds from one round's end to the next, evaluations and waiting among them; pauses of the job are not."""
    recent = [each for each in rounds[-ROUNDS_FOR_PACE:] if each.epoch == rounds[-1].epoch]
    if len(recent) < 2:
        return recent[-1].seconds
    return max(0.0, _end_s(recent[-1]) - _end_s(recent[0])) / (recent[-1].round - recent[0].round)


def _end_s(summary: RoundSummary) -> float:
    return (summary.started_s or 0.0) + summary.seconds


# --- how good it is ---------------------------------------------------------------------------------------------------


def _accuracy(measured: EvaluationRecord | None) -> str | None:
    value = (_metrics_of(measured) or {}).get("accuracy")
    return percent(value) if value is not None else None


def _metrics_of(record: EvaluationRecord | None) -> Mapping[str, float] | None:
    """On the task's test set where it was measured there. What the clients measured beside it is `federated/…`."""
    if record is None:
        return None
    central = record.central.metrics if record.central else {}
    federated = record.federated.metrics if record.federated else {}
    beside = {name if name not in central else f"federated/{name}": value for name, value in federated.items()}
    return _finite({**central, **beside})


def _finite(metrics: Mapping[str, float]) -> Mapping[str, float] | None:
    """What JSON has a number for, and no more than the schema has room for."""
    usable = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return {name: usable[name] for name in sorted(usable)[:METRICS_SHOWN]} or None


# --- rounds -----------------------------------------------------------------------------------------------------------


def _shown(summary: RoundSummary) -> RoundShown:
    return RoundShown(
        round=summary.round,
        summary=_sentence(summary),
        outcome=summary.outcome,
        reason=summary.reason[:_LONGEST_REASON],
        start_time=moment(summary.started_s) if summary.started_s is not None else None,
        seconds=round(summary.seconds, 3),
        asked=summary.asked,
        used=summary.used,
        rejected=summary.rejected,
        stragglers=summary.stragglers,
        queued=summary.queued,
        up_bytes=summary.bytes_up,
        down_bytes=summary.bytes_down,
        metrics=_finite(summary.metrics),
    )


def _sentence(summary: RoundSummary) -> str:
    sent = summary.asked - summary.rejected - summary.stragglers - summary.queued
    late = f" and {summary.used - sent} late" if summary.used > sent else ""
    failed = "" if summary.used else ", failed"
    return f"{sent} of {summary.asked}{late} in {seconds(summary.seconds)}{failed}"


def moment(unix: float) -> str:
    """As Kubernetes writes times: 2026-01-31T12:00:00Z."""
    return dt.datetime.fromtimestamp(int(unix), dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- bytes ------------------------------------------------------------------------------------------------------------


def describe_compression(codecs: str, progress: Progress) -> str:
    """The codecs that are in use, and the share of bytes that they save so far, each way where it is any."""
    ways = {"up": progress.saved_up, "down": progress.saved_down}
    saved = ", ".join(f"{percent(share)} {way}" for way, share in ways.items() if share >= LEAST_SAVED)
    return f"{codecs}; saved {saved}" if saved else codecs
