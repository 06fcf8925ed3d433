"""What a scrape says of the engine's state, and that all that is said has a name, a kind and a meaning."""

import re
from collections import Counter

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from fake_world import FakeWorld, config_for
from muster_coordinator.config import Goal
from muster_coordinator.metrics.changes import Tally, changes_of
from muster_coordinator.metrics.families import COUNTERS, GAUGES, HISTOGRAMS, READ_COUNTERS, Families, Look
from muster_coordinator.metrics.gauges import Gauge, gauges_of
from muster_coordinator.metrics.metering import Metering, Surroundings
from muster_coordinator.metrics.phases import Mark
from muster_coordinator.refusals import Refusals, Refused
from muster_telemetry.scraping import labelled


def gauges(world, started=0.0):
    return {
        (gauge.family, *(value for _, value in gauge.labels)): gauge.value for gauge in gauges_of(world.state, started)
    }


def open_world(**choices):
    """Three clients of pool a and two of b, the first model made, round 1 open."""
    world = FakeWorld(config_for({"a": 3, "b": 2}, **choices))
    world.join()
    assert world.work("a/0")
    return world


def test_a_job_that_waits_for_clients_says_how_many_it_has_and_needs():
    world = FakeWorld(config_for({"a": 3, "b": 2}, min_updates=4))
    world.start()
    world.join("a/1")
    seen = gauges(world)
    assert seen["muster_round_phase", "gathering"] + seen["muster_round_phase", "collecting"] == 1
    assert (seen["muster_clients", "a", "here"], seen["muster_clients", "a", "away"]) == (1, 2)
    assert (seen["muster_clients", "b", "here"], seen["muster_clients", "b", "away"]) == (0, 2)
    assert seen["muster_clients_needed",] == 4


def test_the_cohort_is_counted_by_pool_and_by_how_far_each_is():
    world = open_world()
    world.work("a/0")
    world.lose("b/1")
    seen = gauges(world)
    assert seen["muster_round",] == 1
    assert seen["muster_round_committed",] == 0
    assert seen["muster_cohort_clients", "a", "received"] == 1
    assert seen["muster_cohort_clients", "a", "working"] == 2
    assert seen["muster_cohort_clients", "b", "working"] == 1
    assert seen["muster_cohort_clients", "b", "failed"] + seen["muster_cohort_clients", "b", "away"] == 1


def test_after_the_end_everything_is_still_there_and_the_cohort_is_empty():
    world = FakeWorld(config_for({"a": 3}, central=True, federated=True, goal=Goal("accuracy", 2.0)))
    world.run()
    seen = gauges(world, started=5.0)
    assert seen["muster_round_committed",] == seen["muster_rounds_target",] == 3
    assert seen["muster_round_phase", "finished"] == 1
    assert seen["muster_model_score", "central", "accuracy"] == pytest.approx(0.75)
    assert seen["muster_model_score", "federated", "loss"] == pytest.approx(0.25)
    assert sum(value for key, value in seen.items() if key[0] == "muster_cohort_clients") == 0
    assert seen["muster_progress_timestamp_seconds",] >= 5.0


def test_metrics_whose_names_clients_make_up_are_not_shown_unless_the_job_asks_for_one():
    measure = {"accuracy": 0.5, "x" * 50: 1.0, "f1": 0.4}
    world = FakeWorld(config_for(federated=True, goal=Goal("f1", 0.9)), measure=lambda order: measure)  # noqa: ARG005
    world.run()
    shown = [key for key in gauges(world) if key[0] == "muster_model_score" and key[1] != "training"]
    assert shown == [("muster_model_score", "federated", "accuracy"), ("muster_model_score", "federated", "f1")]


def test_exactly_one_phase_is_on_at_every_moment():
    world = open_world(central=True)
    for _ in range(30):
        phases = [value for key, value in gauges(world).items() if key[0] == "muster_round_phase"]
        assert Counter(phases)[True] == 1
        if not any(world.work(name) for name in world.config.clients):
            break


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = [*COUNTERS, *HISTOGRAMS, *GAUGES, *READ_COUNTERS]


