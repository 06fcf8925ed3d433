"""Streams through a folder: every byte, in order, in a bounded number of files, and no waiting for the dead."""

import shutil
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_wire.spool import WINDOW, Incoming, Outgoing, Patience, StreamBrokenError, give_up


def ends(folder, is_alive=lambda: True):
    return (
        Outgoing(folder, "up", Patience(folder, "down", is_alive)),
        Incoming(folder, "up", Patience(folder, "up", is_alive)),
    )


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=40))
@settings(max_examples=20, deadline=None)
def test_what_goes_in_comes_out(tmp_path_factory, chunks):
    folder = tmp_path_factory.mktemp("spool")
    out, into = ends(folder)
    writer = threading.Thread(target=lambda: [out.write(chunk) for chunk in [*chunks, b""]])
    writer.start()
    assert list(iter(into.read, b"")) == chunks
    writer.join()
    assert list(folder.iterdir()) == []


def test_a_writer_waits_while_too_much_is_unread(tmp_path):
    out, into = ends(tmp_path)
    writer = threading.Thread(target=lambda: [out.write(b"x") for _ in range(3 * WINDOW)])
    writer.start()
    while len(list(tmp_path.glob("up.*"))) < WINDOW:
        time.sleep(0.01)
    assert writer.is_alive()
    most = 0
    for _ in range(3 * WINDOW):
        most = max(most, len(list(tmp_path.glob("up.*"))))
        assert into.read() == b"x"
    writer.join()
    assert most == WINDOW


def test_the_reader_hears_that_the_other_has_given_up_but_reads_first_what_it_said(tmp_path):
    out, into = ends(tmp_path)
    out.write(b"last")
    give_up(tmp_path, "up")
    assert into.read() == b"last"
    with pytest.raises(StreamBrokenError):
        into.read()


def test_a_writer_without_a_reader_does_not_wait_for_ever(tmp_path):
    out, _ = ends(tmp_path)
    for _ in range(WINDOW):
        out.write(b"x")
    give_up(tmp_path, "down")
    with pytest.raises(StreamBrokenError):
        out.write(b"x")


@pytest.mark.parametrize("trouble", ["the other is dead", "the folder is gone"])
def test_nobody_waits_for_the_dead(tmp_path, trouble):
    folder = tmp_path / "connection"
    folder.mkdir()
    out, into = ends(folder, is_alive=lambda: trouble != "the other is dead")
    if trouble == "the folder is gone":
        shutil.rmtree(folder)
        with pytest.raises(StreamBrokenError):
            out.write(b"x")
    with pytest.raises(StreamBrokenError):
        into.read()
