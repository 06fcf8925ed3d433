"""How the pieces of the engine hand on what they did: the next state, and what is to be done about it, in order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from muster_coordinator.instructions import Instruction
from muster_coordinator.state import JobState

Moves = tuple[JobState, list[Instruction]]


def moved(state: JobState, *instructions: Instruction, **changes: Any) -> Moves:
    """This state with these changes, and these instructions."""
    return (replace(state, **changes) if changes else state), list(instructions)
