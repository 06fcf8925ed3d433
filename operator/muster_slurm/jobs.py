"""What SLURM says of a job, whichever way it was asked: frozen values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from muster_slurm.states import Cause, Phase, cause_of, phase_of

BY_HAND = frozenset({"JobHeldUser", "JobHeldAdmin", "launch failed requeued held", "job requeued in held state"})
NEVER = frozenset(  # as slurm.h's job_state_reason has them: such a job waits until somebody changes it or the site
    {
        "BadConstraints",
        "PartitionConfig",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "InvalidAccount",
        "InvalidQOS",
        "AccountNotAllowed",
        "QOSNotAllowed",
        "ReservationDeleted",
    }
)


@dataclass(frozen=True, slots=True)
class Exit:
    """How the script ended: its exit code, or the signal that killed it."""

    code: int = 0
    signal: int = 0

    def __str__(self) -> str:
        return f"killed by signal {self.signal}" if self.signal else f"exit code {self.code}"


def exit_of(status: int) -> Exit:
    """Of a raw wait status, which is what v0.0.38 and squeue tell (7 → 1792)."""
    return Exit(code=status >> 8, signal=status & 0x7F)


@dataclass(frozen=True, slots=True)
class Job:
    """A job, or those tasks of an array that share a record. Times are Unix seconds, 0 where there are none.

    `array` is the id that was answered to the submission. `tasks` is empty where SLURM cut the list short ("1,3,..."):
    then the record stands for every task that has none of its own.
    """

    id: int
    array: int
    tasks: tuple[int, ...]
    states: tuple[str, ...]
    name: str
    comment: str
    reason: str = ""
    exit: Exit = Exit()
    restarts: int = 0
    starts: int = 0  # when it is expected to, while it waits
    ends: int = 0  # at its time limit, while it runs
    nodes: str = ""
    is_rest: bool = False

    @property
    def phase(self) -> Phase:
        return Phase.HELD if self._waits and self.reason in BY_HAND else phase_of(self.states)

    @property
    def _waits(self) -> bool:
        return phase_of(self.states) is Phase.WAITING

    @property
    def never_starts(self) -> bool:
        """Whether it waits for what can't come by itself."""
        return self._waits and self.reason in NEVER

    @property
    def cause(self) -> Cause | None:
        """Why it ended, once it has."""
        return cause_of(self.states) if self.phase is Phase.ENDED else None


def read_tasks(text: str) -> tuple[tuple[int, ...], bool]:
    """``0-3,7,10-20:5%4`` → its tasks, and whether the list was cut short."""
    listed, _, _ = text.strip("[]").partition("%")
    is_cut = "..." in listed
    parts = [part for part in listed.split(",") if part and "..." not in part]
    try:
        return tuple(task for part in parts for task in _span(part)), is_cut
    except ValueError:
        return (), True


def _span(part: str) -> Iterator[int]:
    span, _, step = part.partition(":")
    first, _, last = span.partition("-")
    yield from range(int(first), int(last or first) + 1, int(step or 1))
