"""What a job asks of a site that somebody else runs: all that the site's own policy decides by.

Sent as JSON with each offer (docs/wire.md). What a worker then does itself (the task, its local training) is held
against it once more when the coordinator gives out the work; what others do (how many updates a sum is made of, the
noise that a server adds) is the word of whoever runs the federation.
"""

from __future__ import annotations

import math

import msgspec

from muster_spec.types import JobSpec, Local, Privacy, TaskSpec


class Terms(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """`image` is what the workers of this installation run, as the job names it; empty where nobody has said.

    `least_updates`: a round with fewer fails, so no model is made of fewer clients than that.
    """

    task: TaskSpec
    local: Local
    rounds: int
    least_updates: int
    image: str = ""
    privacy: Privacy | None = None


def terms_of(spec: JobSpec, clients_total: int, image: str) -> Terms:
    """The terms of a job with so many clients in all its pools."""
    return Terms(
        task=spec.task,
        local=spec.local,
        rounds=spec.rounds.total,
        least_updates=least_updates(spec, clients_total),
        image=image,
        privacy=spec.privacy,
    )


def least_updates(spec: JobSpec, clients_total: int) -> int:
    """The fewest updates that a model can be made of; 1 where that can't be told from the specification.

    Of synchronous rounds: minUpdates, else half of the cohort. With fewer, a round fails at its deadline.
    """
    rounds = spec.rounds
    if rounds.mode != "Synchronous":
        return 1
    if rounds.min_updates:
        return rounds.min_updates
    if spec.selection.type == "Label":  # who has the labels may be one client
        return 1
    everybody = rounds.cohort is None or spec.selection.type == "All"
    cohort = clients_total if everybody else min(rounds.cohort or clients_total, clients_total)
    return max(math.ceil(cohort / 2), 1)
