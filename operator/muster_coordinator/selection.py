"""Who is asked to take part in a round, and why each of them: what every policy is given and what it answers.

A selector is a pure function of its request, so the same job makes the same choices again after a restart and in a
simulation. Every choice carries its reason, which goes into the round's plan and from there to people. The two plain
policies stand here; the others have a module each in `selectors`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from muster_coordinator.histories import Floats, Histories, Table, blank
from muster_spec.clients import ClientId


@dataclass(frozen=True, slots=True)
class Request:
    """Choose `wanted` of `eligible`, which are sorted by ordinal; `histories` has a row for each of the ordinals."""

    seed: int
    round: int
    attempt: int
    wanted: int
    eligible: Sequence[ClientId]
    histories: Histories = field(default_factory=Histories)
    ordinals: Mapping[ClientId, int] = field(default_factory=dict)

    @property
    def rows(self) -> Table:
        """The histories of the eligible, in their order."""
        return self.histories.rows_of(self.eligible, self.ordinals)

    @property
    def everybody(self) -> Table:
        """The histories of all clients of the job, by ordinal."""
        table = self.histories.table
        return table if len(table) else blank(len(self.ordinals))

    def uniforms(self, purpose: str) -> Floats:
        """A number in (0, 1) for each of the eligible: the same on every machine, and its own for each purpose."""
        key = hashlib.sha256(f"{self.seed}/{self.round}/{self.attempt}/{purpose}".encode()).digest()
        words = np.random.Philox(key=int.from_bytes(key[:16], "little")).random_raw(len(self.eligible))
        numbers: Floats = (np.asarray(words, np.uint64) >> np.uint64(11)).astype(np.float64)
        return (numbers + 0.5) * 2.0**-53


@dataclass(frozen=True, slots=True)
class Choice:
    """One client that is asked, and why."""

    client: ClientId
    reason: str


class Selector(Protocol):
    """At most `wanted` choices among the eligible, each client once, in the order of `eligible`."""

    def __call__(self, request: Request, /) -> tuple[Choice, ...]: ...


def select_all(request: Request) -> tuple[Choice, ...]:
    """Everybody who is there."""
    return tuple(Choice(client, "all: everybody is asked") for client in request.eligible)


def select_random(request: Request) -> tuple[Choice, ...]:
    """A uniform draw without replacement; the cohort keeps the order of ordinals."""
    there = len(request.eligible)
    wanted = min(request.wanted, there)
    # A string seeds the generator through SHA-512: the same draw on every machine and Python version.
    draw = random.Random(f"{request.seed}/{request.round}/{request.attempt}")
    positions = sorted(draw.sample(range(there), wanted))
    reason = f"random: one of {wanted} drawn from {there}"
    return tuple(Choice(request.eligible[position], reason) for position in positions)


# --- what policies are made of ----------------------------------------------------------------------------------------


def highest(scores: Floats, count: int, ties: Floats) -> NDArray[np.int64]:
    """The places of the `count` highest scores, best first; among equals the order is that of `ties`."""
    order: NDArray[np.int64] = np.lexsort((ties, -scores))
    return order[:count]


def drawn(weights: Floats, count: int, uniforms: Floats) -> NDArray[np.int64]:
    """Places drawn one after the other without replacement, each time in proportion to the weights that are left.

    By one key for each, the exponential race that Efraimidis and Spirakis (2006, "Weighted random sampling with a
    reservoir", algorithm A) show to be that draw. Whoever weighs nothing comes last.
    """
    with np.errstate(divide="ignore"):
        arrival = np.where(weights > 0, -np.log(uniforms) / weights, np.inf)
    order: NDArray[np.int64] = np.lexsort((uniforms, arrival))
    return order[:count]


def chosen(request: Request, reasons: Mapping[int, str]) -> tuple[Choice, ...]:
    """Places and reasons as choices, in the order of the eligible."""
    return tuple(Choice(request.eligible[place], reasons[place]) for place in sorted(reasons))


SELECTORS: Mapping[str, Selector] = {"All": select_all, "Random": select_random}
"""The policies without parameters."""
