"""Who is in the lobby, what they say, and what is shown of it."""

from __future__ import annotations

import pytest

from muster_lobby.attendance import MAX_REFUSALS, MAX_WORKERS, SHOWN, Attendance, Refusal, Standing, TooManyError
from muster_lobby.claims import MAX_MESSAGE, REASONS, problem_with_worker, standing_from
from muster_wire.v1 import lobby_pb2 as pb

JOBS = {"u-1": "digits", "u-2": "heart"}
NO = Refusal("u-1", "EntrypointNotAllowed", "not here")


def test_seats_come_and_go() -> None:
    hall = Attendance()
    first, second = hall.sit("p", "a", Standing()), hall.sit("p", "b", Standing(job="u-1"))
    hall.sit("q", "a", Standing())
    assert hall.totals() == {"working": 1, "waiting": 2}
    assert hall.shown("p", JOBS) == {"workers": 2, "waiting": 1, "working": 1, "refusals": []}
    for seat in (first, second):
        hall.leave(seat)
    assert hall.shown("p", JOBS) == {"workers": 0, "waiting": 0, "working": 0, "refusals": []}
    assert hall.totals() == {"working": 0, "waiting": 1}


def test_a_newer_stream_takes_the_place_of_an_older_one() -> None:
    hall = Attendance()
    old = hall.sit("p", "a", Standing())
    old.news.clear()
    new = hall.sit("p", "a", Standing(job="u-1"))
    assert (old.is_taken, old.news.is_set(), new.is_taken) == (True, True, False)
    hall.leave(old)
    assert hall.find("p", "a") is new
    assert hall.totals() == {"working": 1, "waiting": 0}


def test_only_the_pools_own_workers_are_woken() -> None:
    hall = Attendance()
    here, there = hall.sit("p", "a", Standing()), hall.sit("q", "a", Standing())
    for seat in (here, there):
        seat.news.clear()
    hall.wake("p")
    assert (here.news.is_set(), there.news.is_set()) == (True, False)


def test_refusals_are_counted_and_those_of_jobs_that_are_gone_are_not_shown() -> None:
    hall = Attendance()
    hall.sit("p", "a", Standing(refusals=(NO, Refusal("gone", "PrivacyTooWeak", "m"))))
    hall.sit("p", "b", Standing(refusals=(NO, Refusal("u-2", "LimitExceeded", "too much"))))
    digits = {"job": "digits", "uid": "u-1", "reason": "EntrypointNotAllowed", "message": "not here", "workers": 2}
    heart = {"job": "heart", "uid": "u-2", "reason": "LimitExceeded", "message": "too much", "workers": 1}
    assert hall.shown("p", JOBS)["refusals"] == [digits, heart]


def test_no_pool_can_fill_our_memory() -> None:
    hall = Attendance()
    for number in range(MAX_WORKERS):
        hall.sit("p", str(number), Standing())
    with pytest.raises(TooManyError):
        hall.sit("p", "one more", Standing())
    hall.sit("p", "0", Standing())
    hall.sit("q", "one more", Standing())
    many = {f"u-{number}": f"job-{number:03}" for number in range(SHOWN + 5)}
    crowd = Attendance()
    crowd.sit("p", "a", Standing(refusals=tuple(Refusal(uid, "LimitExceeded", "m") for uid in many)))
    assert len(crowd.shown("p", many)["refusals"]) == SHOWN


def test_what_a_worker_says_is_bounded() -> None:
    because = pb.SiteRefusal.Because.BECAUSE_PRIVACY
    one = pb.SiteRefusal(job="u", because=because, message="a\nb \x00" + "x" * 5000)
    standing = standing_from(pb.Standing(job="j" * 500, refusals=[one] * (MAX_REFUSALS + 3)))
    assert len(standing.job) <= 128
    assert len(standing.refusals) == MAX_REFUSALS
    assert standing.refusals[0].reason == "PrivacyTooWeak"
    assert standing.refusals[0].message.startswith("a b x")
    assert len(standing.refusals[0].message) <= MAX_MESSAGE
    assert standing_from(pb.Standing(refusals=[pb.SiteRefusal(job="u" * 500)])).refusals == ()


def test_a_reason_of_a_newer_worker_is_a_refusal_all_the_same() -> None:
    message = pb.SiteRefusal(job="u")
    message.because = 77  # type: ignore[assignment] -- a number that this version has no name for
    assert standing_from(pb.Standing(refusals=[message])).refusals[0].reason == "NotAllowed"


@pytest.mark.parametrize(("name", "is_fine"), [("host-1", True), ("", False), ("a\n", False), ("x" * 129, False)])
def test_what_a_worker_may_be_called(name: str, is_fine: bool) -> None:
    assert (problem_with_worker(name) == "") is is_fine


def test_every_reason_has_a_word() -> None:
    assert set(REASONS) == set(pb.SiteRefusal.Because.values())
