"""What a forked process runs that measures one baseline: `muster.baselines`, on the job that has just been trained."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from muster_cli.plan import data_of
from muster_spec.types import ResolvedJob
from muster_spec.work import work_of

if TYPE_CHECKING:
    from muster.task import Client

log = logging.getLogger(__name__)


def measure(*, name: str, job: str, data: str | None, passes: int, threads: int, result: str) -> int:
    """Measure one baseline, in a forked process of its own, and leave its metrics in the file `result`."""
    import torch

    from muster.baselines import local_only, pooled
    from muster.errors import MusterError
    from muster.loading import load_task

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    torch.set_num_threads(threads)
    resolved = msgspec.json.decode(Path(job).read_bytes(), type=ResolvedJob)
    train = {"pooled": pooled, "localOnly": local_only}[name]
    try:
        metrics = train(
            load_task(resolved.spec.task), clients_of(resolved, data), work_of(resolved), passes, resolved.spec.seed
        )
    except MusterError as error:
        log.error("%s", error)  # noqa: TRY400 - one plain line
        return 1
    aside = Path(f"{result}.partial")
    aside.write_text(json.dumps(metrics))
    aside.replace(result)
    return 0


def clients_of(job: ResolvedJob, data: str | None) -> list[Client]:
    """Every client of a job, as its task sees it: in the order, and with the seed, that the federated run has."""
    from muster.task import Client

    places = [(pool, index) for pool in job.pools for index in range(pool.spec.clients)]
    return [
        Client(
            pool=pool.name,
            index=index,
            ordinal=ordinal,
            clients_total=len(places),
            pool_clients=pool.spec.clients,
            seed=job.spec.seed,
            data_dir=Path(place) if (place := data_of(pool, index, data)) else None,
        )
        for ordinal, (pool, index) in enumerate(places)
    ]
