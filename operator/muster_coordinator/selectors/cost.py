"""Cost: those whose update is likely to cost least, by what their pool's workers cost.

A worker costs for as long as a round keeps it busy, so a client's price and energy are those of an hour times the hours
that it was measured to need (where that is not known yet: that expecting.py foretells). The likelihood that its worker
is taken away on the way is 1 − (1 − p)^hours, p being the likelihood for an hour. Each of the three is taken as a
multiple of its mean over the clients here, so that the job's weights compare like with like. Among equals it draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from muster_coordinator.expecting import expected_s
from muster_coordinator.histories import Floats
from muster_coordinator.selection import Choice, Request, chosen, highest

USUAL_S = 3600.0  # while nobody was timed; of what is weighed only the risk hangs on it
LEAST_S = 1e-3


@dataclass(frozen=True, slots=True)
class Rate:
    """What one worker of a pool costs, draws and risks in an hour."""

    price: float = 0.0
    watts: float = 0.0
    interruptions: float = 0.0


@dataclass(frozen=True, slots=True)
class Cost:
    """How much price, energy and interruptions count; and the rates of the pools."""

    price: float
    interruptions: float
    energy: float
    rates: Mapping[str, Rate]

    def __call__(self, request: Request) -> tuple[Choice, ...]:
        wanted = min(request.wanted, len(request.eligible))
        places = highest(-self.costs(request), wanted, request.uniforms("cost")).tolist()
        pools = [request.eligible[place].rpartition("/")[0] for place in places]
        words = {pool: _words(self.rates[pool]) for pool in set(pools)}
        return chosen(
            request,
            {
                place: f"cost: among the cheapest {wanted} of {len(request.eligible)} ({words[pool]})"
                for place, pool in zip(places, pools, strict=True)
            },
        )

    def costs(self, request: Request) -> Floats:
        """What an update of each client is expected to cost, in multiples of the average."""
        hours = np.maximum(expected_s(request.rows, request.everybody, USUAL_S), LEAST_S) / 3600.0
        numbers = {pool: number for number, pool in enumerate(self.rates)}
        pools = [numbers[client.rpartition("/")[0]] for client in request.eligible]
        of = {
            name: np.array([getattr(rate, name) for rate in self.rates.values()])[pools]
            for name in ("price", "watts", "interruptions")
        }
        lost = 1.0 - (1.0 - of["interruptions"]) ** hours
        return (
            self.price * _relative(of["price"] * hours)
            + self.energy * _relative(of["watts"] * hours)
            + self.interruptions * _relative(lost)
        )


def _relative(values: Floats) -> Floats:
    mean = values.mean() if len(values) else 0.0
    return values / mean if mean > 0 else np.zeros(len(values))


def _words(rate: Rate) -> str:
    return f"{rate.price:g} an hour, {rate.watts:g} W, lost {rate.interruptions:.0%} of hours"
