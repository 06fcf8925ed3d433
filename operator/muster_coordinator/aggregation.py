"""How many updates a round waits for, chosen for each round anew: the aggregation number of FedPA.

Liu, Wang, Rong, Xu, Yu, Wang, "FedPA: an adaptively partial model aggregation strategy in federated learning", Computer
Networks 199 (2021), 108468: the server waits for only as many updates as are a good trade between how long a round
takes and how many rounds it will take, and counts those that come late in a later round. That much is in the paper's
abstract, and is here. Its text was not at hand, so the formulas are ours. Of a cohort's updates Δ_i, whose mean is μ
and whose scatter around it is σ², the mean of K has the expected square ‖μ‖² + σ²/K, of which ‖μ‖² is progress; so
with s = σ² / ‖μ‖² about 1 + s/K times as many rounds are needed as with everybody's (the gradient noise scale of
McCandlish et al. 2018, "An empirical model of large-batch training", section 2.2). The K-th fastest of the cohort is
done after T_K, and the number is the K that minimises

    T_K (1 + s / K)        ⌈minShare n⌉ ≤ K ≤ n

s is estimated from the norms of a round's updates and of their mean (their appendix A.1, with weights p_i):

    σ² = (Σ p_i ‖Δ_i‖² - ‖Δ̄‖²) / (1 - Σ p_i²)        ‖μ‖² = ‖Δ̄‖² - σ² Σ p_i²

Everything here follows from the commits, so a coordinator that is restarted chooses the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from muster_coordinator.histories import Floats
from muster_coordinator.records import RoundCommit, UsedUpdate
from muster_spec.wording import seconds

_NEWEST: Final = 0.5  # weight of the newest round's noise in the mean
_NOISIEST: Final = 1e6  # where the mean is nothing but noise


@dataclass(frozen=True, slots=True)
class Number:
    """How many updates close the round, and why."""

    updates: int
    why: str


@dataclass(frozen=True, slots=True)
class AggregationNumber:
    """`min_share` of the cohort is the least."""

    min_share: float

    def choose(self, times: Floats, most: int, noise: float | None) -> Number:
        """For a cohort that needs such times (nan: not known yet), of whom at most so many are waited for."""
        known = times[~np.isnan(times)]
        if noise is None or not len(known):
            return Number(most, "nothing is known of its clients yet")
        ordered = np.sort(np.where(np.isnan(times), np.median(known), times))[:most]
        least = min(max(math.ceil(self.min_share * len(times) - 1e-9), 1), most)
        counts = np.arange(least, most + 1)
        costs = np.maximum(ordered[least - 1 :], 1e-3) * (1 + noise / counts)
        best = int(counts[np.argmin(costs)])
        why = f"{best} of {len(times)} are there after {seconds(float(ordered[best - 1]))}, at a noise of {noise:.3g}"
        return Number(best, why)


def noise_after(before: float | None, commit: RoundCommit) -> float | None:
    """s, with one more round in its mean; as it was where too few updates say anything."""
    found = _noise(commit.used, commit.norm) if commit.round else None
    if found is None or before is None:
        return before if found is None else found
    return (1 - _NEWEST) * before + _NEWEST * found


def _noise(used: Sequence[UsedUpdate], norm: float) -> float | None:
    total = sum(each.weight for each in used)
    if len(used) < 2 or not norm:
        return None
    shares = [each.weight / total for each in used]
    alone = sum(share**2 for share in shares)
    squares = sum(share * each.norm**2 for share, each in zip(shares, used, strict=True))
    scatter = max(squares - norm**2, 0.0) / (1 - alone)
    progress = norm**2 - scatter * alone
    return min(scatter / progress, _NOISIEST) if progress > 0 else _NOISIEST
