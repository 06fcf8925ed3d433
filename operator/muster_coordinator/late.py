"""Updates that come after their round is over: thrown away, or folded into a later round with a discount.

The discount is (1 + staleness)^-exponent, the polynomial weighting of FedAsync (Xie et al., 2019, section 5), where
staleness counts the commits between the update's base and the model it is summed into.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from muster_coordinator.config import LatePolicy
from muster_coordinator.events import UpdateStaged
from muster_coordinator.records import AssignmentId, RoundPlan, UsedUpdate
from muster_coordinator.rounds import used_update
from muster_coordinator.state import Owed, Round


@dataclass(frozen=True, slots=True)
class Late:
    """What becomes of a late update: `used` if it is still of use, and why or why not."""

    used: UsedUpdate | None
    why: str


def decide_late(update: UpdateStaged, made_for: int, current: int, policy: LatePolicy | None) -> Late:
    """Whether an update trained for round `made_for` may join round `current`."""
    staleness = current - made_for
    if policy is None:
        return Late(None, f"round {made_for} closed without it")
    if staleness > policy.max_staleness:
        return Late(None, f"round {made_for} is {staleness} rounds ago; at most {policy.max_staleness} are allowed")
    discount = (1.0 + staleness) ** -policy.exponent
    return Late(used_update(update, made_for, discount), f"{staleness} rounds late: weight × {discount:.3f}")


def damping(used: Sequence[UsedUpdate], importances: Sequence[float], current: int, exponent: float) -> float:
    """What a mean in which stale updates weigh less is to be multiplied by, so that they count less than in a mean.

    FedBuff sums s_i Δ_i over K updates and divides by K (Nguyen et al. 2022, algorithm 1, with the staleness scaling
    s_i = (1 + τ_i)^-1/2 of its section 5), while a mean divides by the sum of its weights p_i s_i. This is
    Σ p_i s_i / Σ p_i: with it, updates that are all as stale as each other count less than fresh ones would.
    """
    whole = [one * (1 + current - each.round) ** exponent for one, each in zip(importances, used, strict=True)]
    return float(sum(importances) / sum(whole))


def owed_after(round_: Round, policy: LatePolicy | None) -> tuple[AssignmentId, ...]:
    """Who may still hand in after this round's commit: whoever was asked and is neither in it nor has failed."""
    if policy is None or not round_.number:
        return ()
    return tuple(assignment for assignment in round_.places if round_.is_outstanding(assignment))


def owed_of(plan: RoundPlan, names: Collection[AssignmentId]) -> dict[AssignmentId, Owed]:
    """The late work with these names, as its plan has it."""
    return {
        planned.assignment: Owed(
            planned.client,
            plan.round,
            plan.base,
            planned.seed,
            place,
            planned.uplink,
            planned.factor,
            planned.stint.steps if planned.stint else plan.steps,
            planned.stint,
            loss_threshold=plan.loss_threshold,
        )
        for place, planned in enumerate(plan.cohort)
        if planned.assignment in names
    }


def expired(owed: Mapping[AssignmentId, Owed], committed: int, policy: LatePolicy | None) -> list[AssignmentId]:
    """Late work that the next round could not use any more."""
    limit = policy.max_staleness if policy else 0
    return [assignment for assignment, work in owed.items() if committed + 1 - work.round > limit]
