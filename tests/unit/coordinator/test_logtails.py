"""What is kept of workers' logs, and what a hostile one can't do with them."""

import pytest

from muster_coordinator.logtails import (
    BURST_BYTES,
    BYTES_A_SECOND,
    LINES_A_BEAT,
    LINES_A_READING,
    LINES_KEPT,
    LONGEST_LINE,
    Budget,
    LogTails,
    Tail,
    clean,
)
from muster_spec.clients import ClientId

C0, C1 = ClientId("hpc/0"), ClientId("hpc/4")


def texts(reading):
    return [line.text for line in reading.lines]


@pytest.fixture
def tails():
    return LogTails(["hpc"])


def test_lines_come_with_the_clients_they_are_of(tails):
    tails.add([C0, C1], Budget(), Tail(0, 0, ["one", "  two"]), 0.0)
    reading = tails.read("hpc", "", 0)
    assert [(line.source, line.text) for line in reading.lines] == [("hpc/0,4", "one"), ("hpc/0,4", "  two")]
    assert tails.read("hpc", reading.log, reading.read).lines == ()


def test_what_is_said_again_is_kept_once(tails):
    budget = Budget()
    tails.add([C0], budget, Tail(0, 0, ["a", "b"]), 0.0)
    tails.add([C0], budget, Tail(0, 0, ["a", "b", "c"]), 1.0)
    tails.add([C0], budget, Tail(1, 0, ["b", "c"]), 2.0)
    assert texts(tails.read("hpc", "", 0)) == ["a", "b", "c"]


def test_what_was_left_out_is_counted(tails):
    budget = Budget()
    tails.add([C0], budget, Tail(0, 0, ["a"]), 0.0)
    tails.add([C0], budget, Tail(8, 7, ["z"]), 1.0)
    assert texts(tails.read("hpc", "", 0)) == ["a", "z", "… 7 lines left out"]


def test_a_flood_is_cut_and_goes_on_when_there_is_room(tails):
    budget = Budget()
    line = "x" * (LONGEST_LINE - 1)  # and its end
    fits = BURST_BYTES // LONGEST_LINE
    tails.add([C0], budget, Tail(0, 0, [line] * (fits + 5)), 0.0)
    assert texts(tails.read("hpc", "", 0))[-1] == "… 5 lines left out"
    tails.add([C0], budget, Tail(fits + 5, 0, [line] * 50), 1.0)
    again = texts(tails.read("hpc", "", 0))[fits + 1 :]
    assert again.count(line) == (BURST_BYTES - fits * LONGEST_LINE + BYTES_A_SECOND) // LONGEST_LINE


def test_a_beat_with_too_many_lines_loses_the_rest(tails):
    tails.add([C0], Budget(), Tail(0, 0, ["x"] * (LINES_A_BEAT + 3)), 0.0)
    assert texts(tails.read("hpc", "", 0))[-1:] == ["x"]  # a reading has so many
    reading = tails.read("hpc", "", 0)
    assert texts(tails.read("hpc", reading.log, reading.read)) == ["… 3 lines left out"]


def test_numbers_that_cannot_be_do_no_harm(tails):
    budget = Budget()
    tails.add([C0], budget, Tail(2**64 - 1, 2**64 - 1, ["a"]), 0.0)
    tails.add([C0], budget, Tail(0, 0, ["b"]), 1.0)
    assert len(texts(tails.read("hpc", "", 2**64 - 1))) == 2


def test_only_the_newest_are_kept_and_readings_have_an_end(tails):
    for number in range(LINES_KEPT + 10):
        tails.add([C0], Budget(), Tail(0, 0, [str(number)]), 0.0)
    first = tails.read("hpc", "", 0)
    rest = tails.read("hpc", first.log, first.read)
    assert (len(first.lines), len(rest.lines)) == (LINES_A_READING, LINES_KEPT - LINES_A_READING)
    assert texts(first)[0] == "10"
    assert texts(rest)[-1] == str(LINES_KEPT + 9)


def test_another_coordinators_log_begins_anew(tails):
    tails.add([C0], Budget(), Tail(0, 0, ["a"]), 0.0)
    reading = tails.read("hpc", "", 0)
    assert texts(LogTails(["hpc"]).read("hpc", reading.log, 5)) == []
    assert texts(tails.read("hpc", "another", 1)) == ["a"]


def test_pools_that_nobody_reads_keep_nothing(tails):
    assert (tails.bytes_wanted("hpc"), tails.bytes_wanted("cloud")) == (BYTES_A_SECOND, 0)
    tails.add([ClientId("cloud/0")], Budget(), Tail(0, 0, ["a"]), 0.0)
    assert tails.read("cloud", "", 0).lines == ()


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("plain ünïcode", "plain ünïcode"),
        ("\x1b[2J\x1b]0;title\x07gone", "[2J]0;titlegone"),
        ("a\nforged line\r\x00", "aforged line"),
        ("\tindented", "    indented"),
        ("right\u202eot left\u2066\u200b", "rightot left"),
        ("y" * 5000, "y" * LONGEST_LINE),
    ],
)
def test_lines_are_harmless(said, shown):
    assert clean(said) == shown
