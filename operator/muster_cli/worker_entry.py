"""What a forked worker process runs: the same function as on a cluster, with its share of this machine's threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from muster_telemetry.logs import log_format_of


def run(
    *, coordinator: str, pool: str, indices: Sequence[int], data: Sequence[str | None], state: str, threads: int
) -> int:
    """Work for these clients, each with a place for its data, until the job is over. The answer is the exit code."""
    import torch

    from muster.worker import WorkerSettings, run_worker

    torch.set_num_threads(threads)
    return run_worker(
        WorkerSettings(
            coordinator=coordinator,
            pool=pool,
            indices=tuple(indices),
            data={index: Path(place) for index, place in zip(indices, data, strict=True) if place},
            state=Path(state),
            token=os.environ["MUSTER_TOKEN"],
            log_format=log_format_of(os.environ),
        )
    )
