"""Updates become weights in a sum, and the sum a mean: `importance.py` says how much each client counts, the strategy
what that comes to.

Weights are known as soon as an update is here, so that it can be folded and forgotten, wherever one client's doesn't
hang on the others'. Where it does (a blend, a largest share, q-FedAvg), updates wait, staged in their encoded form, and
are folded when the round closes. Either way each is read once, into one sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import structs

from muster_coordinator.importance import Importance, importance_of
from muster_coordinator.records import UsedUpdate
from muster_coordinator.strategies import FedAvg, Strategy, strategy_of
from muster_spec.types import JobSpec


@dataclass(frozen=True, slots=True)
class Weighing:
    """What the engine asks of a job's weighting and strategy."""

    importance: Importance = field(default_factory=Importance)
    strategy: Strategy = field(default_factory=FedAvg)

    @property
    def waits(self) -> bool:
        """Whether weights are known only when the round closes."""
        return self.importance.waits or self.strategy.waits

    def problem(self, steps: int, metrics: Mapping[str, float]) -> str | None:
        """Why an update that says this of itself can't be weighed."""
        return self.importance.problem(metrics) or self.strategy.problem(steps, metrics)

    def weigh(self, used: Sequence[UsedUpdate]) -> tuple[UsedUpdate, ...]:
        """The same with their weights in the sum; together, where they wait for one another."""
        weights = self.strategy.weights(used, self.importance.of(used)) if used else ()
        return tuple(structs.replace(one, weight=weight) for one, weight in zip(used, weights, strict=True))

    def scale(self, used: Sequence[UsedUpdate]) -> float:
        """What their weighted mean is multiplied by before the server steps with it."""
        return self.strategy.scale(used, self.importance.of(used)) if used else 1.0


def weighing_of(spec: JobSpec) -> Weighing:
    """What a resolved job asks for."""
    max_share = spec.robustness.max_weight_share if spec.robustness else None
    return Weighing(importance_of(spec.strategy.weighting, max_share), strategy_of(spec.strategy, spec.local))
