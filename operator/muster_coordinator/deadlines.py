"""How long a round waits for its updates: as the job says, or as its cohort's own past suggests.

Adaptive is the deadline control of FedBalancer (Shin, Li, Liu, Lee, "FedBalancer: Data and Pace Control for Efficient
Federated Learning on Heterogeneous Clients", MobiSys 2022, algorithms 3 and 4). The efficiency of a deadline t is how
many of the cohort are done by then, over t. `low` is the most efficient deadline if everybody did one local epoch,
`high` if everybody did all of them; the deadline is low + (high − low) · r. The ratio r begins at 1. After each 20
rounds it falls by 0.05 where training loss has fallen from the 20 before, so that rounds grow shorter while that works,
and else rises by as much. (ADEL-FL, Goren et al. 2025, arXiv 2505.23973, chooses deadlines for a total time that is
given, which needs a bound on the loss that nobody knows in advance: its aim, most progress a second, is what is kept.)

What the paper leaves to its testbed: a client's time is the mean that histories.py keeps, or for those not timed yet
what expecting.py foretells; nothing is adapted before half of all clients, or 200, are known; a tenth is added, since
times vary; and the deadline lets as many clients finish as a round needs, and stays within the job's bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from muster_coordinator.expecting import expected_s
from muster_coordinator.histories import Floats, RoundSeen, Table
from muster_spec.wording import seconds

WINDOW = 20  # rounds
STEP = 0.05
KNOWN_SHARE, KNOWN_CLIENTS = 0.5, 200
SLACK = 1.1


@dataclass(frozen=True, slots=True)
class AdaptiveDeadline:
    """The shortest one that may be chosen, the job's local epochs, and whether clients stop in time by themselves."""

    least_s: float
    epochs: int
    is_elastic: bool


@dataclass(frozen=True, slots=True)
class Deadline:
    """For one round, and why."""

    seconds: float
    why: str


def choose_deadline(
    policy: AdaptiveDeadline, most_s: float, cohort: Table, everybody: Table, rounds: Sequence[RoundSeen], minimum: int
) -> Deadline:
    """For a round of this cohort, that needs `minimum` updates."""
    known = ~np.isnan(everybody["elapsed_s"])
    if known.sum() <= min(KNOWN_SHARE * len(everybody), KNOWN_CLIENTS):
        return Deadline(most_s, f"{known.sum()} of {len(everybody)} clients have been timed so far")
    whole = expected_s(cohort, everybody, most_s)
    single = whole - np.nan_to_num(cohort["train_s"]) * (1 - 1 / policy.epochs)
    low, high, ratio = most_efficient(single, minimum), most_efficient(whole, minimum), ratio_after(rounds)
    needed = np.sort(single if policy.is_elastic else whole)[min(minimum, len(whole)) - 1]
    wanted = SLACK * max(low + (high - low) * ratio, float(needed))
    chosen = min(max(wanted, policy.least_s), most_s)
    return Deadline(chosen, f"between {seconds(low)} and {seconds(high)}, which bring most updates a second")


def most_efficient(times: Floats, minimum: int) -> float:
    """The deadline with the most updates a second, of those by which as many as are needed are in (algorithm 4).

    Among equals it is the last: more updates for the same price.
    """
    ordered = np.maximum(np.sort(times), 1e-3)
    first = min(minimum, len(ordered)) - 1
    efficiency = np.arange(first + 1, len(ordered) + 1) / ordered[first:]
    return float(ordered[::-1][np.argmax(efficiency[::-1])])


def ratio_after(rounds: Sequence[RoundSeen]) -> float:
    """r, as the training losses of the rounds so far leave it (algorithm 3)."""
    losses, steps = [seen.loss for seen in rounds], 0
    for end in range(2 * WINDOW, len(losses) + 1, WINDOW):
        gained = np.nanmean(losses[end - 2 * WINDOW : end - WINDOW]) - np.nanmean(losses[end - WINDOW : end])
        steps = min(max(steps + (1 if gained > 0 else -1), 0), round(1 / STEP))
    return 1.0 - STEP * steps
