"""Oort: clients whose loss says that they have much to teach, and who are quick enough to teach it.

Lai, Zhu, Madhyastha, Chowdhury, "Oort: Efficient Federated Learning via Guided Participant Selection" (OSDI 2021):
algorithm 1, with the statistical utility of equation 1 and the system utility of equation 2. Where the paper leaves
something open, its released code (SymbioticLab/FedScale) decides, as said below:

- utility of client i: |Bᵢ| · sqrt(1/|Bᵢ| Σ loss(k)²), clipped at the 95th percentile of all (section 4.4), scaled to
  lie between 0 and 1 (code), plus the temporal uncertainty sqrt(0.1 · ln R / Lᵢ), Lᵢ being its last round;
- times (T/tᵢ)^α where it takes tᵢ > T;
- T is a percentile of the times of all clients: 30 at first, 5 more whenever the pacer lets slower clients in (code);
- the pacer compares the utility that came in over two windows of W rounds, each time a window is full: where the newer
  one brought less, T grows (algorithm 1, lines 7 to 8);
- exploitation: (1 − ε)K drawn by utility out of those above 95 % of the ((1 − ε)K)th highest (lines 14 to 16);
- exploration: εK of the clients never asked, drawn by speed (line 17), which is the speed of their connection where an
  earlier job has measured it, else all alike; ε decays after each round down to its least.

Clients that were asked and never gave an update are neither: they come when nobody else is left. What the paper calls
removing outliers (clients picked too often) is left out, as it is off in the released code unless it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_coordinator.histories import Floats, RoundSeen, Table, uplinks
from muster_coordinator.selection import Choice, Request, chosen, drawn

CLIP = 0.95  # percentile of utilities
CUT_OFF = 0.95  # share of the cut-off utility that still admits
FIRST_PERCENTILE, PERCENTILE_STEP = 30.0, 5.0


@dataclass(frozen=True, slots=True)
class Oort:
    """ε, its decay and its least; W; α."""

    exploration: float
    exploration_decay: float
    min_exploration: float
    pacer_rounds: int
    slowness_penalty: float

    def __call__(self, request: Request) -> tuple[Choice, ...]:
        rows = request.rows
        wanted = min(request.wanted, len(request.eligible))
        fresh, known = np.flatnonzero(rows["asked"] == 0), np.flatnonzero(rows["used"] > 0)
        explored = min(int(wanted * self.epsilon(request.round)), len(fresh))
        exploited = min(wanted - explored, len(known))
        explored = min(wanted - exploited, len(fresh))
        reasons = self._exploit(request, rows, known, exploited) | self._explore(request, rows, fresh, explored)
        return chosen(request, _filled(request, reasons, wanted))

    def epsilon(self, number: int) -> float:
        """The share of newcomers in this round."""
        return float(max(self.exploration * self.exploration_decay ** (number - 1), self.min_exploration))

    def percentile(self, rounds: Sequence[RoundSeen]) -> float:
        """Where T stands among the times of all clients, as the pacer has set it."""
        gains, window = [seen.utility for seen in rounds], self.pacer_rounds
        ends = range(2 * window, len(gains) + 1, window)
        falls = sum(sum(gains[end - 2 * window : end - window]) > sum(gains[end - window : end]) for end in ends)
        return min(FIRST_PERCENTILE + PERCENTILE_STEP * falls, 100.0)

    def preferred_s(self, request: Request) -> float:
        """T, in seconds."""
        percentile, times = self.percentile(request.histories.rounds), request.histories.table["elapsed_s"]
        known = np.sort(times[~np.isnan(times)])
        if percentile >= 100 or not len(known):
            return math.inf
        return float(known[min(int(len(known) * percentile / 100), len(known) - 1)])

    def utilities(self, rows: Table, number: int, preferred_s: float) -> Floats:
        """Equation 2 with the temporal uncertainty of algorithm 1, for clients whose updates were used."""
        raw = rows["examples"] * np.nan_to_num(rows["loss_rms"])
        ordered = np.sort(raw)
        clip, low = ordered[min(int(len(ordered) * CLIP), len(ordered) - 1)], ordered[0] * 0.999
        statistical = (np.minimum(raw, clip) - low) / max(ordered[-1] - low, 1e-4)
        scores = statistical + np.sqrt(0.1 * math.log(max(number, 1)) / np.maximum(rows["last_used"], 1))
        times = np.where(np.isnan(rows["elapsed_s"]), 0.0, rows["elapsed_s"])
        slow = times > preferred_s
        penalty = np.ones(len(rows))
        penalty[slow] = (preferred_s / times[slow]) ** self.slowness_penalty
        result: Floats = scores * penalty
        return result

    def _exploit(self, request: Request, rows: Table, known: NDArray[np.int64], count: int) -> dict[int, str]:
        if not count:
            return {}
        scores = self.utilities(rows[known], request.round, self.preferred_s(request))
        cut_off = CUT_OFF * np.sort(scores)[::-1][count - 1]
        admitted = known[scores >= cut_off]
        places = admitted[drawn(scores[scores >= cut_off], count, request.uniforms("exploit")[admitted])]
        return dict.fromkeys(places.tolist(), f"Oort: drawn by utility from the {len(admitted)} most useful clients")

    def _explore(self, request: Request, rows: Table, fresh: NDArray[np.int64], count: int) -> dict[int, str]:
        speeds = uplinks(rows[fresh])
        usual = np.nanmean(speeds) if not np.isnan(speeds).all() else 1.0
        places = fresh[drawn(np.where(np.isnan(speeds), usual, speeds), count, request.uniforms("explore")[fresh])]
        return dict.fromkeys(places.tolist(), f"Oort: explored, one of {len(fresh)} clients never asked")


def _filled(request: Request, reasons: dict[int, str], wanted: int) -> dict[int, str]:
    """With clients that never delivered, where there are not enough others."""
    lacking = wanted - len(reasons)
    if lacking <= 0:
        return reasons
    order = np.argsort(request.uniforms("fill"), kind="stable").tolist()
    more = [place for place in order if place not in reasons][:lacking]
    return reasons | dict.fromkeys(more, "Oort: asked for want of others")
