"""Label: a draw among the clients that have the labels asked for.

Who has them is known before the job starts, so everybody else is never eligible (config.py): here is only the draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from muster_coordinator.selection import Choice, Request, chosen


@dataclass(frozen=True, slots=True)
class Label:
    """`labels` in words."""

    labels: str

    def __call__(self, request: Request) -> tuple[Choice, ...]:
        wanted = min(request.wanted, len(request.eligible))
        places = np.argsort(request.uniforms("label"), kind="stable")[:wanted].tolist()
        reason = f"label: one of {wanted} drawn from {len(request.eligible)} with {self.labels}"
        return chosen(request, dict.fromkeys(places, reason))
