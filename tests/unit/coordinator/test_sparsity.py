"""Codec AdaptiveTopK: the share of values that goes up, learnt from what clients measured."""

import math
from dataclasses import replace

import pytest

from fake_world import FakeWorld, config_for
from muster_coordinator.claims import losses_of
from muster_coordinator.instructions import OrderTraining
from muster_coordinator.records import Losses, RoundCommit, UsedUpdate
from muster_coordinator.sparsity import after_round, uplink_of
from muster_wire.adaptive import Search
from muster_wire.v1 import federation_pb2 as pb

SEARCH = Search.start(0.01, 0.1)


def used(number=1, examples=10, losses=(2.0, 1.0, 1.2), train_s=1.0, upload_s=3.0, size_bytes=0):
    before, after, fewer = losses
    return UsedUpdate(
        client="a/0",
        assignment=f"{number}.0.a/0",
        round=number,
        examples=examples,
        weight=10.0,
        steps=1,
        metrics={},
        train_s=train_s,
        upload_s=upload_s,
        size_bytes=size_bytes,
        losses=Losses(before=before, after=after, fewer=fewer),
    )


def commit(*updates):
    return RoundCommit(
        round=1, attempt=0, epoch=1, base="b", model="m", used=updates, failed={}, failed_attempts=0,
        started_s=0.0, seconds=4.0, bytes_up=1, bytes_down=1,
    )  # fmt: skip


def moved(*updates):
    return after_round(SEARCH, commit(*updates), unknown).share


def unknown(_client):
    return math.nan


def test_a_round_that_a_smaller_share_would_have_shortened_lowers_it():
    """By hand: 1 + 3 s for a loss of 1.0 less; with δ = ln(10)/√2 the probe takes 1 + 3·e^(−δ/2) s for 0.8 or 0.2."""
    assert moved(used(losses=(2.0, 1.0, 1.2))) == pytest.approx(0.01)  # 2.33/0.8 < 4/1, and no lower
    assert moved(used(losses=(2.0, 1.0, 1.8))) == pytest.approx(0.1)  # 2.33/0.2 > 4/1, and no higher


def test_where_sending_takes_no_time_more_is_sent():
    assert moved(used(upload_s=1e-9)) > SEARCH.share


def test_what_nobody_saw_come_took_what_the_surveyed_line_takes():
    seen, unseen = used(losses=(2.0, 1.0, 1.8)), used(losses=(2.0, 1.0, 1.8), upload_s=0.0, size_bytes=300)
    assert after_round(SEARCH, commit(unseen), lambda _: 100.0) == after_round(SEARCH, commit(seen), unknown)
    even = used(losses=(2.0, 1.0, 1.3), upload_s=0.0, size_bytes=300)
    assert after_round(SEARCH, commit(even), lambda _: 100.0).share < SEARCH.share
    assert after_round(SEARCH, commit(even), lambda _: 1e4).share > SEARCH.share


def test_losses_are_averaged_by_examples_and_the_slowest_client_sets_the_time():
    few, many = used(examples=1, losses=(9.0, 8.0, 8.9)), used(examples=99, losses=(2.0, 1.0, 1.05))
    assert moved(few, many) < SEARCH.share
    assert moved(replace_examples(few, 99), replace_examples(many, 1)) > SEARCH.share
    slow = used(losses=(2.0, 1.0, 1.8), train_s=0.0, upload_s=40.0)  # as good as nothing but sending: 19 against 40·5
    assert moved(slow, used(losses=(2.0, 1.0, 1.3))) < SEARCH.share


def replace_examples(update, examples):
    return used(examples=examples, losses=(update.losses.before, update.losses.after, update.losses.fewer))


@pytest.mark.parametrize(
    "updates",
    [
        (),
        (used(number=0),),  # late: trained from an older base
        (used(upload_s=0.0),),  # not timed
        (used(losses=(1.0, 2.0, 1.5)),),  # the loss did not fall
    ],
)
def test_a_round_that_says_nothing_changes_nothing(updates):
    assert after_round(SEARCH, commit(*updates), unknown) == SEARCH


def test_without_the_codec_there_is_no_search():
    assert after_round(None, commit(used()), unknown) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_losses_that_are_no_numbers_are_no_losses(bad):
    assert losses_of(pb.Offer(probe=pb.Probe(before=1, after=1, fewer=bad))) is None
    assert losses_of(pb.Offer()) is None
    assert losses_of(pb.Offer(probe=pb.Probe(before=3, after=1, fewer=2))) == Losses(before=3, after=1, fewer=2)


def go_round(world):
    for client in world.clients:
        world.work(client)


def test_the_share_is_in_the_plan_and_goes_on_after_a_restart():
    world = FakeWorld(replace(config_for(), search=SEARCH, total=4))
    world.says = {"losses": Losses(before=2.0, after=1.0, fewer=1.2), "upload_s": 3.0, "train_ms": 1000}
    world.join()
    world.work(world.config.clients[0])  # the first model
    go_round(world)
    after_one = after_round(SEARCH, world.commits[1], unknown)
    assert [each.uplink for each in world.plans[1, 0].cohort] == [uplink_of(SEARCH)] * 3
    assert [each.uplink for each in world.plans[2, 0].cohort] == [uplink_of(after_one)] * 3
    assert after_one.share < SEARCH.share
    assert f"up goes {100 * after_one.share:.3g} % of the values" in world.plans[2, 0].cohort[0].reason
    world.start()
    world.join()
    orders = [each for each in world.carried_out if isinstance(each, OrderTraining)]
    assert orders[-1].uplink == uplink_of(after_one)
    go_round(world)
    assert world.plans[3, 0].cohort[0].uplink == uplink_of(after_round(after_one, world.commits[2], unknown))
