"""What a worker measures of itself, and when: with a line and a clock that are made up."""

from __future__ import annotations

import pytest
import torch

from muster.errors import ConnectionBrokenError
from muster.survey import AGAIN_S, Profile, Survey, flops_of, free_bytes

CPU = torch.device("cpu")


class Clock:
    """Two milliseconds a reading, so that counting products ends."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        self.now += 2e-3
        return self.now


class Line:
    """A line of a certain latency and rates; `frame_bytes` is what one message may hold."""

    frame_bytes = 2**24

    def __init__(self, clock, latency_s=0.02, up=1e6, down=4e6):
        self.clock, self.latency_s, self.up, self.down = clock, latency_s, up, down
        self.told: list[Profile] = []
        self.calls = 0
        self.allowed = 2**30
        self.most_calls = 2**30
        self.up_bytes = self.down_bytes = 0
        self.knows = True
        self.is_broken = False

    def measure(self, payload=b"", wanted=0, profile=None):
        if self.is_broken:
            raise ConnectionBrokenError("gone")
        if not self.knows or self.calls >= self.most_calls:
            return None
        self.calls += 1
        self.up_bytes += len(payload)
        self.down_bytes += wanted
        self.clock.now += self.latency_s + len(payload) / self.up + wanted / self.down
        if profile:
            self.told.append(profile)
        return self.allowed


@pytest.fixture
def clock():
    return Clock()


def test_what_is_measured_is_what_the_line_is(clock):
    line = Line(clock)
    survey = Survey(line, lambda: CPU, clock)
    began = clock.now
    survey.run(1)
    (profile,) = line.told
    assert profile.latency_s == pytest.approx(0.02, rel=0.2)
    assert profile.up_bytes_per_s == pytest.approx(1e6, rel=0.2)
    assert profile.down_bytes_per_s == pytest.approx(4e6, rel=0.2)
    assert profile.flops > 0
    assert profile.memory_bytes > 2**20
    assert clock.now - began < 2.0


def test_a_slow_line_is_not_filled_for_long(clock):
    line = Line(clock, latency_s=0.3, up=3e4, down=1e5)
    began = clock.now
    Survey(line, lambda: CPU, clock).run(1)
    assert line.told[0].up_bytes_per_s == pytest.approx(3e4, rel=0.2)
    assert clock.now - began < 5.0


def test_each_session_is_told_and_measured_is_now_and_then(clock):
    line = Line(clock)
    survey = Survey(line, lambda: CPU, clock)
    assert survey.is_due(1)
    survey.run(1)
    assert not survey.is_due(1)
    calls = line.calls
    assert survey.is_due(2)  # a coordinator that was started again
    survey.run(2)
    assert (line.calls, len(line.told)) == (calls + 1, 2)
    clock.now += AGAIN_S
    assert survey.is_due(2)
    survey.run(2)
    assert line.calls > calls + 5


def test_a_coordinator_that_knows_no_measuring_is_left_alone(clock):
    line = Line(clock)
    line.knows = False
    survey = Survey(line, lambda: CPU, clock)
    survey.run(1)
    assert not line.told
    assert not survey.is_due(1)


@pytest.mark.parametrize("allowed", [1000, 2**15, 2**16, 200_000, 2**19])
def test_no_more_bytes_move_than_the_coordinator_says(clock, allowed):
    line = Line(clock, up=1e8, down=1e8)
    line.allowed = allowed
    Survey(line, lambda: CPU, clock).run(1)
    assert min(allowed, 2**15) <= line.up_bytes <= allowed
    assert min(allowed, 2**15) <= line.down_bytes <= allowed
    assert len(line.told) == 1


def test_what_the_coordinator_would_not_carry_says_nothing_of_the_line(clock):
    for most in (4, 5):  # not even one way; not the other
        line = Line(clock)
        line.most_calls = most
        Survey(line, lambda: CPU, clock).run(1)
        assert not line.told


def test_the_first_survey_is_before_everything_else(clock):
    survey = Survey(Line(clock), lambda: CPU, clock)
    assert survey.is_first
    survey.run(1)
    assert not survey.is_first


def test_a_line_that_breaks_costs_nothing(clock):
    line = Line(clock)
    line.is_broken = True
    survey = Survey(line, lambda: CPU, clock)
    survey.run(1)
    assert not survey.is_due(1)
    assert survey.is_due(2)


def test_no_message_is_larger_than_a_frame(clock):
    line = Line(clock, up=1e12, down=1e12)
    line.frame_bytes = 1000
    sizes = []
    measure = line.measure
    line.measure = lambda payload=b"", wanted=0, profile=None: (
        sizes.append(max(len(payload), wanted)) or measure(payload, wanted, profile)
    )
    Survey(line, lambda: CPU, clock).run(1)
    assert max(sizes) == 1000


def test_operations_are_counted():
    ticks = iter([0.0, 0.05, 0.1, 0.2, 0.2])
    assert flops_of(CPU, lambda: next(ticks), budget_s=0.1) == pytest.approx(2 * 256**3 * 2 / 0.2)


def test_free_memory_is_what_is_available(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 100 kB\nMemFree: 10 kB\nMemAvailable: 40 kB\n")
    assert free_bytes(CPU, meminfo) == 40 * 1024
    assert free_bytes(CPU, tmp_path / "none") > 2**20
