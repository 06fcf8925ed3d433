"""What people hear of each step: the engine's half of the coordinator's progress lines (docs/architecture.md).

Field names are those of the lines on standard output; the driver adds times and what only it can measure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from muster_coordinator.config import EngineConfig
from muster_coordinator.events import ClientsJoined, ClientsProfiled, UpdateStaged
from muster_coordinator.instructions import Finish, Tell
from muster_coordinator.records import EvaluationRecord, RoundCommit, RoundPlan, Scores, Stint
from muster_coordinator.rounds import mean_metrics, queued_of
from muster_coordinator.state import Progress
from muster_spec.clients import ClientId
from muster_spec.wording import counted


def place_of(told: Tell) -> dict[str, object]:
    """Where in the job it happened, for whoever sorts log lines: the round, the client, its pool."""
    place = {name: told.details[name] for name in ("round", "client") if name in told.details}
    return place | ({"pool": str(place["client"]).rpartition("/")[0]} if "client" in place else {})


def joined(event: ClientsJoined, clients: tuple[ClientId, ...]) -> Tell:
    """A worker has joined."""
    details = {"worker": event.worker, "clients": clients, "device": event.device}
    return Tell("joined", f"{event.worker} joined for {counted(len(clients), 'client')}", details)


def profiled(event: ClientsProfiled, clients: tuple[ClientId, ...]) -> Tell:
    """A worker has measured what it can do."""
    found = event.profile
    details = {
        "worker": event.worker,
        "clients": clients,
        "gflops": round(found.flops / 1e9, 2),
        "memoryBytes": found.memory_bytes,
        "latencyMs": round(1000 * found.latency_s, 3),
        "upMbit": round(8e-6 * found.up_bytes_per_s, 2),
        "downMbit": round(8e-6 * found.down_bytes_per_s, 2),
    }
    message = f"{event.worker}: {found.flops / 1e9:.1f} GFLOP/s, {1000 * found.latency_s:.1f} ms away"
    return Tell("profiled", message, details)


def lost(clients: tuple[ClientId, ...], reason: str) -> Tell:
    """Clients are gone."""
    return Tell("lost", f"lost {counted(len(clients), 'client')}: {reason}", {"clients": clients, "reason": reason})


def queued(clients: tuple[ClientId, ...]) -> Tell:
    """These clients wait in the queues of batch systems, and no others."""
    return Tell("queued", f"{counted(len(clients), 'client')} in a queue", {"clients": clients})


@dataclass(frozen=True, slots=True)
class Rolling:
    """Of a round that nobody waits for: who is at work already, and whether these are asked in addition."""

    working: tuple[ClientId, ...]
    is_more: bool


def planned(
    plan: RoundPlan, config: EngineConfig, left_out: Mapping[ClientId, int], rolling: Rolling | None = None
) -> Tell:
    """A cohort is asked. Who is `left_out` is so up to that round."""
    stints = {each.client: _stint(each.stint) for each in plan.cohort if each.stint}
    details = {
        "round": plan.round,
        "attempt": plan.attempt,
        "total": config.total,
        "cohort": [each.client for each in plan.cohort],
        "deadlineSeconds": plan.deadline_s,
        **({"deadlineReason": plan.deadline_reason} if plan.deadline_reason else {}),
        **({"steps": plan.steps} if plan.steps else {}),
        **({"closeAt": plan.close_at, "closeAtReason": plan.number_reason} if plan.number_reason else {}),
        "reasons": {each.client: each.reason for each in plan.cohort},
        **({"leftOutUntil": dict(left_out)} if left_out else {}),
        **({"stints": stints} if stints else {}),
        **({"working": rolling.working, "more": rolling.is_more} if rolling else {}),
    }
    more = " more" if rolling and rolling.is_more else ""
    asked = f"1{more} client is asked" if len(plan.cohort) == 1 else f"{len(plan.cohort)}{more} clients are asked"
    out = f", {counted(len(left_out), 'client')} left out for a while" if left_out else ""
    return Tell("planned", f"round {plan.round} of {config.total}: {asked}{out}", details)


def _stint(stint: Stint) -> dict[str, object]:
    """What a client does in mode SemiSynchronous: group 0 is for those whose speed is not known yet."""
    return {"steps": stint.steps, "group": stint.group, "seconds": stint.arrival_s}


def received(update: UpdateStaged, round_number: int) -> Tell:
    """An update is here."""
    details = {
        "round": round_number,
        "client": update.client,
        "examples": update.examples,
        "bytes": update.size_bytes,
        "metrics": dict(update.metrics),
        "trainMs": update.train_ms,
        "memoryLost": update.memory_lost,
    }
    return Tell("received", f"{update.client} sent its update for round {round_number}", details)


def memory_lost(update: UpdateStaged) -> Tell:
    """A client's error feedback, or its control variate, begins anew."""
    return warning(
        f"{update.client} has lost what it kept of earlier updates, and goes on from zero: give its worker a --state "
        "folder that outlives it"
    )


