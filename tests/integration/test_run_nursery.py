"""The nursery for real: nothing is alive in it that a fork would break, and nothing outlives it."""

import os
import select
import signal
import time
from contextlib import contextmanager

import psutil
import pytest

from muster_cli.plan import PRELOAD
from muster_cli.processes import Nursery, last_words

READY_S = 60


class Conversation:
    """A nursery whose answers can be waited for."""

    def __init__(self, nursery):
        self.nursery = nursery
        self.heard = []

    def hear(self, event, name=None):
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            for answer in self.heard:
                if answer["event"] == event and answer.get("id") == name:
                    self.heard.remove(answer)
                    return answer
            select.select([self.nursery], [], [], 1.0)
            self.heard += self.nursery.read_events() or []
        raise AssertionError(f"never heard {event} {name or ''}; heard {self.heard}")

    def start(self, tmp_path, name, entry, **arguments):
        self.nursery.start(name, entry, arguments, tmp_path / f"{name}.log", {"MUSTER_TOKEN": "secret"})
        return self.hear("started", name)["pid"]


@contextmanager
def nursery_of(tmp_path, preload=()):
    nursery = Nursery(preload, tmp_path / "nursery.log")
    try:
        yield Conversation(nursery)
    finally:
        nursery.end()


@pytest.fixture
def talk(tmp_path):
    with nursery_of(tmp_path) as conversation:
        conversation.hear("ready")
        yield conversation


def test_nothing_that_a_fork_would_break_is_alive_before_it(tmp_path):
    with nursery_of(tmp_path, PRELOAD) as talk:
        ready = talk.hear("ready")
        assert (ready["threads"], ready["grpc"], ready["cuda"]) == (1, False, False)


def test_a_preload_that_fails_is_told_in_the_log(tmp_path):
    with nursery_of(tmp_path, ["no_such_module"]) as talk:
        while talk.nursery.read_events() is not None:
            select.select([talk.nursery], [], [], 1.0)
    assert "No module named 'no_such_module'" in last_words(tmp_path / "nursery.log")


def test_a_child_has_its_own_log_and_environment(talk, tmp_path):
    talk.start(tmp_path, "child", "subprocess:call", args=["sh", "-c", "echo out $MUSTER_TOKEN; echo err >&2; exit 7"])
    assert talk.hear("exited", "child")["code"] == 7
    assert (tmp_path / "child.log").read_text() == "out secret\nerr\n"


def test_a_child_that_raises_leaves_its_traceback_in_its_log(talk, tmp_path):
    talk.start(tmp_path, "child", "no_such_module:function")
    assert talk.hear("exited", "child")["code"] == 1
    assert "No module named 'no_such_module'" in last_words(tmp_path / "child.log")


def test_a_killed_child_is_reported_by_its_signal(talk, tmp_path):
    pid = talk.start(tmp_path, "child", "subprocess:call", args=["sleep", "60"])
    os.kill(pid, signal.SIGKILL)
    assert talk.hear("exited", "child")["code"] == -signal.SIGKILL


def test_signals_reach_the_child_they_are_for(talk, tmp_path):
    for name in ("a", "b"):
        talk.start(tmp_path, name, "subprocess:call", args=["sleep", "60"])
    talk.nursery.signal("b", signal.SIGTERM)
    assert talk.hear("exited", "b")["code"] == -signal.SIGTERM
    assert not any(answer.get("id") == "a" for answer in talk.heard)


@pytest.mark.parametrize("how", ["end", "kill"])
def test_children_end_with_the_nursery(talk, tmp_path, how):
    pid = talk.start(tmp_path, "child", "subprocess:call", args=["sleep", "60"])
    child = psutil.Process(pid)
    getattr(talk.nursery, how)()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running()
