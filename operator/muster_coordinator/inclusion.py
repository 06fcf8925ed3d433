"""Makes up for clients that are counted more often than others: weights inverse to how often, clipped.

With fastest-K the quick clients are in nearly every sum, and the model drifts to what they have. The inverse of a
client's probability of being counted undoes that in expectation (Horvitz and Thompson, 1952, "A generalization of
sampling without replacement from a finite universe"; normalised by the sum of weights, as a mean is, it is Hájek's
estimator). The probability is estimated by the client's past: u of R rounds, with one more update in 1/b more rounds
for a start, b being the share of rounds that an average client is in. So a factor is b / π, π = (u + 1) / (R + 1/b): 1
at first, below it for who is counted often. It never grows past the job's limit, for the variance that would bring.
"""

from __future__ import annotations

import numpy as np

from muster_coordinator.histories import Floats


def inclusion_factors(used: Floats, rounds: int, most: float) -> Floats:
    """What each client's weight is multiplied by; `used` counts its updates in the sums of so many `rounds`."""
    average = float(used.mean()) / rounds if rounds and len(used) else 0.0
    if average <= 0:
        return np.ones(len(used))
    probabilities = (used + 1.0) / (rounds + 1.0 / average)
    return np.minimum(average / probabilities, most)
