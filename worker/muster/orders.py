"""What the coordinator wants of this worker, parsed once from the wire into frozen values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

from muster_spec.clients import ClientId, client_id
from muster_wire.codecs import codec_id, pipeline_of
from muster_wire.feedback import Recipe
from muster_wire.messages import draw_from, recipe_from
from muster_wire.submodel import Draw
from muster_wire.v1 import federation_pb2 as wire


class Scope(Enum):
    """What to measure a model on."""

    CENTRAL = "central"  # the task's test set
    LOCAL = "local"  # the client's held-out examples


@dataclass(frozen=True, slots=True)
class Initialise:
    """Build the first model; and say which of its units may be left out, if clients will train parts of it."""

    seed: int
    groups: bool = False


@dataclass(frozen=True, slots=True)
class SubModel:
    """A part of the model: which draw of its units, and the digest of the groups that are meant."""

    draw: Draw
    groups: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """Choose examples: so that training is over by then (this worker's clock), hard ones first (None: all are)."""

    finish_at: float = math.inf
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Matched:
    """Train for one layer's match: which it is, and where this client's units of the layer before are."""

    phase: int
    places: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Train:
    """Train from the model of this digest, or from that of a part, and make the update's bytes by this recipe."""

    base: str
    seed: int
    recipe: Recipe
    sub_model: SubModel | None = None
    participations: int = 0  # updates of this client that were used so far, as the coordinator counts them
    stop_at: float = math.inf  # on this worker's clock: no new step after it
    steps: int = 0  # to take, whatever the job's epochs; 0: as the job says
    sampling: Sampling | None = None  # None: train on everything
    matched: Matched | None = None  # None: train the model as it is


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Measure the model of this digest."""

    model: str
    scope: Scope


@dataclass(frozen=True, slots=True)
class Assignment:
    """One piece of work for one client."""

    id: str
    client: ClientId
    round: int
    work: Initialise | Train | Evaluate


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of an update: used in a committed round, or never to be used."""

    assignment: str
    used: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Handover:
    """Other workers wait for `count` of these clients, rather for the first ones."""

    clients: tuple[ClientId, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Orders:
    """The whole of what is wanted from this worker. With `more` there are clients for it to fetch, by joining again."""

    revision: int = 0
    assignments: tuple[Assignment, ...] = ()
    settlements: tuple[Settlement, ...] = ()
    finished: bool = False
    reason: str = ""
    handover: Handover | None = None
    more: bool = False
    frames: tuple[wire.Frame, ...] = field(default=(), repr=False, compare=False)  # of the model that work is about

    def wants(self, assignment: str) -> bool:
        return not self.finished and any(wanted.id == assignment for wanted in self.assignments)


def parse_orders(message: wire.Orders, now: float) -> Orders:
    """Orders as values, that have come `now`. Work of a kind that this version doesn't know is left out: a newer peer
    may send it.
    """
    return Orders(
        revision=message.revision,
        assignments=tuple(_assignment(each, now) for each in message.assignments if each.WhichOneof("work")),
        settlements=tuple(_settlement(each) for each in message.settlements),
        finished=message.finished,
        reason=message.reason,
        handover=_handover(message.handover) if message.HasField("handover") else None,
        more=message.more,
        frames=tuple(message.frames),
    )


def _handover(message: wire.Handover) -> Handover:
    return Handover(tuple(client_id(message.pool, index) for index in message.indices), message.count)


def _assignment(message: wire.Assignment, now: float) -> Assignment:
    return Assignment(message.id, client_id(message.pool, message.index), message.round, _work(message, now))


def _work(message: wire.Assignment, now: float) -> Initialise | Train | Evaluate:
    match message.WhichOneof("work"):
        case "initialise":
            return Initialise(message.initialise.seed, message.initialise.groups)
        case "train":
            return _train(message.train, now)
        case _:
            central = message.evaluate.scope == wire.Evaluate.SCOPE_CENTRAL
            return Evaluate(message.evaluate.model, Scope.CENTRAL if central else Scope.LOCAL)


def _train(message: wire.Train, now: float) -> Train:
    part = SubModel(draw_from(message.sub_model), message.sub_model.groups) if message.HasField("sub_model") else None
    stop_at = _until(message.budget_ms, now)
    sampling = _sampling(message.sampling, now) if message.HasField("sampling") else None
    matched = Matched(message.matched.phase, tuple(message.matched.places)) if message.HasField("matched") else None
    recipe, steps = _recipe(message), message.steps
    return Train(message.base, message.seed, recipe, part, message.participations, stop_at, steps, sampling, matched)


def _sampling(message: wire.Sampling, now: float) -> Sampling:
    return Sampling(_until(message.budget_ms, now), message.threshold if message.HasField("threshold") else None)


def _until(left_ms: int, now: float) -> float:
    return now + left_ms / 1000 if left_ms else math.inf


def _recipe(message: wire.Train) -> Recipe:
    return recipe_from(message.recipe) if message.HasField("recipe") else Recipe(pipeline_of(codec_id(message.codec)))


def _settlement(message: wire.Settlement) -> Settlement:
    return Settlement(message.assignment, message.fate == wire.Settlement.FATE_USED, message.reason)
