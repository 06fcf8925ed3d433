"""PowerOfChoice: of a few candidates, those with the largest local loss.

Cho, Wang, Joshi, "Towards Understanding Biased Client Selection in Federated Learning" (AISTATS 2022; arXiv 2010.01243,
"… Power-of-Choice Selection Strategies"), section 3: d candidates are drawn without replacement in proportion to their
share of the data, and the m of them with the largest local loss are asked. It is the paper's variant rpow-d: a client's
loss is the one that it reported when it last took part, and infinite before that, so that no client computes or sends
anything only to be chosen. A share of data that is not known yet counts as an average one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from muster_coordinator.selection import Choice, Request, chosen, drawn, highest


@dataclass(frozen=True, slots=True)
class PowerOfChoice:
    """`candidates` is d; None: twice as many as are wanted."""

    candidates: int | None

    def __call__(self, request: Request) -> tuple[Choice, ...]:
        rows = request.rows
        known = rows["examples"] > 0
        shares = np.where(known, rows["examples"], rows["examples"][known].mean() if known.any() else 1.0)
        count = max(self.candidates or 2 * request.wanted, request.wanted)
        places = drawn(shares, count, request.uniforms("candidates"))
        losses = np.where(np.isnan(rows["loss"]), np.inf, rows["loss"])[places]
        best = highest(losses, request.wanted, request.uniforms("ties")[places])
        told = f"of {len(places)} candidates"
        return chosen(
            request,
            {
                int(places[each]): f"power of choice: {told} one with the largest loss"
                if np.isfinite(losses[each])
                else f"power of choice: {told} one whose loss is not known yet"
                for each in best.tolist()
            },
        )
