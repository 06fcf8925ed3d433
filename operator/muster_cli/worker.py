"""`muster worker`: a worker process where the data is, dialling out to a coordinator that runs elsewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click

from muster_cli.errors import BadInput


@click.command()
@click.option("--coordinator", required=True, metavar="HOST:PORT", help="Where the coordinator listens.")
@click.option("--pool", required=True, help="The pool whose clients this worker acts for.")
@click.option("--indices", metavar="0,1,…", help="Exactly these clients of the pool.")
@click.option("--capacity", type=click.IntRange(min=1), help="Up to this many of the pool's free clients. [default: 1]")
@click.option("--data", type=click.Path(path_type=Path), help="The directory that holds the clients' data.")
@click.option(
    "--state", type=click.Path(path_type=Path), help="A directory that outlives this process, for client state."
)
def worker(
    *, coordinator: str, pool: str, indices: str | None, capacity: int | None, data: Path | None, state: Path | None
) -> None:
    """Work for a coordinator that runs elsewhere.

    The job's token is read from the environment variable MUSTER_TOKEN, so that it shows in no list of processes.
    """
    if indices is not None and capacity is not None:
        raise BadInput("--indices and --capacity: give one of them")
    token = os.environ.get("MUSTER_TOKEN")
    if not token:
        raise BadInput("MUSTER_TOKEN: not set; put the job's token into this environment variable")
    from muster.worker import WorkerSettings, run_worker

    settings = WorkerSettings(
        coordinator=coordinator,
        pool=pool,
        indices=parse_indices(indices) if indices is not None else (),
        capacity=capacity or 1,
        data=data,
        state=state,
        token=token,
    )
    raise SystemExit(run_worker(settings))


def parse_indices(text: str) -> tuple[int, ...]:
    """``0,2,5`` → (0, 2, 5). Raises BadInput."""
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise BadInput(f"--indices {text}: write numbers between commas, for example --indices 0,1,2")
    return tuple(dict.fromkeys(int(number) for number in text.split(",")))
