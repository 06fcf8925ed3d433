"""Robust rules: how many updates become one when some may be hostile. The registry is closed against the schema."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from muster_coordinator.robust.base import Rule
from muster_coordinator.robust.centres import CenteredClipping, GeometricMedian
from muster_coordinator.robust.coordinatewise import Median, TrimmedMean
from muster_coordinator.robust.krum import Bulyan, Krum, MultiKrum
from muster_spec.strategy_types import Aggregation, Robustness

RULES: Final[Mapping[str, type[Rule]]] = MappingProxyType(
    {rule.name: rule for rule in (Median, TrimmedMean, Krum, MultiKrum, Bulyan, GeometricMedian, CenteredClipping)}
)
_MEMBERS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "TrimmedMean": "trimmed_mean",
        "Krum": "krum",
        "MultiKrum": "multi_krum",
        "Bulyan": "bulyan",
        "GeometricMedian": "geometric_median",
        "CenteredClipping": "centered_clipping",
    }
)


def rule_of(chosen: Aggregation) -> Rule | None:
    """The rule that a resolved job asks for; None for the weighted mean, which needs to see no two updates together."""
    if chosen.type == "Mean":
        return None
    rule, member = RULES[chosen.type], _MEMBERS.get(chosen.type)
    return rule(**msgspec.structs.asdict(getattr(chosen, member))) if member else rule()


def least_updates(robustness: Robustness | None) -> int:
    """Updates without which a round makes no model."""
    rule = rule_of(robustness.aggregation) if robustness else None
    return rule.least if rule else 1


__all__ = ["RULES", "Rule", "least_updates", "rule_of"]
