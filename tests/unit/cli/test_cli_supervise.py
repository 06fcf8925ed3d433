"""Who comes back after dying, and when."""

import pytest

from muster_cli.supervise import BACKOFF_S, GiveUp, Restart, Supervision, describe_exit, due, note_death


def die(state, times, code=-9, process="cloud-0"):
    decision = None
    for _ in range(times):
        state, decision = note_death(state, process, code, now=100.0)
        state, _ = due(state, now=200.0)
    return state, decision


def test_the_first_death_is_followed_by_a_quick_restart():
    _, decision = note_death(Supervision(limit=6), "cloud-0", -9, now=100.0)
    assert decision == Restart("cloud-0", 100.0 + BACKOFF_S[0], 1, "killed by signal 9")


def test_it_waits_longer_each_time():
    waits = []
    state = Supervision(limit=9)
    for _ in range(8):
        state, decision = die(state, 1)
        waits.append(decision.when - 100.0)
    assert waits == pytest.approx([*BACKOFF_S, *[BACKOFF_S[-1]] * 3])


def test_it_gives_up_after_the_limit_and_says_how_often():
    state, decision = die(Supervision(limit=2), 2)
    assert isinstance(decision, Restart)
    _, decision = die(state, 1, code=1)
    assert decision == GiveUp("cloud-0", 1, "ended with exit code 1, 3 times")


def test_deaths_are_counted_for_each_process():
    state, _ = die(Supervision(limit=1), 1)
    _, decision = die(state, 1, process="cloud-1")
    assert isinstance(decision, Restart)


def test_bad_input_is_final_at_once():
    _, decision = note_death(Supervision(limit=6), "coordinator", 2, now=0.0)
    assert isinstance(decision, GiveUp)


def test_only_those_whose_time_has_come_are_due():
    state, _ = note_death(Supervision(limit=6), "a", -9, now=0.0)
    state, _ = note_death(state, "b", -9, now=10.0)
    state, ready = due(state, now=5.0)
    assert ready == ("a",)
    assert due(state, now=5.0)[1] == ()
    assert due(state, now=20.0)[1] == ("b",)


@pytest.mark.parametrize(("code", "words"), [(-15, "killed by signal 15"), (0, "ended with exit code 0")])
def test_exits_in_words(code, words):
    assert describe_exit(code) == words
