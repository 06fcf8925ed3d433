"""The ranks of a site in one process: each in a thread, over the fabric of threads and real roll calls."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import small_task

from muster.desk import Desk
from muster.site.crew import Averaging
from muster.site.errands import Leave, send_errand
from muster.site.fabric import Threads
from muster.site.meeting import meet
from muster.site.rollcall import RollCall
from muster.site.shop import Site, SiteShop, follow
from muster.workshop import Hooks


class Ranks:
    """`shop` is rank 0's; the others follow it until this is closed. `rolls` and `desks` are in their order."""

    def __init__(self, work, size, clock=None):
        self.fabrics = Threads(size).ranks
        self.desks = [Desk() for _ in range(size)]
        self._pool = ThreadPoolExecutor(size)
        self.rolls = list(self._pool.map(self._roll, range(size)))
        sites = [Site(fabric, roll, Averaging) for fabric, roll in zip(self.fabrics, self.rolls, strict=True)]
        self.following = [self._pool.submit(follow, site) for site in sites[1:]]
        self.shop = SiteShop(sites[0], work, *([clock] if clock else []))

    def _roll(self, rank):
        fabric = self.fabrics[rank]
        roll = RollCall(self.desks[rank], meet(fabric, within_s=20))
        fabric.watch = roll.watch
        return roll

    def close(self):
        send_errand(self.fabrics[0], Leave())
        for each in self.following:
            each.result(20)
        self.shut()

    def shut(self):
        for roll in self.rolls:
            roll.dismiss()
        for roll in self.rolls:
            roll.hang_up()
        self._pool.shutdown()

    def break_off(self):
        """Else the threads of their roll calls would end this process, as they do where nobody notices."""
        self.fabrics[0].abort(1)
        self.shut()


@contextmanager
def ranks(work, size=3, **more):
    site = Ranks(work, size, **more)
    try:
        yield site
        site.close()
    except BaseException:
        site.break_off()
        raise


@contextmanager
def lost_ranks(work, size=3):
    """Ranks that don't come to an end together."""
    site = Ranks(work, size)
    try:
        yield site
    finally:
        site.break_off()


def hooks(should_stop=lambda: False):
    return Hooks(should_stop, lambda _: None)


def work(**changes):
    return small_task.work(entrypoint="site_task:Shards", **changes)
