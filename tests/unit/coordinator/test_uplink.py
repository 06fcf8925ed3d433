"""Preset `auto`: each client's uplink by its own bandwidth."""

from dataclasses import replace

import pytest

from fake_world import FakeWorld, config_for
from muster_coordinator.compression import Codecs
from muster_coordinator.events import ClientsProfiled, UpdateStaged
from muster_coordinator.instructions import OrderTraining
from muster_coordinator.records import ClientProfile, Uplink
from muster_coordinator.uplink import UPLINKS, Chosen, Line, choose_uplink, measured
from muster_spec.clients import ClientId
from muster_wire.presets import PRESETS

MODEL = 40_000_000


def update(**choices):
    usual = {"size_bytes": 4_000_000, "upload_s": 2.0, "train_ms": 10_000, "plain_bytes": MODEL}
    return UpdateStaged(ClientId("a/1"), "1.0.a/1", 3, 1, {}, **{**usual, **choices})


@pytest.mark.parametrize(
    ("rate", "preset"),
    [(1e9, "light"), (2e7, "light"), (1.7e7, "balanced"), (4e6, "balanced"), (3.9e6, "max"), (1.0, "max")],
)
def test_a_client_squeezes_no_harder_than_its_line_needs(rate, preset):
    chosen = choose_uplink(Line(rate, train_s=10.0, plain_bytes=MODEL))
    assert chosen.preset == preset
    assert chosen.reason.startswith(f"{preset}: at ")


def test_nothing_is_known_at_first():
    assert choose_uplink(None) == Chosen("balanced", "balanced: its bandwidth is not known yet")


def test_the_line_is_a_mean_in_which_the_newest_counts_most():
    first = measured(None, update())
    assert first == Line(2e6, 10.0, MODEL)
    assert measured(first, update(upload_s=1.0, train_ms=20_000)) == Line(3e6, 15.0, MODEL)
    assert measured(first, update(upload_s=0.0)) == first  # a part of an update says little


def test_of_an_update_that_nobody_saw_come_the_surveyed_line_counts():
    assert measured(None, update(upload_s=0.0)) is None
    surveyed = measured(None, update(upload_s=0.0), 1e6)
    assert surveyed == Line(1e6, 10.0, MODEL)
    assert measured(surveyed, update(), 1.0) == Line(1.5e6, 10.0, MODEL)  # what was seen is believed
    assert measured(surveyed, update(upload_s=0.0), 3e6) == Line(2e6, 10.0, MODEL)


def test_changing_from_one_uplink_to_another_loses_nothing():
    assert all(recipe.error_feedback for recipe in UPLINKS.values())
    codecs = Codecs(UPLINKS["balanced"], None, UPLINKS)
    assert codecs.recipe(Uplink(preset="max")) == PRESETS["max"].up
    assert codecs.recipe(Uplink()) == PRESETS["balanced"].up


def test_the_choice_is_stored_with_the_plan_and_survives_a_restart():
    world = FakeWorld(replace(config_for(), is_auto=True))
    world.join()
    world.work(ClientId("a/0"))
    slow = ClientId("a/1")
    name = "1.0.a/1"
    staged = replace(update(upload_s=100.0), assignment=name)
    world.staged[name] = staged
    world.post(staged)
    for client in ("a/0", "a/2"):
        world.work(ClientId(client))
    plan = world.plans[2, 0]
    assert {each.client: each.uplink.preset for each in plan.cohort} == {
        "a/0": "balanced",
        slow: "max",
        "a/2": "balanced",
    }
    assert "; up by max: at 0.04 MB/s" in plan.cohort[1].reason
    world.start()
    world.join()
    orders = [each for each in world.carried_out if isinstance(each, OrderTraining)]
    assert {each.client: each.uplink.preset for each in orders[-3:]}[slow] == "max"


def test_clients_whose_updates_come_in_one_message_are_judged_by_what_their_workers_found():
    world = FakeWorld(replace(config_for(), is_auto=True))
    world.says = {"upload_s": 0.0, "train_ms": 10_000, "plain_bytes": MODEL}
    world.join()
    for client, rate in (("a/0", 1e9), ("a/1", 1e5)):
        profile = ClientProfile(
            flops=1e9, memory_bytes=2**30, latency_s=0.01, up_bytes_per_s=rate, down_bytes_per_s=1e9
        )
        world.post(ClientsProfiled(world.clients[ClientId(client)].worker, (ClientId(client),), profile))
    world.work(ClientId("a/0"))
    for client in world.config.clients:
        world.work(client)
    assert [each.uplink.preset for each in world.plans[2, 0].cohort] == ["light", "max", "balanced"]
    assert "; up by max: at 0.1 MB/s" in world.plans[2, 0].cohort[1].reason
