"""The queue of jobs to look at, on a clock of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from muster_operator.queue import FIRST_BACKOFF_S, LONGEST_BACKOFF_S, WorkQueue

A, B = ("lab", "a"), ("lab", "b")


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Bench:
    """A queue on a clock, and an event loop to take from it in."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.clock = Clock()
        self.queue = WorkQueue(self.clock)
        self._runner = runner

    def ready(self) -> list[tuple[str, str]]:
        """Everything that can be taken now."""
        return self._runner.run(self._take_all())

    async def _take_all(self) -> list[tuple[str, str]]:
        taken = []
        while True:
            try:
                async with asyncio.timeout(0.01):
                    taken.append(await self.queue.take())
            except TimeoutError:
                return taken


@pytest.fixture
def bench() -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        yield Bench(runner)


def test_many_additions_are_one_look(bench: Bench) -> None:
    for _ in range(5):
        bench.queue.add(A)
    assert bench.ready() == [A]


def test_what_is_added_while_it_is_looked_at_is_looked_at_again_afterwards(bench: Bench) -> None:
    bench.queue.add(A)
    assert bench.ready() == [A]
    bench.queue.add(A)
    assert bench.ready() == []
    bench.queue.done(A, None)
    assert bench.ready() == [A]


def test_others_do_not_wait_for_one_that_is_being_looked_at(bench: Bench) -> None:
    bench.queue.add(A)
    assert bench.ready() == [A]
    bench.queue.add(A)
    bench.queue.add(B)
    assert bench.ready() == [B]


def test_the_earlier_of_two_times_counts(bench: Bench) -> None:
    bench.queue.add(A, 100)
    bench.queue.add(A, 10)
    bench.queue.add(A, 50)
    bench.clock.time = 9.9
    assert bench.ready() == []
    bench.clock.time = 10
    assert bench.ready() == [A]
    bench.queue.done(A, None)
    bench.clock.time = 1000
    assert bench.ready() == []


def test_done_says_when_to_look_again(bench: Bench) -> None:
    bench.queue.add(A)
    assert bench.ready() == [A]
    bench.queue.done(A, 30)
    assert bench.ready() == []
    bench.clock.time = 30
    assert bench.ready() == [A]


def test_failures_are_tried_again_ever_more_seldom_and_forgotten_by_a_success(bench: Bench) -> None:
    pauses = []
    bench.queue.add(A)
    for _ in range(12):
        assert bench.ready() == [A]
        pauses.append(bench.queue.failed(A))
        assert bench.ready() == []
        bench.clock.time += pauses[-1]
    assert pauses[:3] == [FIRST_BACKOFF_S, 2 * FIRST_BACKOFF_S, 4 * FIRST_BACKOFF_S]
    assert pauses[-1] == LONGEST_BACKOFF_S
    assert bench.ready() == [A]
    bench.queue.done(A, None)
    bench.queue.add(A)
    assert bench.ready() == [A]
    assert bench.queue.failed(A) == FIRST_BACKOFF_S
