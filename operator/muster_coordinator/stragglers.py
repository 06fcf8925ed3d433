"""Clients that would not be done by the deadline: they stop in time, and what they did counts for as much as it is.

`rounds.stragglers: Partial`. Each order says for how long its client may train: until what is left of the round is
enough to send its update, by how long its updates took before. A client that has to stop early hands in what it has
(Li et al. 2020, "Federated optimization in heterogeneous networks", section 3: partial solutions of stragglers are
worth having, which is FedProx's point), and its weight is the share of its steps that it did, so that a client that got
through a tenth of its data does not speak for all of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

UPLOADS = 1.5  # of the usual time for an update to come in, what is kept for it
MARGIN = 0.05  # of the deadline, besides
MARGIN_UNKNOWN = 0.1  # ... while nobody knows how long an update takes


@dataclass(frozen=True, slots=True)
class PartialWork:
    """What a whole round's work is: the local epochs, the examples of a step, and the most steps. `is_weighed` unless
    the strategy counts steps by itself.
    """

    epochs: int
    batch_size: int
    max_steps: int | None
    is_weighed: bool = True

    def share(self, examples: int, steps: int, planned: int = 0) -> float:
        """How much of its work a client did. One that counts no steps is believed to have done all.

        `planned` is how many steps it was told to do, where it was; 0: as many as its examples make.
        """
        if not self.is_weighed:
            return 1.0
        usual = self.epochs * math.ceil(examples / self.batch_size)
        whole = planned or min(usual, self.max_steps or usual)
        return min(steps / whole, 1.0) if steps else 1.0


def stop_by(deadline: float, length_s: float, upload_s: float) -> float:
    """When a client has to stop training for its update to be here in time; nan: nobody knows how long that takes."""
    kept = MARGIN_UNKNOWN * length_s if math.isnan(upload_s) else MARGIN * length_s + UPLOADS * upload_s
    return deadline - min(kept, length_s / 2)  # a slow line is no reason to train hardly at all
