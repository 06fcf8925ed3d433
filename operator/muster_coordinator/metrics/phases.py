"""How long each phase of a round takes, from the marks that the driver passes. Pure.

Planning (the plan is made durable) → collecting (clients are at work) → committing (the model is made and stored) →
evaluating, where an evaluation is due. The stretches between are both observed in a histogram and, with tracing on,
spans of the round.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Mark(StrEnum):
    """What the driver passes, in this order; planned, resumed and the last three as the engine tells them."""

    PLANNING = "planning"
    PLANNED = "planned"
    RESUMED = "resumed"
    MAKING = "making"
    COMMITTED = "committed"
    EVALUATED = "evaluated"
    FAILED_ATTEMPT = "failedAttempt"


class Phase(StrEnum):
    """A part of a round, and the whole."""

    PLANNING = "planning"
    COLLECTING = "collecting"
    COMMITTING = "committing"
    EVALUATING = "evaluating"
    ROUND = "round"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A phase that is over; times are the coordinator's clock for people, in seconds."""

    phase: Phase
    round: int
    began: float
    ended: float

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Course:
    """Where the job is. `round_began` is when this round was first planned, whatever attempts it took."""

    phase: Phase | None = None
    round: int = -1
    began: float = 0.0
    round_began: float = 0.0


_NEXT = {
    Mark.PLANNING: Phase.PLANNING,
    Mark.PLANNED: Phase.COLLECTING,
    Mark.RESUMED: Phase.COLLECTING,
    Mark.MAKING: Phase.COMMITTING,
    Mark.COMMITTED: Phase.EVALUATING,  # should it not be due, what comes next shows that
    Mark.EVALUATED: None,
    Mark.FAILED_ATTEMPT: Phase.COLLECTING,  # the same attempt with a new deadline; else planning comes next
}
_ENDS = {
    Mark.PLANNED: Phase.PLANNING,
    Mark.MAKING: Phase.COLLECTING,
    Mark.FAILED_ATTEMPT: Phase.COLLECTING,
    Mark.COMMITTED: Phase.COMMITTING,
    Mark.EVALUATED: Phase.EVALUATING,
}


def follow(course: Course, mark: Mark, number: int, now: float) -> tuple[Course, list[Stretch]]:
    """The course after a mark of this round, and what came to an end with it."""
    if number != course.round:
        course = Course(round=number, round_began=now)
    over = []
    if course.phase is not None and course.phase is _ENDS.get(mark):
        over.append(Stretch(course.phase, number, course.began, now))
    if mark is Mark.COMMITTED:
        over.append(Stretch(Phase.ROUND, number, course.round_began, now))
    return replace(course, phase=_NEXT[mark], began=now), over
