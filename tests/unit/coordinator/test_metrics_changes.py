"""Which event adds what to which counter, and how long phases took: tables."""

import pytest

from muster_coordinator.metrics.changes import Change, Tally, changes_of
from muster_coordinator.metrics.phases import Course, Mark, Phase, follow

P, Q = (("pool", "p"),), (("pool", "lab/q"),)
COMMITTED = {"round": 2, "used": 1, "seconds": 3.5, "failed": {}, "queued": [], "bytesUp": 1, "bytesDown": 2}


@pytest.mark.parametrize(
    ("kind", "details", "changes"),
    [
        (
            "joined",
            {"clients": ("p/0", "lab/q/1", "p/2")},
            [Change("muster_clients_joined", 1, Q), Change("muster_clients_joined", 2, P)],
        ),
        ("lost", {"clients": ("p/0",), "reason": "gone"}, [Change("muster_clients_lost", 1, P)]),
        ("planned", {"cohort": ["p/0", "p/1"], "round": 1}, [Change("muster_clients_asked", 2, P)]),
        (
            "received",
            {"client": "p/0", "bytes": 12, "trainMs": 1500},
            [
                Change("muster_updates_received", 1, P),
                Change("muster_update_bytes", 12, P),
                Change("muster_client_train_seconds", 1.5, P),
            ],
        ),
        (
            "received",  # the first model: nobody trained
            {"client": "p/0", "bytes": 12, "trainMs": 0},
            [Change("muster_updates_received", 1, P), Change("muster_update_bytes", 12, P)],
        ),
        ("rejected", {"client": "p/0", "reason": "NaN"}, [Change("muster_clients_failed", 1, P)]),
        (
            "committed",
            COMMITTED,
            [
                Change("muster_rounds_committed", 1),
                Change("muster_round_seconds", 3.5),
                Change("muster_updates_used", 1),
            ],
        ),
        ("committed", COMMITTED | {"round": 0}, []),
        ("failedAttempt", {"round": 1, "attempt": 0}, [Change("muster_round_attempts_failed", 1)]),
        ("warning", {"message": "odd"}, [Change("muster_warnings", 1)]),
        ("finished", {"outcome": "Complete"}, []),
        ("what a newer version tells", {}, []),
    ],
)
def test_each_event_changes_what_it_is_counted_in(kind, details, changes):
    assert changes_of(Tally(), kind, details)[1] == changes


def told(*events):
    """All changes of some events in a row."""
    tally, out = Tally(), []
    for kind, details in events:
        tally, changes = changes_of(tally, kind, details)
        out += changes
    return out


def test_stragglers_are_those_missing_who_had_not_failed():
    out = told(
        ("planned", {"cohort": ["p/0", "p/1", "p/2"]}),
        ("rejected", {"client": "p/1", "reason": "NaN"}),
        ("committed", COMMITTED | {"failed": {"p/1": "NaN", "p/2": "no update"}}),
    )
    assert [change for change in out if change.family == "muster_stragglers"] == [Change("muster_stragglers", 1, P)]


def test_who_was_sent_back_to_a_queue_is_no_straggler():
    missing = {"failed": {"p/1": "in a queue", "p/2": "no update"}, "queued": ["p/1"]}
    out = told(("planned", {"cohort": ["p/0", "p/1", "p/2"]}), ("committed", COMMITTED | missing))
    assert [change for change in out if change.family == "muster_stragglers"] == [Change("muster_stragglers", 1, P)]


def test_who_failed_in_an_earlier_attempt_may_be_slow_in_this_one():
    out = told(
        ("rejected", {"client": "p/1", "reason": "NaN"}),
        ("planned", {"cohort": ["p/1"]}),
        ("committed", COMMITTED | {"failed": {"p/1": "no update"}}),
    )
    assert Change("muster_stragglers", 1, P) in out


# --- phases -----------------------------------------------------------------------------------------------------------


def course(*marks):
    """What came to an end, and how long it was, for marks of (mark, round, time)."""
    at, out = Course(), []
    for mark, number, now in marks:
        at, over = follow(at, mark, number, now)
        out += [(one.phase, one.round, one.seconds) for one in over]
    return out


@pytest.mark.parametrize(
    ("marks", "stretches"),
    [
        (
            [
                (Mark.PLANNING, 1, 10),
                (Mark.PLANNED, 1, 11),
                (Mark.MAKING, 1, 31),
                (Mark.COMMITTED, 1, 34),
                (Mark.EVALUATED, 1, 40),
            ],
            [
                (Phase.PLANNING, 1, 1),
                (Phase.COLLECTING, 1, 20),
                (Phase.COMMITTING, 1, 3),
                (Phase.ROUND, 1, 24),
                (Phase.EVALUATING, 1, 6),
            ],
        ),
        (  # no evaluation is due: what follows the commit is waiting, and nobody's phase
            [(Mark.MAKING, 1, 0), (Mark.COMMITTED, 1, 1), (Mark.PLANNING, 2, 9), (Mark.PLANNED, 2, 10)],
            [(Phase.COMMITTING, 1, 1), (Phase.ROUND, 1, 1), (Phase.PLANNING, 2, 1)],
        ),
        (  # an attempt fails, and another is planned after a while: a round is both
            [
                (Mark.PLANNING, 1, 0),
                (Mark.PLANNED, 1, 1),
                (Mark.FAILED_ATTEMPT, 1, 5),
                (Mark.PLANNING, 1, 8),
                (Mark.PLANNED, 1, 9),
                (Mark.MAKING, 1, 11),
                (Mark.COMMITTED, 1, 12),
            ],
            [
                (Phase.PLANNING, 1, 1),
                (Phase.COLLECTING, 1, 4),
                (Phase.PLANNING, 1, 1),
                (Phase.COLLECTING, 1, 2),
                (Phase.COMMITTING, 1, 1),
                (Phase.ROUND, 1, 12),
            ],
        ),
        (  # the deadline is extended
            [(Mark.PLANNED, 1, 0), (Mark.FAILED_ATTEMPT, 1, 5), (Mark.MAKING, 1, 7)],
            [(Phase.COLLECTING, 1, 5), (Phase.COLLECTING, 1, 2)],
        ),
        ([(Mark.RESUMED, 3, 0), (Mark.MAKING, 3, 4)], [(Phase.COLLECTING, 3, 4)]),
        ([(Mark.RESUMED, 3, 0), (Mark.PLANNING, 3, 4)], []),  # resumed between two rounds
        ([(Mark.EVALUATED, 3, 4)], []),  # by a coordinator that restarted while it was measured
    ],
)
def test_phases_are_what_lies_between_the_marks(marks, stretches):
    assert course(*marks) == stretches
