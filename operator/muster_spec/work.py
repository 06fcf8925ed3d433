"""What a worker has to know of a job: sent as JSON when it joins, the same for all its clients."""

from __future__ import annotations

from typing import Final

import msgspec

from muster_spec.types import Local, ResolvedJob, Strategy, TaskSpec

# Metrics of a client's training that a job may weigh updates by.
LOSS: Final = "loss"  # the mean over the last pass
BASE_LOSS: Final = "baseLoss"  # of the model that the client got, on its examples, before it trained
GRADIENT_VARIANCE: Final = "gradientVariance"  # of the gradients of its steps around their mean
LOSS_LOW: Final = "lossLow"  # the smallest of a client's examples, and a high one that is no outlier
LOSS_HIGH: Final = "lossHigh"
# How steep the loss and its gradient are between the model that the client got and the one that it made.
LOSS_SLOPE: Final = "lossSlope"
GRADIENT_SLOPE: Final = "gradientSlope"


class Work(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The task, how to train it locally, and the client's half of the strategy."""

    job: str
    task: TaskSpec
    local: Local
    seed: int
    proximal_mu: float = 0.0
    wants_losses: bool = False  # whether whoever chooses clients or examples goes by losses of single examples
    measures_base_loss: bool = False
    measures_gradient_variance: bool = False
    measures_slopes: bool = False
    stops_between_layers: bool = False
    matches_layers: bool = False


def work_of(job: ResolvedJob) -> Work:
    """The client's half of a job."""
    strategy = job.spec.strategy
    return Work(
        job=job.name,
        task=job.spec.task,
        local=job.spec.local,
        seed=job.spec.seed,
        proximal_mu=strategy.fed_prox.mu if strategy.fed_prox else 0.0,
        wants_losses=job.spec.selection.type == "Oort",
        measures_base_loss=strategy.type == "QFedAvg" or job.spec.local.step_control.type == "Progress",
        measures_gradient_variance=_weighs_by_variance(strategy),
        matches_layers=strategy.type == "FedMA",
        stops_between_layers=job.spec.rounds.stragglers.type == "LayerWise",
        measures_slopes=job.spec.local.step_control.type == "ResourceBudget",
    )


def _weighs_by_variance(strategy: Strategy) -> bool:
    weighting = strategy.weighting
    blend = weighting.blend
    return weighting.type == "Variance" or (blend is not None and blend.variance > 0)
