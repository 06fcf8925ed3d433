"""Who is left out for a while: clients that fail or miss deadlines, longer each time, and never for good.

After the first failure a client sits out `rounds` rounds, after each further one in a row twice as many, up to `most`
(truncated exponential back-off). One update that is used wipes all that out. An exclusion is a number of the table, not
a state of its own: it follows from the strikes and the round of the last one, and it ends because rounds go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from muster_coordinator.histories import Table
from muster_spec.clients import ClientId

_DOUBLINGS = 30  # more than any limit allows: keeps 2 to the power of strikes within an integer


@dataclass(frozen=True, slots=True)
class Exclusion:
    """For how many rounds at first, and at most."""

    rounds: int
    most: int

    def until(self, rows: Table) -> NDArray[np.int64]:
        """The last round that each of these clients sits out; 0 for those with nothing against them."""
        doubled = self.rounds * 2 ** np.clip(rows["strikes"] - 1, 0, _DOUBLINGS)
        last: NDArray[np.int64] = np.where(rows["strikes"] > 0, rows["last_strike"] + np.minimum(doubled, self.most), 0)
        return last

    def admitted(self, clients: Sequence[ClientId], rows: Table, number: int, least: int) -> tuple[ClientId, ...]:
        """Who may be asked for this round. Where that would be fewer than `least`, the next to return come early."""
        until = self.until(rows)
        out = np.flatnonzero(until >= number)
        lacking = least - (len(clients) - len(out))
        if lacking > 0:
            early = out[np.argsort(until[out], kind="stable")[:lacking]]
            out = np.setdiff1d(out, early)
        left_out = set(out.tolist())
        return tuple(client for place, client in enumerate(clients) if place not in left_out)
