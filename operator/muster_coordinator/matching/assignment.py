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
from dataclasses import dataclass

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
    """The global units so far: sums of A [L, d], in a room that has space for all there may be, and how many units of
    clients are in each.
    """

    room: Wide
    counts: Places

    @property
    def sums(self) -> Wide:
        return self.room[: len(self.counts)]


def match_units(
    read: Read, clients: int, matching: Matching, most: int, rng: np.random.Generator
) -> tuple[list[Places], Wide]:
    """Each client's global units, in the order of its own, and the global units themselves, [L, d].

    One client's units are in memory at a time, and the global ones once.
    """
    state = _begin(read(0), matching, most)
    matches: list[Places] = [np.arange(len(state.counts))]
    matches.extend(_join(state, read(client), matching, clients, most) for client in range(1, clients))
    for _ in range(matching.sweeps):
        for client in rng.permutation(clients).tolist():
            _move(state, read(client), matches, client, matching, most)
    units = state.sums
    units *= matching.sigma
    units /= state.counts[:, None]
    return matches, units


def gains(units: Wide, state: _Global, matching: Matching, clients: int, new: int) -> Wide:
    """What each unit of a client gains by each match: [n, L + new]."""
    precision, prior, sums = 1 / matching.sigma, 1 / matching.prior_sigma, state.sums
    own = np.einsum("ij,ij->i", units, units)[:, None] * precision**2
    there = np.einsum("ij,ij->i", sums, sums)
    known = prior + precision * state.counts
    joined = units @ sums.T  # and in place from here on: it may be larger than the layer
    joined *= 2 * precision
    joined += own
    joined += there
    joined /= known + precision
    joined += 2 * np.log(state.counts / (clients - state.counts)) - there / known
    alone = own / (prior + precision) - 2 * np.log(np.arange(1, new + 1) * clients / matching.gamma)
    return np.hstack([joined, alone])


def _begin(units: Wide, matching: Matching, most: int) -> _Global:
    """With the units of the first client."""
    state = _Global(np.zeros((max(most, len(units)), units.shape[1])), np.ones(len(units), np.int64))
    np.divide(units, matching.sigma, out=state.sums)
    return state


def _move(state: _Global, units: Wide, matches: list[Places], client: int, matching: Matching, most: int) -> None:
    """Match a client anew, given all others."""
    _leave(state, units, matches, client, matching)
    matches[client] = _join(state, units, matching, len(matches), most)


def _join(state: _Global, units: Wide, matching: Matching, clients: int, most: int) -> Places:
    """Match a client that is not in the state; where its units are now."""
    there = len(state.counts)
    new = min(len(units), max(most - there, len(units) - there, 0))
    # Here, since it takes longer to import than the rest of a coordinator, and only this strategy wants it.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(gains(units, state, matching, clients, new), maximize=True)
    fresh = np.unique(columns[columns >= there])
    state.counts = np.concatenate([state.counts, np.zeros(len(fresh), np.int64)])
    state.sums[there:] = 0
    places = np.where(columns < there, columns, there + np.searchsorted(fresh, columns))
    found = np.empty(len(units), np.int64)
    found[rows] = places
    for place, unit in zip(found.tolist(), units, strict=True):  # one by one: all at once would take three copies
        state.sums[place] += unit / matching.sigma
    state.counts[found] += 1
    return found


def _leave(state: _Global, units: Wide, matches: list[Places], client: int, matching: Matching) -> None:
    """Take a client out, and with it the global units that nobody else has."""
    for place, unit in zip(matches[client].tolist(), units, strict=True):
        state.sums[place] -= unit / matching.sigma
    state.counts[matches[client]] -= 1
    stays = state.counts > 0
    moved = np.cumsum(stays) - 1
    for before in np.flatnonzero(stays).tolist():
        if moved[before] != before:
            state.room[moved[before]] = state.room[before]
    state.counts = state.counts[stays]
    for other, places in enumerate(matches):
        if other != client:
            matches[other] = moved[places]
