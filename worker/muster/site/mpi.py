"""The fabric over MPI, by mpi4py on whatever MPI the site has.

Only calls on buffers are made (upper case: lower-case ones would pickle), only calls that don't block, and all from the
working thread. Large buffers go in pieces: counts are 32 bits wide before MPI 4.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from muster.errors import SiteError
from muster.site.fabric import Array, Doubles, Integers, Watch, break_down, unwatched, wait_until

_PIECE: Final = 2**26  # elements
_SIZES: Final = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS")


class MpiFabric:
    """All ranks of this MPI program."""

    def __init__(self) -> None:
        """Raises SiteError where there is no MPI, or each process is a program of its own."""
        self._mpi = _load()
        self._world = self._mpi.COMM_WORLD
        self.watch: Watch = unwatched
        self.rank: int = self._world.Get_rank()
        self.size: int = self._world.Get_size()
        check_size(self.size, os.environ)
        self.local_rank: int = self._world.Split_type(self._mpi.COMM_TYPE_SHARED).Get_rank()

    def broadcast(self, buffer: Array) -> None:
        for start in range(0, buffer.size, _PIECE):
            self._wait(self._world.Ibcast(buffer.reshape(-1)[start : start + _PIECE], root=0))

    def exchange(self, data: bytes) -> list[bytes]:
        sizes = np.empty(self.size, np.int64)
        self._wait(self._world.Iallgather(np.array([len(data)], np.int64), sizes))
        ends = np.cumsum(sizes)
        everything = np.empty(int(ends[-1]), np.uint8)
        starts = ends - sizes
        self._wait(self._world.Iallgatherv(np.frombuffer(data, np.uint8), [everything, sizes, starts, self._mpi.BYTE]))
        return [everything[start:end].tobytes() for start, end in zip(starts, ends, strict=True)]

    def add(self, buffer: Doubles) -> None:
        self._reduce(buffer, self._mpi.SUM)

    def maximise(self, buffer: Integers) -> None:
        self._reduce(buffer, self._mpi.MAX)

    def leave(self) -> None:
        self._wait(self._world.Ibarrier())
        self._mpi.Finalize()

    def abort(self, code: int) -> None:
        self._world.Abort(code)

    def _reduce(self, buffer: Array, operation: Any) -> None:
        for start in range(0, buffer.size, _PIECE):
            piece = buffer[start : start + _PIECE]
            send, receive = (self._mpi.IN_PLACE, piece) if self.rank == 0 else (piece, None)
            self._wait(self._world.Ireduce(send, receive, op=operation, root=0))

    def _wait(self, request: Any) -> None:
        """Until a transfer is done. One that fails says that something is wrong with the others, and rarely what."""
        try:
            wait_until(request.Test, self.watch)
        except self._mpi.Exception as error:
            break_down(f"MPI: {error}", self.watch)


def _load() -> Any:
    try:
        import mpi4py
    except ImportError as error:
        raise SiteError("--ranks mpi wants mpi4py: pip install 'muster[mpi]' where the workers are") from error
    mpi4py.rc.initialize = False
    mpi4py.rc.finalize = False
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise SiteError(f"mpi4py finds no MPI library of this site's: {error}") from error
    MPI.Init_thread(MPI.THREAD_FUNNELED)
    return MPI


def check_size(size: int, environment: Mapping[str, str]) -> None:
    """Each process is a program of its own where whoever starts them doesn't speak the MPI library's language."""
    started = max((int(environment[name]) for name in _SIZES if environment.get(name, "").isdecimal()), default=1)
    if size == 1 < started:
        raise SiteError(
            f"{started} processes were started, and MPI sees one: what starts them doesn't fit the MPI library; try"
            " another slurm.mpi.plugin (srun --mpi=list names those that there are), or launcher Mpirun"
        )