@pytest.mark.parametrize("name", NAMES)
def test_names_and_labels_follow_the_rules(name):
    assert re.fullmatch(r"muster_[a-z_]+", name)
    assert not re.search(r"_(total|count|sum|bucket|info|ms|milliseconds|minutes|kb|mb)$", name)
    about, labels, *_ = (COUNTERS | HISTOGRAMS | GAUGES | READ_COUNTERS)[name]
    assert about.endswith(".")
    assert set(labels) <= {"pool", "state", "phase", "on", "metric", "method", "code", "direction", "part", "cause"}
    assert (name in HISTOGRAMS) <= name.endswith("_seconds")


def test_every_name_is_declared_once():
    assert len(NAMES) == len(set(NAMES))


def scraped(registry):
    """Every sample's name and labels → its value."""
    text = generate_latest(registry).decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_all_that_a_job_tells_and_is_can_be_scraped():
    world = FakeWorld(config_for({"a": 3}, central=True, federated=True))
    world.run()
    registry = CollectorRegistry()
    families, tally = Families(registry, ["a"]), Tally()
    for tell in world.told:
        tally, changes = changes_of(tally, tell.kind, tell.details)
        families.apply(changes)
    registry.register(Look(lambda: gauges_of(world.state, 0.0)))
    found = scraped(labelled(registry, {"fedjob": "small"}))
    assert found['muster_rounds_committed_total{fedjob="small"}'] == 3
    assert found['muster_updates_received_total{fedjob="small",pool="a"}'] == 10  # the first model is one
    assert found['muster_clients_lost_total{fedjob="small",pool="a"}'] == 0, "pools begin with zero"
    assert found['muster_round_phase{fedjob="small",phase="finished"}'] == 1
    assert not [name for name in found if "_created" in name]


def test_a_counter_that_is_kept_elsewhere_is_a_counter_here():
    registry = CollectorRegistry()
    registry.register(Look(lambda: [Gauge("muster_transfer_bytes", 7, (("direction", "up"),))]))
    assert "# TYPE muster_transfer_bytes_total counter" in generate_latest(registry).decode()
    assert scraped(registry)['muster_transfer_bytes_total{direction="up"}'] == 7


class StoppedClock:
    def now(self):
        return 7.0

    def unix(self):
        return 1e9


def test_before_the_driver_starts_a_scrape_says_what_there_is(resolved_job, tmp_path):
    metering = Metering(resolved_job, StoppedClock())
    refusals = Refusals()
    refusals.count(Refused.NORM)
    refusals.count(Refused.REVOKED)
    numbers = (lambda: 2, lambda: (1, 4), lambda: 0, lambda: (5, 6), refusals.totals)
    metering.look_at(Surroundings(lambda: None, *numbers, tmp_path))
    metering.passed(Mark.PLANNED, 1)
    metering.told("committed", {"round": 1, "used": 3, "seconds": 2.0, "failed": {}, "queued": []})
    metering.took("commit", 0.25)
    found = scraped(metering.registry)
    place = 'fedjob="small",namespace="default"'
    assert found[f"muster_sessions{{{place}}}"] == 2
    assert found[f"muster_uploads_postponed_total{{{place}}}"] == 4
    assert found[f'muster_transfer_bytes_total{{direction="down",{place}}}'] == 6
    assert found[f'muster_updates_rejected_total{{cause="norm",{place}}}'] == 1
    assert found[f'muster_updates_rejected_total{{cause="late",{place}}}'] == 0, "causes begin with zero"
    assert found[f'muster_calls_refused_total{{cause="revoked",{place}}}'] == 1
    assert found[f"muster_rounds_committed_total{{{place}}}"] == 1
    assert found[f'muster_checkpoint_seconds_sum{{{place},part="commit"}}'] == 0.25
    assert found[f"muster_storage_size_bytes{{{place}}}"] > 0
    assert f"muster_round{{{place}}}" not in found
