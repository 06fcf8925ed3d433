"""A site's work as its rank 0 sees it, and as the others do: errands go out, every rank does its part.

`SiteShop` stands where a single worker has its workshop, so the loop that speaks to the coordinator is the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from muster.errors import SiteError, TaskError
from muster.evaluation import Evaluated
from muster.orders import Scope, SubModel
from muster.site.crew import Crew, State
from muster.site.errands import (
    Begin,
    Evaluate,
    Leave,
    Losses,
    Train,
    await_errand,
    part_fields,
    send_errand,
    send_model,
    send_state,
    subject_of,
    take_model,
    take_state,
    wanted_part,
)
from muster.site.fabric import Fabric
from muster.site.rollcall import RollCall
from muster.task import Client
from muster.workshop import Hooks, Trainee
from muster_spec.work import Work
from muster_wire.submodel import Part
from muster_wire.values import Values

Hire = Callable[[Fabric, Work], Crew]


@dataclass(frozen=True, slots=True)
class Site:
    """The ranks that are one client: how they reach one another, who looks after them, and how they work."""

    fabric: Fabric
    roll: RollCall
    hire: Hire


class SiteShop:
    """Rank 0's."""

    def __init__(self, site: Site, work: Work, clock: Callable[[], float] = time.monotonic) -> None:
        self._fabric, self._roll = site.fabric, site.roll
        self._clock = clock
        self._trainings = 0
        self._part: tuple[Part, SubModel] | None = None
        send_errand(self._fabric, Begin(work))
        self._crew = site.hire(self._fabric, work)

    def prepare(self) -> None:
        """The others do so too, once they know the job."""
        self._crew.workshop.prepare()

    def initialise(self, seed: int, *, with_groups: bool = False) -> Values:
        """One rank is enough."""
        return self._crew.workshop.initialise(seed, with_groups=with_groups)

    def part(self, wanted: SubModel) -> Part:
        part = self._crew.workshop.part(wanted)
        self._part = (part, wanted)
        return part

    def train(
        self, client: Client, base: Values, state: State, seed: int, hooks: Hooks, part: Part | None = None
    ) -> Trainee | None:
        """All ranks together; None if the work was withdrawn on the way."""
        self._trainings += 1
        number, left_s, wanted = self._trainings, hooks.stop_at - self._clock(), self._wanted(part)
        errand = Train(
            number=number,
            client=subject_of(client),
            seed=seed,
            layout=base.layout.to_json(),
            seconds_left=left_s if math.isfinite(left_s) else None,
            steps=hooks.steps,
            part=part_fields(wanted),
        )
        send_errand(self._fabric, errand)
        send_model(self._fabric, base)
        send_state(self._fabric, state)
        with self._roll.minding(number, hooks.should_stop) as should_stop:
            return self._crew.train(client, base, state, seed, hooks._replace(should_stop=should_stop), wanted)

    def evaluate(self, client: Client, values: Values, state: State, scope: Scope) -> Evaluated:
        """A task's test set is rank 0's alone to measure on: metrics of its parts might not add up to its own."""
        if scope is Scope.CENTRAL:
            return self._crew.workshop.evaluate(client, values, state, scope)
        if self._crew.is_sharded:
            send_errand(self._fabric, Evaluate(subject_of(client), values.layout.to_json()))
            send_model(self._fabric, values)
            send_state(self._fabric, state)
        return self._crew.evaluate(client, values, state)

    def losses(
        self, client: Client, models: Iterable[Values], state: State, seed: int, part: Part | None = None
    ) -> list[float]:
        compared, wanted = list(models), self._wanted(part)
        if self._crew.is_sharded:
            layout = compared[0].layout.to_json()
            send_errand(self._fabric, Losses(len(compared), subject_of(client), seed, layout, part_fields(wanted)))
            for model in compared:
                send_model(self._fabric, model)
            send_state(self._fabric, state)
        return self._crew.losses(client, compared, state, seed, wanted)

    def _wanted(self, part: Part | None) -> SubModel | None:
        """What the part of the order at hand was made of."""
        if part is None:
            return None
        if self._part is None or self._part[0] is not part:
            raise ValueError("this part of the model was not asked of this shop")
        return self._part[1]


def follow(site: Site, clock: Callable[[], float] = time.monotonic) -> None:
    """Any other rank's work, until rank 0 says that it is over. What goes wrong in an errand rank 0 reports."""
    crew: Crew | None = None
    while not isinstance(errand := await_errand(site.fabric), Leave):
        if isinstance(errand, Begin):
            crew = site.hire(site.fabric, errand.work)
            crew.workshop.prepare()
            continue
        if crew is None:
            raise SiteError("rank 0 sent an errand before the job that it is for")
        with suppress(TaskError):
            _do(site, crew, errand, clock)


def _do(site: Site, crew: Crew, errand: Train | Evaluate | Losses, clock: Callable[[], float]) -> None:
    client = errand.client.client
    models = [take_model(site.fabric, errand.layout) for _ in range(errand.count if isinstance(errand, Losses) else 1)]
    state = take_state(site.fabric)
    match errand:
        case Train():
            stop_at = math.inf if errand.seconds_left is None else clock() + errand.seconds_left
            hooks = Hooks(partial(site.roll.is_stopped, errand.number), _unshown, stop_at, errand.steps)
            crew.train(client, models[0], state, errand.seed, hooks, wanted_part(errand.part))
        case Evaluate():
            crew.evaluate(client, models[0], state)
        case Losses():
            crew.losses(client, models, state, errand.seed, wanted_part(errand.part))


def _unshown(fraction: float) -> None:
    """How far a rank is, only rank 0 shows, of itself."""
