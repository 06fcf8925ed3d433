"""Who is asked to take part in a round, and why each of them: policies behind one small protocol.

A selector is a pure function of its request, so the same job makes the same choices again after a restart and in a
simulation. Every choice carries its reason, which goes into the round's plan and from there to people.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from muster_spec.clients import ClientId


@dataclass(frozen=True, slots=True)
class Request:
    """Choose `wanted` of `eligible`, which are sorted by ordinal."""

    seed: int
    round: int
    attempt: int
    wanted: int
    eligible: Sequence[ClientId]


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


SELECTORS: Mapping[str, Selector] = {"All": select_all, "Random": select_random}
