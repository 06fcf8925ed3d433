"""The worker's decision: what to do next, from what is wanted and what is there. Pure; `loop` acts on the answer.

Level-triggered, like a controller: orders say the whole of what is wanted, so a lost message costs nothing, and an
update that is still held is offered again instead of being trained again.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from muster.orders import Assignment, Orders, Settlement


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a worker stands: the updates it holds, those the coordinator has, and what it has given up or reported.

    `offered` holds the updates that this session's coordinator has acknowledged: a new session may have lost them.
    `not_before` delays offers that the coordinator asked to make later (its clock is the worker's own).
    """

    held: AbstractSet[str] = frozenset()
    offered: AbstractSet[str] = frozenset()
    done: AbstractSet[str] = frozenset()
    not_before: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settle:
    """Promote or roll back the client's state, and forget the update."""

    settlement: Settlement


@dataclass(frozen=True, slots=True)
class Offer:
    """Submit an update that is held: nothing is trained twice."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Work:
    """Do this piece of work."""

    assignment: Assignment


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do now; look again when orders change, or at `until` on the worker's clock."""

    until: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Leave:
    """The job is over."""

    reason: str


Action = Settle | Offer | Work | Wait | Leave


def next_action(orders: Orders, standing: Standing, now: float) -> Action:
    """One step towards what is wanted: settle, then leave if it is over, then offer what is held, then work."""
    for settlement in orders.settlements:
        if settlement.assignment in standing.held:
            return Settle(settlement)
    if orders.finished:
        return Leave(orders.reason)
    wanted = [each for each in orders.assignments if each.id not in standing.done | standing.offered]
    held = [each for each in wanted if each.id in standing.held]
    for assignment in held:
        if standing.not_before.get(assignment.id, now) <= now:
            return Offer(assignment)
    for assignment in wanted:
        if assignment.id not in standing.held:
            return Work(assignment)
    return _wait(held, standing)


def _wait(held: list[Assignment], standing: Standing) -> Wait:
    if held:
        until = min(standing.not_before[each.id] for each in held)
        return Wait(until, f"the coordinator is out of memory for {len(held)} updates")
    return Wait(None, "no work for now")
