"""Which of the offered jobs a worker takes: a function of the offers, the policy and what it remembers."""

import msgspec
import pytest
from test_site_policy import TERMS, terms

from muster.choosing import (
    GAVE_UP_PAUSE_S,
    LONGEST_PAUSE_S,
    LOST,
    OVER,
    Memory,
    Offer,
    decide,
    parse_offers,
    standing_message,
)
from muster.policy import DEFAULT, Because, Refusal
from muster_lobby.claims import REASONS
from muster_wire.v1 import lobby_pb2 as pb

FOREIGN = terms(entrypoint="other:Net")


def offer(job, given=TERMS):
    return Offer(job, f"lab/{job}", "site", "c:1", "PEM", given, 1)


def taken(offers, memory=None, now=0.0):
    decision = decide(offers, DEFAULT, memory or Memory(), now)
    return decision.take and decision.take.job


def test_the_first_allowed_job_is_taken_and_the_others_are_told_of():
    decision = decide([offer("a", FOREIGN), offer("b"), offer("c"), offer("d", None)], DEFAULT, Memory(), 0.0)
    assert decision.take.job == "b"
    assert {job: each.because for job, each in decision.refusals.items()} == {
        "a": Because.ENTRYPOINT,
        "d": Because.TERMS,
    }


def test_nothing_is_taken_where_nothing_is_offered_or_allowed():
    assert taken([]) is None
    assert taken([offer("a", FOREIGN)]) is None


def test_a_job_that_is_over_is_not_taken_again():
    memory = Memory().ended("a", OVER, 0.0)
    assert taken([offer("a")], memory) is None
    assert taken([offer("a"), offer("b")], memory) == "b"
    assert taken([offer("a")], memory.among([])) is None


def test_a_job_that_was_lost_is_tried_again_soon_and_ever_more_seldom():
    memory, pauses = Memory(), []
    for _ in range(12):
        memory = memory.ended("a", LOST, 100.0)
        decision = decide([offer("a")], DEFAULT, memory, 100.0)
        assert decision.take is None
        assert decision.refusals == {}
        pauses.append(decision.again_at - 100.0)
        assert taken([offer("a")], memory, decision.again_at) == "a"
    assert pauses[:3] == [2.0, 4.0, 8.0]
    assert max(pauses) == LONGEST_PAUSE_S


def test_a_job_that_the_worker_gave_up_is_told_of_and_tried_again_later():
    memory = Memory().ended("a", 2, 0.0)
    decision = decide([offer("a"), offer("b")], DEFAULT, memory, 1.0)
    assert decision.take.job == "b"
    assert decision.refusals["a"].because is Because.CANNOT
    assert "exit code 2" in decision.refusals["a"].message
    assert taken([offer("a")], memory, GAVE_UP_PAUSE_S) == "a"


def test_failures_are_forgotten_with_their_jobs():
    memory = Memory().ended("a", 1, 0.0).ended("b", 1, 0.0)
    assert set(memory.among([offer("b")]).failures) == {"b"}


def test_offers_are_read_and_what_cant_be_one_is_left_out():
    text = msgspec.json.encode(TERMS).decode()
    message = pb.JobOffers(
        offers=[
            pb.JobOffer(job="u", namespace="lab", name="heart", pool="site", coordinator="c:1", terms=text, capacity=3),
            pb.JobOffer(job="v", coordinator="c:1", authorities=b"\xff", terms="{"),
            pb.JobOffer(job="", coordinator="c:1"),
            pb.JobOffer(job="w"),
        ]
    )
    first, second = parse_offers(message)
    assert (first.job, first.name, first.terms, first.capacity) == ("u", "lab/heart", TERMS, 3)
    assert (second.terms, second.capacity) == (None, 1)


@pytest.mark.parametrize("because", list(Because))
def test_every_reason_crosses_the_wire_with_its_word(because):
    [told] = standing_message("j", {"u": Refusal(because, "m")}).refusals
    assert REASONS[told.because] == because.value
