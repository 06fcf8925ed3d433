"""Whose turn it is under FedMA: a pass over a model takes a round for each of its layers, first to last.

Every round matches one layer of those who are in the pass. Its cohort is chosen for its first round; the others ask
those again whose layers were matched in the one before, for only they know what they go on from. The model of a round
within a pass is a piece of work: whole, and worth measuring, is the one that a pass ends with.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Phase:
    """Which layer is matched, and how wide all but the last are at clients."""

    number: int
    widths: tuple[int, ...]

    @property
    def is_first(self) -> bool:
        return self.number == 0


def length_of(widths: tuple[int, ...]) -> int:
    """Rounds of a pass; 1 for models that are not matched."""
    return len(widths) + 1


def phase_of(round_number: int, widths: tuple[int, ...]) -> Phase | None:
    """Of this round; None where nothing is matched."""
    return Phase((round_number - 1) % length_of(widths), widths) if widths and round_number else None


def passes_after(round_number: int, widths: tuple[int, ...]) -> int | None:
    """How many passes are done after this round, at the end of one; None in the midst of one."""
    done, rest = divmod(round_number, length_of(widths))
    return None if rest else done
