"""What the order book says, in the words of the wire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from muster_coordinator.instructions import OrderEvaluation, OrderInitialisation, OrderTraining, Sampling, Scope
from muster_coordinator.leases import Handover
from muster_coordinator.orders import Fate, Notice, Order
from muster_coordinator.parts import Parts
from muster_coordinator.records import Uplink
from muster_spec.clients import split_client_id
from muster_wire.codecs import Pipeline
from muster_wire.feedback import Recipe
from muster_wire.messages import recipe_message
from muster_wire.v1 import federation_pb2 as pb

_SCOPES = {Scope.CENTRAL: pb.Evaluate.SCOPE_CENTRAL, Scope.LOCAL: pb.Evaluate.SCOPE_LOCAL}

Recipes = Callable[[Uplink], Recipe]  # a client's uplink → how its update becomes bytes
Reference = Callable[[str], str]  # digest of a stored model → digest of what clients decode it to


@dataclass(frozen=True, slots=True)
class Told:
    """What orders say beside what the book has: versions' names, how updates are made, and of which part."""

    reference: Reference
    recipes: Recipes
    parts: Parts | None = None
    is_matched: bool = False  # layers are matched: the first model has to say what it is made of


def orders_of(notice: Notice, told: Told, now: float) -> pb.Orders:
    """The whole of what is wanted from one worker."""
    return pb.Orders(
        revision=notice.revision,
        assignments=[_assignment(order, told, now) for order in notice.orders],
        settlements=[_settlement(fate) for fate in notice.fates],
        finished=notice.finished,
        reason=notice.reason,
        round=notice.committed,
    )


def handover_of(pool: str, handover: Handover) -> pb.Handover:
    """Which clients somebody else waits for."""
    indices = [split_client_id(client)[1] for client in handover.clients]
    return pb.Handover(pool=pool, indices=indices, count=handover.count)


def _assignment(order: Order, told: Told, now: float) -> pb.Assignment:
    pool, index = split_client_id(order.client)
    match order:
        case OrderTraining():
            train = _train(order, told, now)
            return pb.Assignment(id=order.assignment, pool=pool, index=index, round=order.round, train=train)
        case OrderInitialisation():
            initialise = pb.Initialise(seed=order.seed, groups=told.parts is not None or told.is_matched)
            return pb.Assignment(id=order.assignment, pool=pool, index=index, initialise=initialise)
        case OrderEvaluation():
            evaluate = pb.Evaluate(model=told.reference(order.model), scope=_SCOPES[order.scope])
            return pb.Assignment(id=order.assignment, pool=pool, index=index, round=order.round, evaluate=evaluate)


def _train(order: OrderTraining, told: Told, now: float) -> pb.Train:
    parts = told.parts
    left_ms = max(round((order.deadline - now) * 1000), 1)  # 0 would mean that there is no deadline
    codec, recipe = _said(told.recipes(order.uplink))
    return pb.Train(
        base=parts.reference(order) if parts else told.reference(order.base),
        seed=order.seed,
        time_left_ms=min(left_ms, 2**32 - 1),
        codec=codec,
        recipe=recipe,
        sub_model=parts.message(order) if parts else None,
        participations=order.participations,
        steps=order.steps,
        budget_ms=_left_ms(order.stop_by, now),
        sampling=_sampling(order.sampling, now) if order.sampling else None,
        matched=pb.Matched(phase=order.matched.phase, places=order.matched.places) if order.matched else None,
    )


def _sampling(sampling: Sampling, now: float) -> pb.Sampling:
    return pb.Sampling(threshold=sampling.threshold, budget_ms=_left_ms(sampling.finish_by, now))


def _left_ms(when: float | None, now: float) -> int:
    """0: there is no such time."""
    return 0 if when is None else min(max(round((when - now) * 1000), 1), 2**32 - 1)


@lru_cache(maxsize=256)  # everybody's is the same, or one of a few
def _said(recipe: Recipe) -> tuple[str, pb.Recipe | None]:
    numbers = recipe.pipeline.numbers
    return pb.CodecId.Name(numbers.value), None if recipe == Recipe(Pipeline(numbers)) else recipe_message(recipe)


def _settlement(fate: Fate) -> pb.Settlement:
    value = pb.Settlement.FATE_USED if fate.used else pb.Settlement.FATE_UNUSED
    return pb.Settlement(assignment=fate.assignment, fate=value, reason=fate.reason)
