"""What a bridge makes of a site's refusals: which end the pool, which make arrays smaller, and what it remembers."""

import pytest

from muster_slurm.bridge import Bridge, Setup
from muster_slurm.errors import Full, Limited, Oversized, Refused
from muster_slurm.ledger import Ledger, read_ledger, write_ledger
from muster_slurm.plan import Listing
from slurm_pools import slurm_job

WORDS = "Job violates accounting/QOS policy"


class Site:
    """A SLURM that takes so many jobs in so large arrays, and refuses the others with `error`."""

    def __init__(self, jobs=1000, max_array=1001, error=Limited, told_max_array=1001):
        self.jobs, self.max_array_size, self.error, self.told_max_array = jobs, max_array, error, told_max_array
        self.taken, self.asked = [], []

    def submit(self, request):
        self.asked.append(request.array)
        if max(request.tasks) >= self.max_array_size:
            raise Oversized("Invalid job array specification")
        if len(request.tasks) > self.jobs:
            raise self.error(WORDS)
        self.jobs -= len(request.tasks)
        self.taken.append(request.comment.rpartition("/")[2] + "+" + request.array)
        return 100 * len(self.taken)

    def list_jobs(self, _):
        return Listing(0.0, ())

    def cancel(self, _):
        """It has nothing that could be cancelled."""

    def max_array(self):
        return self.told_max_array


def bridge_of(folder, site, clients=1):
    job, pool = slurm_job(folder, clients=clients)
    events = []
    return Bridge(Setup(job, pool, folder / "ledger", dict), site, events.append), events


def warnings(events):
    return [event["message"] for event in events if event["what"] == "warning"]


def test_a_limit_that_one_worker_alone_exceeds_is_never_met_and_ends_the_pool(tmp_path):
    bridge, events = bridge_of(tmp_path, Site(jobs=0))
    bridge.turn()
    assert bridge.fatal == WORDS
    assert warnings(events) == [f"pool hpc: {WORDS}"]


@pytest.mark.parametrize(
    ("site", "clients"),
    [
        (Site(jobs=0), 2),  # two are asked for: perhaps one may be had
        (Site(jobs=1, told_max_array=1), 2),  # one is in the queue, so it isn't what one asks for
        (Site(jobs=0, error=Full), 1),  # SLURM itself says that it is full
    ],
)
def test_a_limit_on_how_many_is_waited_for(tmp_path, site, clients):
    bridge, events = bridge_of(tmp_path, site, clients)
    bridge.turn()
    assert bridge.fatal is None
    assert warnings(events) == [f"pool hpc: {WORDS}"]
    assert all(
        worker.not_before > 0 and not worker.failures for worker in read_ledger(tmp_path / "ledger").workers.values()
    )


def test_once_the_pool_has_ended_nothing_more_is_asked_for(tmp_path):
    site = Site(jobs=0, error=Refused, told_max_array=1)
    bridge, _ = bridge_of(tmp_path, site, clients=3)
    bridge.turn()
    assert (bridge.fatal, site.asked) == (WORDS, ["0"])
    assert bridge.left == ()


def test_max_array_size_is_found_by_halving_and_remembered(tmp_path):
    site = Site(max_array=5)
    bridge, events = bridge_of(tmp_path, site, clients=12)
    for _ in range(4):
        bridge.turn()
    assert site.asked == ["0-11", "0-5", "0-5", "0-2", "0-2", "0-2", "0-2"]
    assert site.taken == ["0+0-2", "3+0-2", "6+0-2", "9+0-2"]
    assert warnings(events) == []
    assert "arrays of 3 are tried" in [event["message"] for event in events if event["what"] == "smaller"][-1]
    assert read_ledger(tmp_path / "ledger").max_array == 3


def test_a_bridge_that_is_started_again_begins_with_what_was_found_out(tmp_path):
    write_ledger(tmp_path / "ledger", Ledger(next=7, max_array=3))
    site = Site(max_array=5)
    bridge, _ = bridge_of(tmp_path, site, clients=12)
    bridge.turn()
    assert site.asked == ["0-2"] * 4


def test_an_array_of_one_that_is_still_too_large_is_a_refusal(tmp_path):
    bridge, _ = bridge_of(tmp_path, Site(max_array=0), clients=2)
    for _ in range(3):
        bridge.turn()
    assert bridge.fatal == "Invalid job array specification"
