"""The clock of whoever works, and the place where all simulated clients train.

One client's work is done at once, in the moment in which it begins, with the worker's own code; how long it would have
taken is counted meanwhile: bytes at its line's rates, steps at its machine's. So this clock runs ahead of the world's,
and the client is busy until the world has caught up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from muster.evaluation import Evaluated
from muster.loop import Shop
from muster.orders import Scope, SubModel
from muster.task import Client
from muster.workshop import SAMPLE, Hooks, Trainee
from muster_cli.simulation.world import World
from muster_wire.submodel import Part
from muster_wire.values import Values

FORWARD_SHARE = 1 / 3  # of a step's work, when a model is only measured: no gradients


class Bench:
    """How far the working client is ahead of the world."""

    def __init__(self, world: World, batch_size: int) -> None:
        self._world = world
        self._batch_size = batch_size
        self._ahead_s = 0.0
        self._step_s = 0.0
        self._within_s = 0.0  # of the step that is being done, what has been spent

    def now(self) -> float:
        return self._world.now() + self._ahead_s

    def begin(self, step_s: float) -> None:
        """Somebody begins to work whose steps take so long."""
        self._ahead_s, self._step_s, self._within_s = 0.0, step_s, 0.0

    def end(self) -> float:
        """The seconds that the work has taken."""
        spent_s, self._ahead_s = self._ahead_s, 0.0
        return spent_s

    def spend(self, seconds: float) -> None:
        self._ahead_s += seconds

    def step(self) -> None:
        """One local step is done."""
        self._ahead_s += self._step_s - self._within_s
        self._within_s = 0.0

    def within(self, fraction: float) -> None:
        """So much of one is done."""
        self._ahead_s += fraction * self._step_s - self._within_s
        self._within_s = fraction * self._step_s

    def measure(self, examples: int) -> None:
        """So many examples have gone forward through the model."""
        self._ahead_s += FORWARD_SHARE * self._step_s * examples / self._batch_size


class PacedShop:
    """A workshop whose work takes the bench's time."""

    def __init__(self, shop: Shop, bench: Bench) -> None:
        self._shop = shop
        self._bench = bench

    def initialise(self, seed: int, *, with_groups: bool = False) -> Values:
        return self._shop.initialise(seed, with_groups=with_groups)

    def part(self, wanted: SubModel) -> Part:
        return self._shop.part(wanted)

    def train(
        self,
        client: Client,
        base: Values,
        state: Mapping[str, Tensor],
        seed: int,
        hooks: Hooks,
        part: Part | None = None,
    ) -> Trainee | None:
        def stepped(fraction: float) -> None:
            self._bench.step()
            hooks.show(fraction)

        return self._shop.train(
            client, base, state, seed, hooks._replace(show=stepped, within=self._bench.within), part
        )

    def evaluate(self, client: Client, values: Values, state: Mapping[str, Tensor], scope: Scope) -> Evaluated:
        evaluated = self._shop.evaluate(client, values, state, scope)
        self._bench.measure(evaluated.examples)
        return evaluated

    def losses(
        self,
        client: Client,
        models: Iterable[Values],
        state: Mapping[str, Tensor],
        seed: int,
        part: Part | None = None,
    ) -> list[float]:
        found = self._shop.losses(client, models, state, seed, part)
        self._bench.measure(SAMPLE * len(found))
        return found
