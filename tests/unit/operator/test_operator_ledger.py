"""What is remembered of a job: written and read again it is the same, and no entry is ever changed."""

from __future__ import annotations

import pytest

from muster_operator.ledger import (
    Ledger,
    Verdict,
    advance,
    ledger_annotations,
    noticed,
    open_ledger,
    read_ledger,
    wished,
)

START = 1_800_000_000.0
FAILED = Verdict("Failed", "DeadlineExceeded", "too long")


@pytest.mark.parametrize(
    "ledger",
    [
        open_ledger(START),
        Ledger(started=START, ran_s=5.0),
        Ledger(started=START, ran_s=5.0, verdict=FAILED, ended=START + 9),
        Ledger(started=START, running_since=START + 3, ran_s=7.0),
        Ledger(started=START, running_since=START + 3, suspending_since=START + 4),
        Ledger(started=START, running_since=START + 3, begun=START + 5),
    ],
)
def test_it_is_read_as_it_was_written(ledger: Ledger) -> None:
    config = {"metadata": {"creationTimestamp": None, "annotations": ledger_annotations(ledger)}}
    assert read_ledger(config) == ledger


def test_a_ledger_that_somebody_emptied_starts_when_its_object_was_made() -> None:
    assert read_ledger({"metadata": {"creationTimestamp": "2027-01-15T08:00:00Z"}}) == Ledger(started=1_800_000_000.0)


def test_the_clock_stands_still_while_suspended() -> None:
    ledger = advance(open_ledger(START), is_resting=True, verdict=None, now=START + 10)
    assert advance(ledger, is_resting=True, verdict=None, now=START + 50) == ledger
    resumed = advance(ledger, is_resting=False, verdict=None, now=START + 100)
    assert resumed.active_s(START + 105) == 15


def test_a_first_verdict_stays() -> None:
    ended = advance(open_ledger(START), is_resting=False, verdict=FAILED, now=START + 10)
    later = Verdict("Complete", "Completed", "")
    assert advance(ended, is_resting=True, verdict=later, now=START + 20) == ended
    assert (ended.ended, ended.active_s(START + 99)) == (START + 10, 10)


def test_a_wish_to_suspend_is_dated_once_and_forgotten_when_it_is_taken_back() -> None:
    ledger = wished(open_ledger(START), is_suspended=True, now=START + 5)
    assert wished(ledger, is_suspended=True, now=START + 9).suspending_since == START + 5
    assert not ledger.is_resting
    assert advance(ledger, is_resting=True, verdict=None, now=START + 9).is_resting
    assert wished(ledger, is_suspended=False, now=START + 9) == open_ledger(START)


def test_a_coordinator_that_began_stays_begun() -> None:
    ledger = noticed(open_ledger(START), has_begun=False, now=START + 5)
    assert ledger == open_ledger(START)
    begun = noticed(ledger, has_begun=True, now=START + 7)
    assert begun.begun == START + 7
    assert noticed(begun, has_begun=False, now=START + 9) == noticed(begun, has_begun=True, now=START + 9) == begun


def test_a_clock_that_goes_back_takes_no_time_away() -> None:
    assert open_ledger(START).active_s(START - 60) == 0
