"""What makes up for layers that come too seldom, where stragglers send only those that are done.

SALF (Lang, Cohen, Shlezinger 2024, "Stragglers-aware low-latency synchronous federated learning via layer-wise model
updates", arXiv 2403.18375), whose aggregation ADEL-FL (Goren, Lang, Shlezinger, Cohen 2025, arXiv 2505.23973) takes
over, divides the mean of a layer by 1 - p_l, with p_l the chance that nobody in a round has it: so that it goes as far
in the mean over rounds as it would if all of the cohort sent it in each. They know p_l from a model of their clients'
speed. Here it follows from the rounds so far: of `asked` places in cohorts `reached` brought the layer, so one does
with the chance q = (reached + 1) / (asked + 2) (Laplace's rule of succession), and p = (1 - q)^n for a cohort of n.
Tensors that every update has had so far need no correction, and none is larger than MOST.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from muster_coordinator.records import RoundCommit

MOST: Final = 10.0  # that a layer's mean is multiplied by


@dataclass(frozen=True, slots=True)
class Reach:
    """How often each tensor came: a fold over the commits. Tensors that are not in `lacking` came with every update."""

    asked: int = 0  # places in cohorts
    sent: int = 0  # updates that were used
    lacking: Mapping[str, int] = field(default_factory=dict)  # of those, how many lacked the tensor

    def after(self, commit: RoundCommit) -> Reach:
        """One more round is over."""
        if not commit.round:
            return self
        fresh = [each for each in commit.used if each.round == commit.round]
        lacking = Counter(self.lacking) + Counter(name for each in fresh for name in each.missing)
        return Reach(self.asked + len(fresh) + len(commit.failed), self.sent + len(fresh), dict(lacking))

    def corrections(self, cohort: int) -> dict[str, float]:
        """1 / (1 - p_l) by tensor, for a round of such a cohort."""
        return {name: min(1 / (1 - self._nobody(name, cohort)), MOST) for name in self.lacking}

    def _nobody(self, name: str, cohort: int) -> float:
        reached = self.sent - self.lacking[name]
        return float((1 - (reached + 1) / (self.asked + 2)) ** cohort)