def rejected(client: ClientId, round_number: int, reason: str) -> Tell:
    """A client has nothing to offer."""
    details = {"round": round_number, "client": client, "reason": reason}
    return Tell("rejected", f"{client} has nothing for round {round_number}: {reason}", details)


def committed(commit: RoundCommit, progress: Progress, config: EngineConfig) -> Tell:
    """A round is over. Bytes are of this round, and what compression saved of all so far."""
    details = {
        "round": commit.round,
        "total": config.total,
        "used": len(commit.used),
        "failed": dict(commit.failed),
        "queued": queued_of(commit),
        "seconds": commit.seconds,
        "metrics": mean_metrics(commit.fresh),
        "bytesUp": commit.bytes_up,
        "bytesDown": commit.bytes_down,
        "reason": commit.reason,
        "memoriesLost": sum(each.memory_lost for each in commit.used),
        "compression": config.compression,
        "bytesSaved": round(progress.saved, 4),
    }
    return Tell("committed", f"round {commit.round} of {config.total}: {counted(len(commit.used), 'update')}", details)


def evaluated(record: EvaluationRecord) -> Tell:
    """A model is measured."""
    details = {
        "round": record.round,
        "central": _scores(record.central),
        "federated": _scores(record.federated),
        "missing": record.missing,
    }
    return Tell("evaluated", f"the model of round {record.round} is measured", details)


def _scores(scores: Scores | None) -> dict[str, object] | None:
    return {**scores.metrics, "examples": scores.examples, "clients": scores.clients} if scores else None


def failed_attempt(plan: RoundPlan, reason: str) -> Tell:
    """An attempt at a round has failed."""
    details = {"round": plan.round, "attempt": plan.attempt, "reason": reason}
    return Tell("failedAttempt", f"round {plan.round}, attempt {plan.attempt}: {reason}", details)


def resumed(progress: Progress, plan: RoundPlan | None) -> Tell:
    """An earlier coordinator's job goes on."""
    number = plan.round if plan else progress.committed + 1
    details = {"round": number, "attempt": plan.attempt if plan else 0, "committed": progress.committed}
    return Tell("resumed", f"going on with round {number}", details)


def warning(message: str) -> Tell:
    """Something is odd, and harmless."""
    return Tell("warning", message, {"message": message})


def finished(finish: Finish, progress: Progress, config: EngineConfig) -> Tell:
    """The job is over."""
    best = progress.best
    details = {
        "outcome": finish.outcome.value,
        "reason": finish.reason.value,
        "message": finish.message,
        "rounds": max(progress.committed, 0),
        "model": progress.model,
        "best": {"round": best.round, "model": best.model, "metric": best.metric, "value": best.value}
        if best
        else None,
        "bytesUp": progress.bytes_up,
        "bytesDown": progress.bytes_down,
        "compression": config.compression,
        "bytesSaved": round(progress.saved, 4),
    }
    return Tell("finished", f"{finish.outcome.value}: {finish.message}", details)
