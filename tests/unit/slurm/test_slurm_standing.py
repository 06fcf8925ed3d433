"""What the coordinator hears of a pool's queue: who waits, until when, and for how long the others may run on."""

import pytest

from muster_slurm.jobs import Job
from muster_slurm.ledger import Ledger, Submission, Worker
from muster_slurm.request import Keys, Tag
from muster_slurm.standing import EARLY_S, Shape, Span, Standing, standing_of

KEYS = Keys("u", "hpc")
SHAPE = Shape(clients=5, workers=2, signal_s=120)
LEDGER = Ledger(1, (Submission(0, (0, 1), 2, job=100),))


def job(task, state, *, array=100, number=0, tasks=None, **more):
    tag = Tag(number, 2, 0)
    tasks = tasks if tasks is not None else (task,)
    return Job(array + 1 + task, array, tasks, (state,), KEYS.name(tag), KEYS.comment(tag), **more)


def test_a_worker_stands_for_all_its_clients():
    running = job(0, "RUNNING", starts=1000, ends=11_000)
    waiting = job(1, "PENDING", starts=5000)
    assert standing_of(LEDGER, [running, waiting], KEYS, SHAPE) == (
        Standing(Span(is_running=True, starts=1000, ends=11_000 - 120 - EARLY_S), (0, 2, 4)),
        Standing(Span(is_running=False, starts=5000), (1, 3)),
    )


def test_those_that_stand_alike_are_told_together():
    both = job(0, "PENDING", tasks=(0, 1))
    assert standing_of(LEDGER, [both], KEYS, SHAPE) == (Standing(Span(is_running=False), (0, 1, 2, 3, 4)),)


def test_a_short_allocation_counts_at_least_by_half():
    running = job(0, "RUNNING", starts=1000, ends=1060)
    [standing, _] = standing_of(LEDGER, [running], KEYS, SHAPE)
    assert (standing.span.ends, standing.span.lasts_s) == (1030, 30)


@pytest.mark.parametrize(
    ("state", "span"),
    [
        ("RUNNING", Span(is_running=True)),  # without a limit
        ("PENDING", Span(is_running=False)),
        ("REQUEUE_HOLD", Span(is_running=False)),
        ("COMPLETING", None),
        ("FAILED", None),
        ("A_STATE_OF_TOMORROW", None),
    ],
)
def test_states(state, span):
    ledger = Ledger(1, (Submission(0, (0,), 1, job=100),))
    shape = Shape(clients=1, workers=1, signal_s=120)
    found = standing_of(ledger, [job(0, state)], KEYS, shape)
    assert found == ((Standing(span, (0,)),) if span else ())


def test_who_is_not_submitted_yet_or_not_listed_yet_waits_too():
    waits = (Standing(Span(is_running=False), (0, 1, 2, 3, 4)),)
    asked = Ledger(1, (Submission(0, (0, 1), 2),))
    assert standing_of(asked, [], KEYS, SHAPE) == waits
    assert standing_of(LEDGER, [], KEYS, SHAPE) == waits
    assert standing_of(Ledger(), [], KEYS, SHAPE) == waits


def test_who_failed_or_is_given_up_or_done_does_not_wait():
    ledger = Ledger(1, (), {0: Worker(failures=1), 1: Worker(fate="given up")})
    assert standing_of(ledger, [], KEYS, SHAPE) == ()
    interrupted = Ledger(1, (), {0: Worker(not_before=5.0), 1: Worker(fate="done")})
    assert standing_of(interrupted, [], KEYS, SHAPE) == (Standing(Span(is_running=False), (0, 2, 4)),)


def test_jobs_of_others_and_of_another_number_of_workers_say_nothing():
    foreign = Job(7, 7, (0,), ("RUNNING",), "else", "else")
    again = job(0, "RUNNING", array=200)
    waits = (Standing(Span(is_running=False), (0, 1, 2, 3, 4)),)
    assert standing_of(LEDGER, [foreign, again], KEYS, SHAPE) == waits
    three = Shape(clients=5, workers=3, signal_s=120)
    assert standing_of(LEDGER, [job(0, "RUNNING")], KEYS, three) == (Standing(Span(is_running=False), (2,)),)
