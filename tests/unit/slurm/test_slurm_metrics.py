"""The bridge's metrics: what its calls to SLURM and its events come to, and what a scrape reads."""

import re
import time

import pytest

from muster_slurm.errors import Denied, Full, Limited, Oversized, Refused, SettingsError, SlurmError, Unreachable
from muster_slurm.metrics import CALLS, RESULTS, BridgeMetrics, Metered, Sights
from muster_slurm.plan import Listing

LABELS = {"namespace": "lab", "fedjob": "digits", "pool": "hpc"}


def scraped(metrics):
    """Each sample's name and labels (but for whose they are) → its value."""
    samples = [each for family in metrics.registry.collect() for each in family.samples]
    ours = [each for each in samples if each.name.startswith("muster_slurm_")]
    assert all(LABELS.items() <= each.labels.items() for each in ours)
    return {
        (each.name, *(value for name, value in each.labels.items() if name not in LABELS)): each.value for each in ours
    }


class Site:
    """A transport that answers, or raises."""

    def __init__(self, error=None):
        self.error = error

    def _answer(self, answer):
        if self.error:
            raise self.error
        return answer

    def submit(self, _request):
        return self._answer(7)

    def list_jobs(self, _prefix):
        return self._answer(Listing(1.0, ()))

    def cancel(self, _job):
        return self._answer(None)

    def max_array(self):
        return self._answer(1001)


def test_every_call_is_passed_on_and_counted_by_how_slurm_answered():
    metrics = BridgeMetrics(LABELS)
    good = Metered(Site(), metrics)
    assert (good.submit(None), good.list_jobs("x"), good.cancel(7), good.max_array()) == (
        7,
        Listing(1.0, ()),
        None,
        1001,
    )
    for kind in (Refused, Limited, Oversized, Full, Denied, Unreachable):
        with pytest.raises(kind):
            Metered(Site(kind("no")), metrics).submit(None)
    found = scraped(metrics)
    for call in CALLS:
        assert found["muster_slurm_calls_total", call, "done"] == 1
    for result in ("refused", "limited", "oversized", "full", "denied", "unreachable"):
        assert found["muster_slurm_calls_total", "submit", result] == 1
        assert found["muster_slurm_calls_total", "list", result] == 0, "so that the first is a rise"
    assert found["muster_slurm_call_seconds_count", "submit"] == 7


def test_each_way_in_which_slurm_fails_has_a_name():
    assert set(RESULTS) == {Limited, *SlurmError.__subclasses__()}


def test_only_a_listing_that_came_counts_as_one():
    began = time.time()
    metrics = BridgeMetrics(LABELS)
    started = scraped(metrics)["muster_slurm_listing_timestamp_seconds",]
    assert began <= started <= time.time()
    with pytest.raises(Unreachable):
        Metered(Site(Unreachable("no")), metrics).list_jobs("x")
    Metered(Site(), metrics).cancel(1)
    assert scraped(metrics)["muster_slurm_listing_timestamp_seconds",] == started
    Metered(Site(), metrics).list_jobs("x")
    assert scraped(metrics)["muster_slurm_listing_timestamp_seconds",] > started


def test_what_the_bridge_tells_is_counted():
    metrics = BridgeMetrics(LABELS)
    for what, slots in (("submitted", [0, 1, 2]), ("failed", [0]), ("interrupted", [1, 2]), ("givenUp", [0])):
        metrics.told({"what": what, "slots": slots})
    metrics.told({"what": "queue", "counts": {"running": 3}})
    found = scraped(metrics)
    assert found["muster_slurm_submissions_total",] == 1
    ended = {key[1]: value for key, value in found.items() if key[0] == "muster_slurm_workers_ended_total"}
    assert ended == {"failed": 1, "interrupted": 2, "givenUp": 1}


def test_what_is_so_is_read_at_each_scrape():
    metrics, tasks, carrying = BridgeMetrics(LABELS), {"running": 2, "waiting": 1}, [None]
    metrics.look_at(Sights(4, lambda: tasks, lambda: carrying[0]))
    found = scraped(metrics)
    assert found["muster_slurm_workers_wanted",] == 4
    assert found["muster_slurm_tasks", "running"] == 2
    assert found["muster_slurm_tasks", "held"] == 0
    assert ("muster_slurm_relay_carrying",) not in found, "there is none"
    tasks.clear()
    carrying[0] = True
    found = scraped(metrics)
    assert (found["muster_slurm_tasks", "running"], found["muster_slurm_relay_carrying",]) == (0, 1)


def test_names_follow_the_rules():
    metrics = BridgeMetrics(LABELS)
    metrics.look_at(Sights(4, dict, lambda: True))
    names = [metric.name for metric in metrics.registry.collect() if metric.name.startswith("muster")]
    assert len(names) >= 8
    for name in names:
        assert re.fullmatch(r"muster_[a-z_]+", name)
        assert not re.search(r"_(total|count|sum|bucket|ms|minutes|kb|mb)$", name)


@pytest.mark.parametrize("address", ["9464", "192.0.2.1:9464"])
def test_an_address_that_cant_be_had_is_named(address):
    with pytest.raises(SettingsError, match=f"--metrics {address}"):
        BridgeMetrics(LABELS).serve(address)
