"""Which units of different clients' layers are the same one, and what it is: matched averaging of one layer.

Wang et al. 2020, "Federated learning with matched averaging" (FedMA), equation 2, with the matching of Yurochkin et al.
2019, "Bayesian nonparametric federated learning of neural networks", equations 8 and 9 (BBP-MAP): units of all clients
are noisy copies (variance σ²) of global ones, which come from a Gaussian prior (variance σ₀²) by a Beta-Bernoulli
process of mass γ. Given all other clients' matches, those of client j maximise, with A = w / σ², G_i = Σ A over the
units matched to i, m_i how many there are, S_i = 1/σ₀² + m_i/σ², and J clients,

    ‖A_l + G_i‖² / (S_i + 1/σ²) - ‖G_i‖² / S_i + 2 log(m_i / (J - m_i))       to a global unit i that there is
    ‖A_l‖² / (1/σ₀² + 1/σ²) - 2 log(t J / γ)                                 to the t-th new one

which is an assignment problem for each client: scipy solves it. Clients are matched one after another, and then again
in random orders. At most `most` global units are made.

A global unit is the mean of those matched to it, as in FedMA's algorithm 1. (The authors' code divides by S_i, which
also draws every unit towards zero.) Products of units are all that is needed, so rows are read a client at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Wide = NDArray[np.float64]
Places = NDArray[np.int64]
Read = Callable[[int], Wide]  # client → its units [n, d]


@dataclass(frozen=True, slots=True)
class Matching:
    """How units are matched: σ², σ₀², γ, how often all clients are matched again, and how much a layer may grow."""

    sigma: float = 1.0
    prior_sigma: float = 1.0
    gamma: float = 7.0
    sweeps: int = 5
    max_growth: float = 1.5


@dataclass(slots=True)
class _Global:
    """The global units so far: sums of A [L, d], and how many units of clients are in each."""

    sums: Wide
    counts: Places = field(default_factory=lambda: np.zeros(0, np.int64))


def match_units(
    read: Read, clients: int, matching: Matching, most: int, rng: np.random.Generator
) -> tuple[list[Places], Wide]:
    """Each client's global units, in the order of its own, and the global units themselves, [L, d]."""
    first = read(0) / matching.sigma
    state = _Global(first.copy(), np.ones(len(first), np.int64))
    matches: list[Places] = [np.arange(len(first))]
    matches += [_join(state, read(client), matching, clients, most) for client in range(1, clients)]
    for _ in range(matching.sweeps):
        for client in rng.permutation(clients).tolist():
            units = read(client)
            _leave(state, units, matches, client, matching)
            matches[client] = _join(state, units, matching, clients, most)
    return matches, state.sums * matching.sigma / state.counts[:, None]


def gains(units: Wide, state: _Global, matching: Matching, clients: int, new: int) -> Wide:
    """What each unit of a client gains by each match: [n, L + new]."""
    scaled, precision, prior = units / matching.sigma, 1 / matching.sigma, 1 / matching.prior_sigma
    own, there = np.square(scaled).sum(axis=1)[:, None], np.square(state.sums).sum(axis=1)
    known = prior + precision * state.counts
    joined = (own + 2 * scaled @ state.sums.T + there) / (known + precision) - there / known
    joined += 2 * np.log(state.counts / (clients - state.counts))
    alone = own / (prior + precision) - 2 * np.log(np.arange(1, new + 1) * clients / matching.gamma)
    return np.hstack([joined, alone])


def _join(state: _Global, units: Wide, matching: Matching, clients: int, most: int) -> Places:
    """Match a client that is not in the state; where its units are now."""
    there = len(state.counts)
    new = min(len(units), max(most - there, len(units) - there, 0))
    # Here, since it takes longer to import than the rest of a coordinator, and only this strategy wants it.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(gains(units, state, matching, clients, new), maximize=True)
    fresh = np.unique(columns[columns >= there])
    state.sums = np.vstack([state.sums, np.zeros((len(fresh), units.shape[1]))])
    state.counts = np.concatenate([state.counts, np.zeros(len(fresh), np.int64)])
    places = np.where(columns < there, columns, there + np.searchsorted(fresh, columns))
    found = np.empty(len(units), np.int64)
    found[rows] = places
    state.sums[found] += units / matching.sigma
    state.counts[found] += 1
    return found


def _leave(state: _Global, units: Wide, matches: list[Places], client: int, matching: Matching) -> None:
    """Take a client out, and with it the global units that nobody else has."""
    state.sums[matches[client]] -= units / matching.sigma
    state.counts[matches[client]] -= 1
    stays = state.counts > 0
    moved = np.cumsum(stays) - 1
    state.sums, state.counts = state.sums[stays], state.counts[stays]
    for other, places in enumerate(matches):
        if other != client:
            matches[other] = moved[places]
