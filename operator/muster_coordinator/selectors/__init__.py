"""The policies of `spec.selection`, a module each; closed against the schema's names by a test.

`selector_of` makes the one that a job asks for out of its parameters. It is for jobs that validation let pass: the
member that goes with a type is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from muster_coordinator.errors import InputError
from muster_coordinator.selection import SELECTORS, Selector
from muster_coordinator.selectors.adaptive import Adaptive
from muster_coordinator.selectors.contribution import ContributionHistory
from muster_coordinator.selectors.cost import Cost, Rate
from muster_coordinator.selectors.label import Label
from muster_coordinator.selectors.oort import Oort
from muster_coordinator.selectors.power_of_choice import PowerOfChoice
from muster_spec.types import ResolvedJob


def _adaptive(job: ResolvedJob) -> Selector:
    asked = job.spec.selection.adaptive
    if asked is None:
        raise _missing("adaptive")
    return Adaptive(
        capacity=asked.capacity,
        bandwidth=asked.bandwidth,
        reliability=asked.reliability,
        quality=asked.quality,
        data_size=asked.data_size,
        fairness=asked.fairness,
    )


def _oort(job: ResolvedJob) -> Selector:
    asked = job.spec.selection.oort
    if asked is None:
        raise _missing("oort")
    return Oort(
        exploration=asked.exploration,
        exploration_decay=asked.exploration_decay,
        min_exploration=asked.min_exploration,
        pacer_rounds=asked.pacer_rounds,
        slowness_penalty=asked.slowness_penalty,
    )


def _power_of_choice(job: ResolvedJob) -> Selector:
    asked = job.spec.selection.power_of_choice
    return PowerOfChoice(asked.candidates if asked else None)


def _label(job: ResolvedJob) -> Selector:
    asked = job.spec.selection.label
    if asked is None:
        raise _missing("label")
    return Label(", ".join(f"{name}={value}" for name, value in sorted(asked.match_labels.items())))


def _cost(job: ResolvedJob) -> Selector:
    asked = job.spec.selection.cost
    if asked is None:
        raise _missing("cost")
    rates = {
        pool.name: Rate(cost.per_hour, cost.watts, cost.interruptions_per_hour) if (cost := pool.spec.cost) else Rate()
        for pool in job.pools
    }
    return Cost(asked.price, asked.interruptions, asked.energy, rates)


def _contribution(job: ResolvedJob) -> Selector:
    asked = job.spec.selection.contribution_history
    if asked is None:
        raise _missing("contributionHistory")
    return ContributionHistory(asked.exploration)


POLICIES: Mapping[str, Callable[[ResolvedJob], Selector]] = {
    "Random": lambda _: SELECTORS["Random"],
    "All": lambda _: SELECTORS["All"],
    "Adaptive": _adaptive,
    "Oort": _oort,
    "PowerOfChoice": _power_of_choice,
    "Label": _label,
    "Cost": _cost,
    "ContributionHistory": _contribution,
}


def selector_of(job: ResolvedJob) -> Selector:
    """Who chooses the cohorts of this job. Raises InputError for one that was never validated."""
    return POLICIES[job.spec.selection.type](job)


def _missing(member: str) -> InputError:
    return InputError(f"spec.selection.{member}: is missing; let `muster validate` look at the job")
