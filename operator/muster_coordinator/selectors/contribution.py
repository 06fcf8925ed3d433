"""ContributionHistory: clients drawn in proportion to how far their earlier updates moved the model.

An update's contribution c is its weight w times its norm, as a multiple of the average of its sum: 1 for an average
one. A client's history h is the mean of its contributions, k = 0 being the newest, in which each older one counts
`decay` times as much as the next (1: a plain mean; 0: only the newest); histories.py folds it. Who has none has 1.

    c = w ‖Δ‖ / mean(w ‖Δ‖)        h = Σ_k decay^k c_k / Σ_k decay^k        drawn without replacement, by h

`exploration` of the cohort is drawn evenly instead, so that nobody whose first updates were small is forgotten.

The name is that of FedRQ's policy, said to go by the history of contributions. No paper of that name was to be found,
so the formula is ours, and no claim is made that FedRQ's is the same.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from muster_coordinator.selection import Choice, Request, chosen, drawn


@dataclass(frozen=True, slots=True)
class ContributionHistory:
    """The share of the cohort that is drawn evenly. Their decay is part of the fold."""

    exploration: float

    def __call__(self, request: Request) -> tuple[Choice, ...]:
        rows, there = request.rows, len(request.eligible)
        wanted = min(request.wanted, there)
        # a share of less than one client is one client in so many rounds
        even = min(int(wanted * self.exploration + random.Random(f"{request.seed}/{request.round}").random()), wanted)
        history = np.where(rows["moved_weight"] > 0, rows["moved"] / np.maximum(rows["moved_weight"], 1e-9), 1.0)
        by_history = drawn(history, wanted - even, request.uniforms("history")).tolist()
        rest = np.setdiff1d(np.arange(there), by_history)
        order = np.argsort(request.uniforms("exploration")[rest], kind="stable")[:even]
        return chosen(
            request,
            dict.fromkeys(by_history, f"contribution: drawn from {there} by what earlier updates moved")
            | dict.fromkeys(rest[order].tolist(), "contribution: drawn evenly, to hear of others too"),
        )
