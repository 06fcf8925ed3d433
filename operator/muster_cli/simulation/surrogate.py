"""Stands in for training where thousands of clients are simulated: the job's own model and bytes, and no data.

Each client has a number of examples and an optimum, by lot: a point that all share and one of its own, so many times
as far away. k local steps at the rate lr take it from the base w towards its optimum o, as gradient descent on
½·‖w − o‖² would:

    update = (1 − (1 − lr)ᵏ) · (o − w)

The losses that it tells are means over the values, F(w) = ‖w − o‖² / 2n, as are their gradient and its slope.

What is said to be accuracy is how much of the way from the first model to the shared point has been gone. It shows how
policies and codecs move a model; of the job's task it says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import numpy as np
from torch import Tensor

from muster.evaluation import Evaluated
from muster.orders import Scope, SubModel
from muster.task import Client
from muster.training import Trained
from muster.workshop import Hooks, Trainee, Workshop
from muster_cli.errors import BadInput
from muster_spec.durations import duration_s
from muster_spec.work import BASE_LOSS, GRADIENT_SLOPE, LOSS_SLOPE, Work
from muster_wire.submodel import Part
from muster_wire.values import Floats, Values, applied

APART: Final = 0.5  # a client's own optimum, against the shared one
EXAMPLES: Final = (50, 350)
TEST_EXAMPLES: Final = 1000
METRIC: Final = "accuracy"


class Surrogate:
    """Trains and measures by formula; the first model is the task's own."""

    def __init__(self, work: Work, clock: Callable[[], float]) -> None:
        self._work = work
        self._clock = clock
        self._workshop = Workshop(work, clock)
        self._shared: Floats | None = None
        self._first: Floats | None = None

    def initialise(self, seed: int, *, with_groups: bool = False) -> Values:
        return self._workshop.initialise(seed, with_groups=with_groups)

    def part(self, wanted: SubModel) -> Part:  # noqa: ARG002 -- a workshop's signature
        raise BadInput("--surrogate: can't train parts of a model; leave compression.federatedDropout out")

    def train(
        self,
        client: Client,
        base: Values,
        state: Mapping[str, Tensor],
        seed: int,  # noqa: ARG002 -- nothing is drawn
        hooks: Hooks,
        part: Part | None = None,  # noqa: ARG002 -- `part` has refused already
    ) -> Trainee | None:
        if state:
            raise BadInput("--surrogate: clients keep no state, and this strategy needs them to; choose another one")
        if hooks.matched:
            raise BadInput("--surrogate: there are no units to match; choose another strategy than FedMA")
        if hooks.sampling:
            raise BadInput("--surrogate: there are no examples to choose from; set local.sampling.type to All")
        began, examples = self._clock(), examples_of(client)
        steps = self._steps(examples, hooks)
        update = Values.zeros(base.layout, frozen=False)
        gone = 1 - (1 - min(self._work.local.learning_rate, 1.0)) ** steps
        update.trainable[...] = np.float32(gone) * (self._optimum(client, base) - base.trainable)
        metrics = {"loss": float(np.mean(np.square(update.trainable)))} | self._measured(client, base, update)
        return Trainee(update, Trained(examples, steps, metrics), round(1000 * (self._clock() - began)))

    def _measured(self, client: Client, base: Values, update: Values) -> dict[str, float]:
        """What the job asks its clients to measure beside."""
        before, after = self.losses(client, [base, applied(update, base)], {}, 0)
        measured = {BASE_LOSS: before} if self._work.measures_base_loss else {}
        moved = float(np.linalg.norm(update.trainable))
        if self._work.measures_slopes and moved:
            measured |= {LOSS_SLOPE: abs(after - before) / moved, GRADIENT_SLOPE: 1 / update.trainable.size}
        return measured

    def evaluate(
        self,
        client: Client,
        values: Values,
        state: Mapping[str, Tensor],  # noqa: ARG002 -- it has none
        scope: Scope,
    ) -> Evaluated:
        shared = self._point(values)
        if self._first is None:
            self._first = self._workshop.initialise(self._work.seed).trainable
        gone = 1 - _distance(values.trainable, shared) / _distance(self._first, shared)
        examples = TEST_EXAMPLES if scope is Scope.CENTRAL else max(examples_of(client) // 10, 1)
        return Evaluated(examples, {METRIC: max(gone, 0.0)})

    def losses(
        self,
        client: Client,
        models: Iterable[Values],
        state: Mapping[str, Tensor],  # noqa: ARG002 -- it has none
        seed: int,  # noqa: ARG002 -- nothing is drawn
        part: Part | None = None,  # noqa: ARG002 -- `part` has refused already
    ) -> list[float]:
        """Half the mean square of what each model lacks of the client's optimum."""
        return [float(np.mean(np.square(self._optimum(client, values) - values.trainable)) / 2) for values in models]

    def _steps(self, examples: int, hooks: Hooks) -> int:
        """As many as the real loop would do, each said when it is done."""
        local = self._work.local
        planned = local.epochs * math.ceil(examples / local.batch_size)
        limit = hooks.steps or min(planned, local.max_steps or planned)
        until = self._clock() + duration_s(local.time_budget) if local.time_budget else math.inf
        until = min(until, hooks.stop_at)
        for step in range(limit):
            if hooks.should_stop() or (step and self._clock() >= until):
                return step
            hooks.show((step + 1) / limit)
        return limit

    def _optimum(self, client: Client, base: Values) -> Floats:
        own = np.random.default_rng((client.seed, client.ordinal)).standard_normal(base.trainable.size, np.float32)
        return self._point(base) + np.float32(APART) * own

    def _point(self, values: Values) -> Floats:
        if self._shared is None:
            drawn = np.random.default_rng(self._work.seed).standard_normal(values.trainable.size, np.float32)
            self._shared = drawn
        return self._shared


def examples_of(client: Client) -> int:
    """How many a client has."""
    return int(np.random.default_rng((client.seed, client.ordinal, 1)).integers(*EXAMPLES, endpoint=True))


def _distance(one: Floats, other: Floats) -> float:
    return float(np.linalg.norm(one - other))
