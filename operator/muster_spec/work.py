"""What a worker has to know of a job: sent as JSON when it joins, the same for all its clients."""

from __future__ import annotations

import msgspec

from muster_spec.types import Local, ResolvedJob, TaskSpec


class Work(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The task, how to train it locally, and the client's half of the strategy."""

    job: str
    task: TaskSpec
    local: Local
    seed: int
    proximal_mu: float = 0.0
    wants_losses: bool = False  # whether whoever chooses clients or examples goes by losses of single examples


def work_of(job: ResolvedJob) -> Work:
    """The client's half of a job. FedProx's proximal term is all that a strategy asks of clients so far."""
    prox = job.spec.strategy.fed_prox
    return Work(
        job=job.name,
        task=job.spec.task,
        local=job.spec.local,
        seed=job.spec.seed,
        proximal_mu=prox.mu if prox else 0.0,
        wants_losses=job.spec.selection.type == "Oort",
    )
