"""The modes in which versions of the model aren't waited for: what a job asks for under `rounds.mode`.

Buffered is FedBuff (Nguyen et al. 2022, "Federated learning with buffered asynchronous aggregation", AISTATS): so many
clients train at one time, each from the newest model when it began, and every K updates make the next one. Grouped is
FedCompass (Li et al. 2024, "FedCompass: efficient cross-silo federated learning on heterogeneous client devices using a
computing power-aware scheduler", ICLR): see compass.py. Either is a way of closing rounds; a round is then a version.
"""

from __future__ import annotations

from dataclasses import dataclass

from muster_spec.types import Rounds

USUAL_BUFFER = 10


@dataclass(frozen=True, slots=True)
class Buffered:
    """A version is made of `size` updates."""

    size: int


@dataclass(frozen=True, slots=True)
class Grouped:
    """A version is made when a group of clients is in, or late by the factor `lateness`. Steps are each client's."""

    lateness: float
    min_steps: int
    max_steps: int
    by_examples: bool = True  # what a group is worth among all: by examples, or by heads


Mode = Buffered | Grouped


def mode_of(rounds: Rounds, clients: int, *, by_examples: bool) -> Mode | None:
    """How versions follow one another, where they are not rounds with a cohort that is waited for."""
    if rounds.asynchronous is not None:
        usual = min(USUAL_BUFFER, max(clients // 2, 1))
        return Buffered(min(rounds.asynchronous.buffer_size or usual, clients))
    if rounds.semi_synchronous is not None:
        groups = rounds.semi_synchronous
        return Grouped(groups.lateness_factor, groups.min_steps, groups.max_steps, by_examples)
    return None
