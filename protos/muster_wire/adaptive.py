"""How many values top-k should send, learnt while the job runs: a pure decision after each round.

Adaptive gradient sparsification (Han, Wang, Leung, ICDCS 2020). The cost of k is the time that the loss needs to fall
by as much; it is taken to be convex in k, and k takes steps against the *sign* of its derivative, which is estimated
from one more, smaller k' a round. Algorithm 2 of the paper is the descent, Algorithm 3 shrinks the interval of search:

    k ← clip(k − δ_m s, k_min, k_max)    δ_m = B / √(2 m)    B = k_max − k_min    m rounds since the interval changed
    s = sign((τ(k) − τ̂(k')) / (k − k'))    τ̂(k') = time(k') · (L_before − L_after) / (L_before − L'_after)

Here k is the logarithm of the share of values sent, since shares between 0.1 % and 10 % are worth telling apart at
both ends; sign descent only needs a cost with one valley. L'_after is the loss that the round would have ended with,
had only the k' largest values been sent. Where the loss has not fallen with both, nothing can be learnt and k stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

_WINDOW: Final = 20  # rounds after which the interval may shrink: M_u of Algorithm 3
_MARGIN: Final = 1.5  # the interval reaches this factor beyond the shares seen in the window: α of Algorithm 3


@dataclass(frozen=True, slots=True)
class Search:
    """Where the search stands. Shares of the values instead of counts: the same for every model."""

    least: float
    most: float
    share: float
    low: float  # the interval that is searched now
    high: float
    round: int = 1  # since the interval was set
    seen_low: float = math.inf  # of shares, in this interval
    seen_high: float = 0.0

    @classmethod
    def start(cls, least: float, most: float) -> Search:
        """Begins in the middle, on the scale of orders of magnitude. ValueError for shares that none can be between."""
        if not 0 < least <= most <= 1:
            raise ValueError(f"shares are above 0 and at most 1, the least before the most: not {least:g} and {most:g}")
        return cls(least, most, math.sqrt(least * most), least, most)

    @property
    def step(self) -> float:
        """δ, in logarithms."""
        return math.log(self.high / self.low) / math.sqrt(2 * self.round)

    @property
    def probe(self) -> float:
        """The smaller share to compare with: half a step down, even below the least."""
        return self.share * math.exp(-self.step / 2)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a round showed. Losses of the same data; seconds that the round took, and would have with the probe."""

    loss_before: float
    loss_after: float
    loss_probe: float
    seconds: float
    seconds_probe: float


def adapt(search: Search, seen: Seen) -> Search:
    """The search after this round; its `share` is for the next."""
    sign = _sign(seen)
    if sign is None:
        return search
    share = min(max(search.share * math.exp(-search.step * sign), search.low), search.high)
    moved = replace(
        search,
        share=share,
        round=search.round + 1,
        seen_low=min(search.seen_low, share),
        seen_high=max(search.seen_high, share),
    )
    return _narrowed(moved) if moved.round > _WINDOW else moved


def _sign(seen: Seen) -> int | None:
    """Of the cost's derivative: 1 if fewer values are better, -1 if more are; None if nothing can be told."""
    fell, would_fall = seen.loss_before - seen.loss_after, seen.loss_before - seen.loss_probe
    numbers = (fell, would_fall, seen.seconds, seen.seconds_probe)
    if not all(math.isfinite(number) and number > 0 for number in numbers):
        return None
    cost, cost_probe = seen.seconds, seen.seconds_probe * fell / would_fall
    return (cost > cost_probe) - (cost < cost_probe)


def _narrowed(search: Search) -> Search:
    """A new interval around what was seen, if it is a smaller one; the steps begin anew there."""
    low, high = max(search.least, search.seen_low / _MARGIN), min(search.most, search.seen_high * _MARGIN)
    if high / low >= search.high / search.low:
        return replace(search, seen_low=math.inf, seen_high=0.0)
    return Search(search.least, search.most, search.share, low, high)
