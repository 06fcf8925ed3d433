"""Who is expected to fetch a version: read off what is committed."""

from dataclasses import replace

from fake_world import config_for
from muster_coordinator.audience import audience_of
from muster_coordinator.state import Progress
from muster_spec.clients import client_id
from muster_wire.chain import Audience

CONFIG = replace(config_for({"a": 40}, cohort=10), cohort=10)


def progress(rounds):
    """Clients by the rounds in which their updates were used."""
    clients = {client_id("a", index): each for index, each in enumerate(rounds)}
    return Progress(used={name: tuple(f"{number}.0.{name}" for number in each) for name, each in clients.items()})


def test_clients_hold_what_they_last_trained_from():
    seen = audience_of(progress([(1,), (2, 5), (5,), (5,)]), 5, CONFIG)
    assert seen == Audience({0: 1, 4: 3}, 36 + 2)  # and one of twenty has lost what it held


def test_whoever_made_the_first_model_has_fetched_none():
    assert audience_of(progress([(0,)]), 0, CONFIG) == Audience({}, 40 + 2)


def test_who_stays_away_is_forgotten():
    assert audience_of(progress([(1,), (3,), (16,)]), 17, CONFIG) == Audience({2: 1, 15: 1}, 2)
