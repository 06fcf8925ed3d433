"""From what every rank has done to one update: FedAvg over the ranks, exactly, within the rounding of one float32.

For n_r examples on rank r with the change Δ_r (McMahan et al. 2017, "Communication-efficient learning of deep networks
from decentralized data", algorithm 1), the site's change is Σ n_r Δ_r / Σ n_r, and Σ n_r its weight: a server that
averages by examples gets the same sum as from the ranks one by one. Products and sums are float64 (n_r Δ_r of a float32
and a weight below 2²⁹ is exact there), and the mean is rounded once. Float buffers are averaged alike and integers are
maximised, as the server does with clients' own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from muster.site.fabric import Fabric
from muster.training import Trained
from muster_spec.types import Local
from muster_wire.values import Floats, Values

CHUNK = 2**20  # values, so that what is wider than the model takes little memory
LOSS_RMS = "lossRms"  # the one metric that is no mean, but the root of one


class Report(msgspec.Struct, frozen=True):
    """What one rank says of its part. With an error, or stopped, the rest means nothing."""

    examples: int = 0
    steps: int = 0
    metrics: dict[str, float] = {}
    train_ms: int = 0
    stopped: bool = False
    error: str = ""
    digest: str = ""  # of the trainable values, where all ranks should have the same


def first_error(reports: Sequence[Report]) -> str:
    """Of the first rank that has one, which it names."""
    return next((f"rank {rank}: {report.error}" for rank, report in enumerate(reports) if report.error), "")


def reduce_update(fabric: Fabric, update: Values, examples: int, total: int) -> None:
    """Put the site's update in the place of rank 0's; other ranks' updates are used up."""
    for buffer in (update.trainable, update.float_buffers):
        _reduce(fabric, buffer, examples, total)
    if update.integers.size:
        fabric.maximise(update.integers)


def _reduce(fabric: Fabric, buffer: Floats, examples: int, total: int) -> None:
    for start in range(0, buffer.size, CHUNK):
        chunk = buffer[start : start + CHUNK]
        wide = chunk.astype(np.float64)
        wide *= examples
        fabric.add(wide)
        if fabric.rank == 0:
            chunk[...] = wide / total


def mean_metrics(parts: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Means by examples, of those who measured: (examples, metrics) of each rank."""
    names = dict.fromkeys(name for examples, metrics in parts if examples for name in metrics)
    return {name: _mean(name, [(n, metrics[name]) for n, metrics in parts if n and name in metrics]) for name in names}


def _mean(name: str, values: Sequence[tuple[int, float]]) -> float:
    power = 2 if name == LOSS_RMS else 1
    total = sum(examples for examples, _ in values)
    mean = math.fsum(examples * value**power for examples, value in values) / total
    return mean if power == 1 else math.sqrt(mean)


def trained_together(reports: Sequence[Report], local: Local, ordered: int = 0) -> Trained:
    """What the site says of its training; `ordered` steps were to be done, if that is not 0."""
    examples = sum(report.examples for report in reports)
    metrics = mean_metrics([(report.examples, report.metrics) for report in reports])
    return Trained(examples, _steps(reports, examples, local, ordered), metrics)


def _steps(reports: Sequence[Report], examples: int, local: Local, ordered: int) -> int:
    """Of one client with all the examples, the share that the ranks did of theirs: who weighs by steps compares with
    what such a client would have done. None, if the task counts none.
    """
    planned = [ordered or _planned(report.examples, local) for report in reports]
    shares = [min(report.steps / steps, 1.0) for report, steps in zip(reports, planned, strict=True)]
    done = math.fsum(report.examples * share for report, share in zip(reports, shares, strict=True)) / examples
    is_counted = any(report.steps for report in reports)
    return max(round(done * (ordered or _planned(examples, local))), 1) if is_counted else 0


def _planned(examples: int, local: Local) -> int:
    planned = local.epochs * math.ceil(examples / local.batch_size)
    return min(planned, local.max_steps or planned)
