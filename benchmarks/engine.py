"""How long the round engine takes with ten thousand known clients: one selection, and one step.

Selection is the step that plans a round: who is eligible, the draw, the plan with its seeds and reasons. Steps are all
others of a whole job: single clients joining, leaving and coming back, updates, evaluations, ticks. Twice: with a
cohort of 100, and with everybody asked in every round.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections import deque
from pathlib import Path

from muster_coordinator import engine
from muster_coordinator.config import EngineConfig
from muster_coordinator.events import (
    ClientsJoined,
    ClientsLost,
    EvaluationReported,
    EvaluationStored,
    Event,
    PlanStored,
    RoundStored,
    Tick,
    UpdateStaged,
)
from muster_coordinator.instructions import (
    Finish,
    Instruction,
    OrderEvaluation,
    OrderInitialisation,
    OrderTraining,
    StoreCommit,
    StoreEvaluation,
    StorePlan,
)
from muster_coordinator.records import RoundCommit
from muster_coordinator.recovery import History

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fake_world import config_for

CLIENTS, COHORT, ROUNDS = 10_000, 100, 5
SELECTION_LIMIT_MS, STEP_LIMIT_MS = 20.0, 1.0


def main() -> int:
    """Both jobs; 1 when a limit is broken."""
    sampled, everybody = measure(COHORT, ROUNDS), measure(CLIENTS, 1)
    for name, figures in (("cohort of 100", sampled), ("everybody", everybody)):
        print(f"{name}: {json.dumps(figures)}")
    select_ms, step_ms = sampled["select_ms"], max(sampled["step_ms"], everybody["step_ms"])
    holds = select_ms <= SELECTION_LIMIT_MS and step_ms < STEP_LIMIT_MS
    result = {
        "benchmark": "engine",
        "clients": CLIENTS,
        "select_ms_10000": select_ms,
        "select_ms_limit": SELECTION_LIMIT_MS,
        "step_ms_10000": step_ms,
        "step_ms_limit": STEP_LIMIT_MS,
        "step_p99_ms": sampled["step_p99_ms"],
        "everybody": everybody,
        "decided_on": "median",
        "holds": holds,
    }
    print(json.dumps(result))
    return int(not holds)


def measure(cohort: int, rounds: int) -> dict[str, float]:
    """Milliseconds of each step of a whole job."""
    selections: list[float] = []
    steps: list[float] = []
    state, out = engine.start(config_with(cohort, rounds), History(), 0.0)
    inbox: deque[Event] = deque(ClientsJoined(f"w{i}", (name,)) for i, name in enumerate(state.config.clients))
    while inbox:
        event = inbox.popleft()
        began = time.perf_counter()
        state, out = engine.step(state, event, 1.0)
        took = (time.perf_counter() - began) * 1000
        (selections if any(isinstance(each, StorePlan) for each in out) else steps).append(took)
        for instruction in out:
            answer(instruction, inbox)
    if not isinstance(out[-1], Finish):
        raise SystemExit(f"the job did not end: {state.phase}")
    return {
        "select_ms": round(statistics.median(selections[1:]), 4),  # the first plan is for the first model
        "step_ms": round(statistics.median(steps), 4),
        "step_p99_ms": round(statistics.quantiles(steps, n=100)[98], 4),
        "steps": len(steps),
    }


def config_with(cohort: int, rounds: int) -> EngineConfig:
    """A job of two pools, as muster_coordinator.config.config_of would make it."""
    sizes = {"cloud": CLIENTS // 2, "hpc": CLIENTS // 2}
    return config_for(
        sizes, seed=1, total=rounds, cohort=cohort, central=True, federated=True, evaluation_timeout_s=60.0
    )


def answer(instruction: Instruction, inbox: deque[Event]) -> None:
    """Stores answer at once; a client leaves, comes back and does its work."""
    match instruction:
        case StorePlan(plan):
            inbox.appendleft(PlanStored(plan))
        case StoreCommit():
            inbox.appendleft(RoundStored(commit_of(instruction)))
        case StoreEvaluation(record):
            inbox.appendleft(EvaluationStored(record))
        case OrderInitialisation(client, assignment):
            inbox.append(UpdateStaged(client, assignment, 0, 0, {}, 1))
        case OrderTraining(client, assignment):
            inbox.append(Tick())
            inbox.append(UpdateStaged(client, assignment, 10, 5, {"loss": 1.0}, 1000))
            inbox.append(ClientsLost((client,), "broken"))
            inbox.append(ClientsJoined("again", (client,), (assignment,)))
        case OrderEvaluation(client, assignment):
            inbox.append(EvaluationReported(client, assignment, 10, {"accuracy": 0.5}))


def commit_of(instruction: StoreCommit) -> RoundCommit:
    """What a store would have written."""
    return RoundCommit(
        round=instruction.round,
        attempt=instruction.attempt,
        epoch=1,
        base=instruction.base,
        model=f"model-{instruction.round}",
        used=instruction.used,
        failed=instruction.failed,
        failed_attempts=instruction.failed_attempts,
        started_s=0.0,
        seconds=1.0,
        bytes_up=0,
        bytes_down=0,
        owed=instruction.owed,
        stragglers=instruction.stragglers,
        reason=instruction.reason,
    )


if __name__ == "__main__":
    raise SystemExit(main())
