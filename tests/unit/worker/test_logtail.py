"""The end of a worker's own log, as beats carry it."""

import logging

import pytest

from muster.logtail import BURST_S, LINES_A_BEAT, LINES_KEPT, LogTail


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tail(clock):
    return LogTail(clock)


def say(tail, *lines):
    for line in lines:
        tail.say(line)


def test_records_are_lines_and_a_traceback_is_several(tail):
    tail.want(1000)
    error = ValueError("of the task")
    told = (ValueError, error, error.__traceback__)
    tail.handle(logging.LogRecord("muster", logging.ERROR, "", 0, "it %s", ("broke",), told))
    lines = tail.take().lines
    assert lines[0].endswith("ERROR it broke")
    assert lines[-1] == "ValueError: of the task"


def test_nothing_is_said_before_somebody_wants_it_and_nothing_is_lost(tail):
    say(tail, "early")
    assert tail.take() is None
    tail.want(1000)
    assert list(tail.take().lines) == ["early"]


def test_lines_are_told_until_they_have_come(tail):
    tail.want(1000)
    say(tail, "a", "b")
    first = tail.take()
    say(tail, "c")
    again = tail.take()
    assert (list(again.lines), again.first) == (["a", "b", "c"], 0)
    tail.told(first)
    rest = tail.take()
    assert (list(rest.lines), rest.first) == (["c"], 2)
    tail.told(again)
    assert tail.take() is None


def test_a_beat_carries_no_more_than_was_asked_for(tail, clock):
    tail.want(10)
    say(tail, *["123456789"] * 100)  # ten bytes each, with its end
    told = []
    for _ in range(3):
        taken = tail.take()
        told.append(len(taken.lines) if taken else 0)
        if taken:
            tail.told(taken)
        clock.now += 1.0
    assert told == [BURST_S, 1, 1]


def test_what_nobody_fetches_is_left_out_and_counted(tail):
    say(tail, *map(str, range(LINES_KEPT + 7)))
    tail.want(100_000)
    taken = tail.take()
    assert (taken.first, taken.left_out, taken.lines[0], len(taken.lines)) == (7, 7, "7", LINES_A_BEAT)
    tail.told(taken)
    assert (tail.take().first, tail.take().left_out) == (7 + LINES_A_BEAT, 0)


def test_a_line_that_is_no_text_is_said_all_the_same(tail):
    tail.want(1000)
    say(tail, "half a \ud800 pair")
    assert tail.take().SerializeToString()
