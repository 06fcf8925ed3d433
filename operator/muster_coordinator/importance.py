"""How much each client counts: `strategy.weighting`, and `robustness.maxWeightShare` on top of it.

A strategy makes weights in its sum of these (weighing.py). All numbers that come in are claims of clients: counts and
metrics were held against bounds before, and losses and variances are here, so that no claim is worth infinitely much.

With n examples, l the mean training loss and v the variance of gradients, a client counts

    Examples n        Uniform 1        Loss l        Variance 1 / v        Blend a n/Σn + b l/Σl + c (1/v)/Σ(1/v)

and a late update so much of that as its discount says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from muster_coordinator.records import UsedUpdate
from muster_spec.clients import ClientId
from muster_spec.strategy_types import Blend, Weighting
from muster_spec.work import GRADIENT_VARIANCE, LOSS

_LEAST, _MOST = 1e-6, 1e6  # of a loss: none counts for nothing, and none for everything
_STEADIEST, _WILDEST = 1e-12, 1e12  # of a variance

Measure = Callable[[UsedUpdate], float]


def _examples(update: UsedUpdate) -> float:
    return float(update.examples)


def _one(_: UsedUpdate) -> float:
    return 1.0


def _loss(update: UsedUpdate) -> float:
    return min(max(update.metrics[LOSS], _LEAST), _MOST)


def _steadiness(update: UsedUpdate) -> float:
    return 1 / min(max(update.metrics[GRADIENT_VARIANCE], _STEADIEST), _WILDEST)


_MEASURES: Final[Mapping[str, Measure]] = {
    "Examples": _examples,
    "Uniform": _one,
    "Loss": _loss,
    "Variance": _steadiness,
}
_METRICS: Final[Mapping[str, tuple[str, str]]] = {  # what a kind is made of, and why it may be missing
    "Loss": (LOSS, "a task with a train() of its own has to give it"),
    "Variance": (GRADIENT_VARIANCE, "it takes two local steps, and a task with a train() of its own has to give it"),
}


@dataclass(frozen=True, slots=True)
class Importance:
    """The parts of which kinds a client's importance is made; and the largest share of all that it may have."""

    parts: tuple[tuple[str, float], ...] = (("Examples", 1.0),)
    max_share: float | None = None

    @property
    def waits(self) -> bool:
        """Whether an update's importance hangs on the others', so that it isn't known before the round closes."""
        return self.max_share is not None or len(self.parts) > 1

    def problem(self, metrics: Mapping[str, float]) -> str | None:
        """Why an update with these metrics can't be counted."""
        for kind, _ in self.parts:
            name, hint = _METRICS.get(kind, ("", ""))
            if name and name not in metrics:
                return f"its weight hangs on the metric {name}, which it doesn't have: {hint}"
        return None

    def of(self, used: Sequence[UsedUpdate]) -> tuple[float, ...]:
        """Of each update, in any unit; where nothing has to be waited for, one by itself gives the same."""
        mixed = [0.0] * len(used)
        for kind, part in self.parts:
            values = [_MEASURES[kind](update) for update in used]
            unit = sum(values) / part if len(self.parts) > 1 else 1.0
            mixed = [one + value / unit for one, value in zip(mixed, values, strict=True)]
        counted = [one * update.discount for one, update in zip(mixed, used, strict=True)]
        return tuple(counted) if self.max_share is None else capped(counted, [u.client for u in used], self.max_share)


def importance_of(weighting: Weighting, max_share: float | None) -> Importance:
    """What a resolved job asks for."""
    if weighting.type != "Blend":
        return Importance(((weighting.type, 1.0),), max_share)
    blend = weighting.blend or Blend(examples=1.0, loss=1.0, variance=1.0)
    parts = (("Examples", blend.examples), ("Loss", blend.loss), ("Variance", blend.variance))
    return Importance(tuple((kind, part) for kind, part in parts if part > 0), max_share)


def capped(counted: Sequence[float], clients: Sequence[ClientId], share: float) -> tuple[float, ...]:
    """The same with no client above this share of the new sum; all alike where they are too few for that.

    The largest are brought down to one bound t and the others keep what they have. With k of them bounded,
    t = share · (k t + rest), so t = share · rest / (1 - k share); k is the smallest at which the next isn't above t.
    """
    total: defaultdict[ClientId, float] = defaultdict(float)
    for client, one in zip(clients, counted, strict=True):
        total[client] += one
    bound = _bound(sorted(total.values()), share)
    return tuple(one * min(1.0, bound / total[client]) for client, one in zip(clients, counted, strict=True))


def _bound(ascending: Sequence[float], share: float) -> float:
    rests = tuple(accumulate(ascending))  # from the smallest up, so that a huge one doesn't swallow the others
    for bounded, (largest, rest) in enumerate(zip(reversed(ascending), reversed(rests), strict=True)):
        left = 1 - bounded * share
        if left <= 0:
            break
        bound = share * rest / left
        if largest <= bound:
            return bound if bounded else largest
    return ascending[0]
