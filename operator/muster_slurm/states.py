"""Every state that SLURM has, and what each means to whoever waits for a worker.

The names are those of slurm.h (base states and flags of 22.05 to 25.11). Newer REST versions tell several at once, such
as CANCELLED and COMPLETING. One that isn't known here is kept, and means that we wait: guessing that a job has ended
would submit it twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Phase(Enum):
    """How far a job is."""

    WAITING = "waiting"  # in the queue, or on its way back to it
    HELD = "held"  # in the queue until somebody lets it go
    RUNNING = "running"
    ENDING = "ending"  # it has ended, and its nodes aren't free yet: it may still be put back
    ENDED = "ended"
    UNKNOWN = "unknown"


class Cause(Enum):
    """Why a job has ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"  # not the worker's fault: a preemption, a lost node, the time limit
    FORGOTTEN = "forgotten"  # SLURM no longer knows it


_PHASES = {
    Phase.WAITING: {
        "PENDING",
        "CONFIGURING",
        "REQUEUED",
        "REQUEUE_FED",
        "POWER_UP_NODE",
        "UPDATE_DB",
        "EXPEDITING",
    },
    Phase.HELD: {"REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"},
    Phase.RUNNING: {"RUNNING", "SUSPENDED", "RESIZING", "SIGNALING", "STOPPED"},
    Phase.ENDING: {"COMPLETING", "STAGE_OUT"},
}
CAUSES = {
    "COMPLETED": Cause.COMPLETED,
    "FAILED": Cause.FAILED,
    "OUT_OF_MEMORY": Cause.FAILED,
    "LAUNCH_FAILED": Cause.FAILED,
    "RECONFIG_FAIL": Cause.FAILED,
    "DEADLINE": Cause.FAILED,
    "CANCELLED": Cause.CANCELLED,
    "REVOKED": Cause.INTERRUPTED,
    "TIMEOUT": Cause.INTERRUPTED,
    "PREEMPTED": Cause.INTERRUPTED,
    "NODE_FAIL": Cause.INTERRUPTED,
    "BOOT_FAIL": Cause.INTERRUPTED,
}
PHASES = {name: phase for phase, names in _PHASES.items() for name in names} | dict.fromkeys(CAUSES, Phase.ENDED)

# A flag beside a base state says more than it: what is completing isn't over, what is requeued waits again.
_STRONGEST = (Phase.UNKNOWN, Phase.ENDING, Phase.HELD, Phase.WAITING, Phase.ENDED, Phase.RUNNING)


def phase_of(states: Iterable[str]) -> Phase:
    """What all the states of a job together mean."""
    found = {PHASES.get(state, Phase.UNKNOWN) for state in states}
    return next((phase for phase in _STRONGEST if phase in found), Phase.UNKNOWN)


def cause_of(states: Iterable[str]) -> Cause | None:
    """Why it ended; None if nothing says so."""
    return next((CAUSES[state] for state in states if state in CAUSES), None)
