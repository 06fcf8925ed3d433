"""Where what is known of a pool's clients outlives a job: a file a pool, in the folder that the job names.

A job that begins reads the files once and keeps a copy with its own records, so that a coordinator that is restarted
begins with the same. A job that ends or is suspended writes them. None of this is worth a job: a file that is broken or
can't be written is said, and training goes on without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from muster_coordinator.carried import to_hand_on
from muster_coordinator.durable import BrokenSeal, Disk, seal, unseal
from muster_coordinator.histories import Histories
from muster_coordinator.records import Carried, KnownClient
from muster_coordinator.recovery import History
from muster_coordinator.store import FileStore
from muster_spec.clients import ClientId, client_id
from muster_spec.types import ResolvedJob, ResolvedPool

log = logging.getLogger("muster.coordinator")

Warn = Callable[[str], None]


class PoolMemory:
    """The files of one job's pools."""

    def __init__(self, job: ResolvedJob, disk: Disk, warn: Warn) -> None:
        memory = job.spec.selection.memory
        self._folder = Path(memory.path) if memory else None
        self._pools = job.pools
        self._disk = disk
        self._warn = warn

    def begin(self, store: FileStore, history: History) -> History:
        """The job's history with what earlier jobs knew, which is read only once in a job's life."""
        if self._folder is None:
            return history
        carried = store.read_carried()
        if carried is None:
            carried = Carried(clients={} if history.commits else dict(self._read()))
            store.save_carried(carried)
        return replace(history, carried=carried.clients)

    def _read(self) -> Iterator[tuple[ClientId, KnownClient]]:
        for pool in self._pools:
            path = self._path(pool)
            try:
                yield from unseal(path.read_bytes(), Carried).clients.items()
            except FileNotFoundError:
                continue
            except (OSError, BrokenSeal) as error:
                self._warn(f"{path}: {error}; nothing is known of pool {pool.name} from earlier jobs")

    def write(self, histories: Histories) -> None:
        """What is known now, for the next job."""
        if self._folder is None or not len(histories.table):
            return
        first = 0
        for pool in self._pools:
            clients = [client_id(pool.name, index) for index in range(pool.spec.clients)]
            known = to_hand_on(clients, histories.table[first : first + len(clients)])
            first += len(clients)
            self._keep(self._path(pool), seal(Carried(clients=known)))

    def _keep(self, path: Path, record: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._disk.replace(path, lambda file: file.write(record))
        except OSError as error:
            self._warn(f"{path}: {error}; the next job will know nothing of this one")

    def _path(self, pool: ResolvedPool) -> Path:
        return (self._folder or Path()) / f"{pool.name}.json"
