"""Above which loss examples teach most in a round (local.sampling: FedBalancer): a fold over the rounds before it.

Shin et al., MobiSys 2022, algorithm 2: with LLow the smallest loss that any client of the last round has, LHigh the
mean of their high ones (the 80th percentile) and r the ratio of algorithm 3, the threshold is

    LLow + (LHigh - LLow) · r

r begins at 0, so that everybody trains on everything, and rises by 0.05 after each 20 rounds in which the training loss
has fallen, else it falls as much: exactly against the deadline's ratio (deadlines.py), which falls when it rises.
Losses are clients' claims; one that lies makes others choose badly, and does no other harm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from muster_coordinator.deadlines import ratio_after
from muster_coordinator.histories import RoundSeen


def loss_threshold(rounds: Sequence[RoundSeen]) -> float | None:
    """For the next round; None while nobody has said a loss."""
    said = [seen for seen in rounds if math.isfinite(seen.loss_low) and math.isfinite(seen.loss_high)]
    if not said:
        return None
    ratio = 1 - ratio_after(rounds)
    return said[-1].loss_low + (said[-1].loss_high - said[-1].loss_low) * ratio
