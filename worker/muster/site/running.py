"""One rank of a site, from its start to its exit code.

Rank 0 works as any worker does, with a `SiteShop`; the others follow it, and all leave together. Rank 0's exit code
counts and the others' is 0: who started them (srun, mpirun) hands on the largest or the first that isn't, and may end
the rest at once. A rank that is gone ends all of them, with a code that has the site started again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import NoReturn

import torch

from muster.desk import Desk
from muster.errors import MusterError, RankLostError
from muster.site.crew import Averaging, DataParallel
from muster.site.errands import Leave, send_errand
from muster.site.fabric import Fabric
from muster.site.meeting import meet
from muster.site.rollcall import EXIT_LOST, RollCall
from muster.site.shop import Hire, Site, follow
from muster.worker import Ranks

log = logging.getLogger(__name__)

_LEAVE_WITHIN_S = 20.0
_EXIT_BAD_INPUT = 2


def run_rank(ranks: Ranks, desk: Desk, lead: Callable[[Site], int]) -> int:
    """Be one rank; `lead` is what rank 0 does, up to its exit code. Where a rank is gone, the process ends here.

    Raises:
        SiteError: the ranks can't work together as they were started.
    """
    fabric, hire = _open(ranks)
    roll: RollCall | None = None
    try:
        roll = RollCall(desk, meet(fabric))
        fabric.watch = roll.watch
        log.info("rank %d of %d is process %d", fabric.rank, fabric.size, os.getpid())
        return _work(Site(fabric, roll, hire), lead)
    except RankLostError as error:
        if roll is None or str(error) != roll.lost:  # which has been logged
            log.error("%s", error)  # noqa: TRY400 -- one plain line
        _break_off(fabric)


def _open(ranks: Ranks) -> tuple[Fabric, Hire]:
    """The fabric, and how its ranks work. MPI and torch.distributed are imported only where they are used."""
    if ranks == "mpi":
        from muster.site.mpi import MpiFabric

        world = MpiFabric()
        _choose_gpu(world.local_rank)
        return world, Averaging
    from muster.site.distributed import TorchFabric

    group = TorchFabric()
    _choose_gpu(group.local_rank)
    return group, lambda fabric, work: DataParallel(fabric, work, group.team)


def _choose_gpu(local_rank: int) -> None:
    """Each of a node's ranks its own, as far as they go round; where SLURM shows each rank one, that."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())


def _work(site: Site, lead: Callable[[Site], int]) -> int:
    code = 0
    if site.fabric.rank == 0:
        code = _lead(site, lead)
        send_errand(site.fabric, Leave())
    else:
        follow(site)
    site.roll.dismiss()
    site.fabric.watch = _until(time.monotonic() + _LEAVE_WITHIN_S)
    site.fabric.leave()
    site.roll.hang_up()
    return code


def _lead(site: Site, lead: Callable[[Site], int]) -> int:
    """Whatever makes rank 0 leave, the others leave with it."""
    try:
        return lead(site)
    except RankLostError:
        raise
    except MusterError as error:
        log.error("%s", error)  # noqa: TRY400 -- one plain line; what raised has logged its traceback
        return _EXIT_BAD_INPUT


def _until(deadline: float) -> Callable[[], None]:
    def watch() -> None:
        if time.monotonic() > deadline:
            raise RankLostError("not every rank has left; the others don't wait longer")

    return watch


def _break_off(fabric: Fabric) -> NoReturn:
    """End this process, and what can be reached of the others. What ends in the usual way would wait for them."""
    logging.shutdown()
    fabric.abort(EXIT_LOST)
    os._exit(EXIT_LOST)
