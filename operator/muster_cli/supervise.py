"""When a process that died comes back. Pure: exits and the time go in, decisions come out.

Workers and the coordinator may be killed at any moment and a run goes on: the coordinator restores itself from its
storage, a worker joins again. What keeps dying is given up, so that every run ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

BACKOFF_S = (0.2, 1.0, 2.0, 5.0, 10.0)
BAD_INPUT = 2


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again at this time."""

    process: str
    when: float
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It has died too often, or it says that it can't work as it was asked to."""

    process: str
    code: int
    reason: str


Decision = Restart | GiveUp


@dataclass(frozen=True, slots=True)
class Supervision:
    """How often each process has died, and who waits to be started again."""

    limit: int
    deaths: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, float] = field(default_factory=dict)


def note_death(state: Supervision, process: str, code: int, now: float) -> tuple[Supervision, Decision]:
    """A process that should be running has ended with `code` (negative: killed by that signal)."""
    deaths = state.deaths.get(process, 0) + 1
    counted = replace(state, deaths={**state.deaths, process: deaths})
    reason = describe_exit(code)
    if code == BAD_INPUT:
        return counted, GiveUp(process, code, reason)
    if deaths > state.limit:
        return counted, GiveUp(process, code, f"{reason}, {deaths} times")
    when = now + BACKOFF_S[min(deaths, len(BACKOFF_S)) - 1]
    return replace(counted, waiting={**state.waiting, process: when}), Restart(process, when, deaths, reason)


def due(state: Supervision, now: float) -> tuple[Supervision, tuple[str, ...]]:
    """Who is to be started now."""
    ready = tuple(process for process, when in state.waiting.items() if when <= now)
    waiting = {process: when for process, when in state.waiting.items() if when > now}
    return replace(state, waiting=waiting), ready


def describe_exit(code: int) -> str:
    """An exit status in words."""
    return f"killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
