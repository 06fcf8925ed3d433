"""What rounds are made of on one machine: disk, codecs, versions and sums, put together, and the history among them.

No network, no loop and no clock: production serves it over gRPC (assembly.py), a simulation passes the same parts a
clock of its own and delivers orders to clients that it simulates.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from muster_coordinator.broadcast import Broadcasts
from muster_coordinator.combining import Combining, combining_of, matching_of
from muster_coordinator.compression import Codecs, Down, codecs_of
from muster_coordinator.config import config_of
from muster_coordinator.errors import StorageError
from muster_coordinator.limits import frame_bytes
from muster_coordinator.models import ModelFileError
from muster_coordinator.parts import Parts, dropout_of
from muster_coordinator.ports import Reporter
from muster_coordinator.recovery import History
from muster_coordinator.reference import Encoder
from muster_coordinator.store import FileStore
from muster_coordinator.strategies import Strategy, strategy_of
from muster_coordinator.workbench import Retention, Workbench
from muster_spec.types import ResolvedJob
from muster_wire.layout import Layout

log = logging.getLogger("muster.coordinator")

MOST_OLD_VERSIONS = 20
VERSIONS_GIVEN_OUT = 3  # the newest, the one before (stragglers still fetch it), and one to spare


@dataclass(frozen=True, slots=True)
class Makings:
    """One job's storage, what its models and updates are encoded with, and where they are made."""

    store: FileStore
    codecs: Codecs
    broadcasts: Broadcasts
    combining: Combining
    workbench: Workbench
    parts: Parts | None


def make_ready(job: ResolvedJob, store: FileStore, problem: Callable[[Layout], str | None]) -> Makings:
    """Open the storage and wire up what works on it. InputError for a storage that can't be used."""
    late = config_of(job, 0).late
    store.open(job, late.max_staleness + 2 if late else 0)
    codecs, size = codecs_of(job.spec.compression), frame_bytes(job.clients_total)
    broadcasts = _broadcasts(job, codecs, store, size)
    retention = Retention(job.spec.checkpoint.keep, job.spec.checkpoint.every)
    parts = _parts(store, job, codecs, size)
    combining = combining_of_job(job)
    strategy = strategy_of_job(job)
    workbench = Workbench(store, strategy, broadcasts, retention, combining, problem, parts)
    return Makings(store, codecs, broadcasts, combining, workbench, parts)


def combining_of_job(job: ResolvedJob) -> Combining:
    """How the job's updates become one."""
    of_parts = job.spec.compression.federated_dropout is not None
    if job.spec.strategy.fed_ma is not None:
        return Combining(matching=matching_of(job.spec.strategy.fed_ma))
    return combining_of(
        job.spec.robustness,
        of_parts=of_parts,
        beside=strategy_of_job(job).sums_beside,
        of_layers=job.spec.rounds.stragglers.type == "LayerWise",
    )


def strategy_of_job(job: ResolvedJob) -> Strategy:
    """The job's strategy, for those of its clients that may be asked."""
    config = config_of(job, 0)
    clients = config.clients if config.candidates is None else config.candidates
    return strategy_of(job.spec.strategy, job.spec.local, len(clients))


def _broadcasts(job: ResolvedJob, codecs: Codecs, store: FileStore, size: int) -> Broadcasts:
    encoder = Encoder(store.staging, codecs.down, job.spec.seed)
    return Broadcasts(encoder, VERSIONS_GIVEN_OUT + _staleness(job), size, store.shelf, in_place=True)


def _parts(store: FileStore, job: ResolvedJob, codecs: Codecs, frame_bytes: int) -> Parts | None:
    """Where clients train parts of the model, what cuts them out."""
    asked = config_of(job, 0).asked
    dropout = dropout_of(job.spec.compression.federated_dropout, job.spec.seed, asked)
    if dropout is None:
        return None
    encoder = Encoder(store.staging, Down(codecs.down.snapshot), job.spec.seed)
    rounds = VERSIONS_GIVEN_OUT + _staleness(job)
    return Parts(dropout, Broadcasts(encoder, rounds * dropout.masks, frame_bytes), rounds)


def _staleness(job: ResolvedJob) -> int:
    """How many older versions clients may still come for. Who comes for one that is gone gets other work."""
    late = config_of(job, 0).late
    return min(late.max_staleness, MOST_OLD_VERSIONS) if late else 0


def recover(store: FileStore, workbench: Workbench, reporter: Reporter) -> History:
    """The history up to the newest round whose model is whole; what had to be put aside is said.

    Raises StorageError when rounds are committed and none of their models can be read.
    """
    history, warnings = store.read_history()
    problems = []
    for commit in reversed(history.commits):
        try:
            workbench.take_up(commit)
            break
        except ModelFileError as error:
            problems.append(str(error))
    else:
        if problems:
            raise StorageError(f"no stored model can be read, so this job can't go on; the newest: {problems[0]}")
    if problems:
        last = len(history.commits) - 1 - len(problems)
        aside = store.put_aside_rounds_after(last, history.commits[last + 1 :])
        history, more = store.read_history()
        warnings = (*warnings, *problems, *aside, *more, f"going on from round {last}")
    for message in (*warnings, *workbench.remember(history.commits)):
        log.warning("%s", message)
        reporter.tell("warning", {"message": message})
    return history
