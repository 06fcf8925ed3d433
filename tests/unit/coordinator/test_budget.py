"""The account of memory: what a job needs for sure, what is left for transfers, and who waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from muster_coordinator.budget import (
    CLIENT_BYTES,
    IDLE_BYTES,
    Demand,
    demand_of,
    model_bytes,
    problem_with_budget,
    room,
)
from muster_coordinator.combining import MEAN, Combining
from muster_coordinator.compression import Down
from muster_coordinator.errors import NoRoomError
from muster_coordinator.gate import PATIENCE_S, STALLED_S, Gate, Limit
from muster_coordinator.matching.assignment import Matching
from muster_coordinator.robust.krum import Krum
from muster_coordinator.strategies import FedAvg
from muster_wire.groups import Group, Member
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.presets import PRESETS

MIB = 2**20
LAYOUT = Layout(
    (
        TensorSpec("weight", (MIB,), "float32", Kind.TRAINABLE),
        TensorSpec("mean", (2,), "float32", Kind.FLOAT_BUFFER),
        TensorSpec("count", (), "int64", Kind.INTEGER_BUFFER),
        TensorSpec("backbone", (3,), "float32", Kind.FROZEN),
    )
)
DEMAND = Demand(fixed_bytes=50 * MIB, models=3, frame_bytes=MIB)
SIZE = 4 * MIB + 4 * 2 + 8 + 4 * 3


def test_what_a_job_needs() -> None:
    assert model_bytes(LAYOUT) == SIZE
    mean = demand_of(FedAvg(), MEAN, 100, MIB)
    assert mean == Demand(IDLE_BYTES + 100 * CLIENT_BYTES, FedAvg.models_in_memory, MIB)
    krum = demand_of(FedAvg(), Combining(Krum(2)), 100, MIB)
    assert MIB < krum.fixed_bytes - mean.fixed_bytes < 20 * MIB
    assert demand_of(FedAvg(), Combining(Krum(2)), 1000, MIB).fixed_bytes > krum.fixed_bytes + 8 * 1000**2


def test_changes_of_a_model_take_more_than_the_model() -> None:
    needed = {name: Down(each.snapshot, each.delta).models_in_memory for name, each in PRESETS.items()}
    assert needed == {"none": 3, "light": 3, "balanced": 4, "max": 4}
    maximal = PRESETS["max"]
    assert demand_of(FedAvg(), MEAN, 1, MIB, Down(maximal.snapshot, maximal.delta)).models == 4
    assert Down(delta=maximal.delta).models_in_memory == 5  # keyframes in float32


def test_a_budget_does_for_a_matched_model_once_it_has_grown() -> None:
    shapes = {"a": (64, 3000), "b": (10, 64)}
    tensors = tuple(TensorSpec(name, shape, "float32", Kind.TRAINABLE) for name, shape in shapes.items())
    layout = Layout(tensors, (Group(64, (Member("a", 0), Member("b", 1))),))
    demand = demand_of(FedAvg(), Combining(matching=Matching(max_growth=1.5)), 2, MIB)
    grown = demand.largest(layout)
    assert demand.models == 5
    assert [spec.shape for spec in grown.tensors] == [(96, 3000), (10, 96)]
    assert demand.for_model(grown) == demand.fixed_bytes + 5 * model_bytes(grown) + 16 * 96**2
    problem = problem_with_budget(demand.for_model(layout) + 4 * MIB, demand, layout)
    assert problem is not None
    assert "can't hold this model of 1Mi, which may grow to 2Mi" in problem
    assert demand.largest(LAYOUT) == LAYOUT  # no chain: refused elsewhere


def test_transfers_hold_frames_and_small_ones_less() -> None:
    assert DEMAND.for_transfer(100 * MIB) == 4 * MIB
    assert DEMAND.for_transfer(1000) == 4000
    assert room(80 * MIB, DEMAND, None) == 30 * MIB
    assert room(80 * MIB, DEMAND, LAYOUT) == 30 * MIB - 3 * SIZE


def test_a_budget_that_never_suffices_is_named_with_one_that_does() -> None:
    problem = problem_with_budget(60 * MIB, DEMAND, LAYOUT)
    assert problem is not None
    assert "60Mi can't hold this model of 5Mi" in problem
    assert "set it to 67Mi or more" in problem
    assert problem_with_budget(67 * MIB, DEMAND, LAYOUT) is None


class Clock:
    """Stands until somebody moves it."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def unix(self) -> float:
        return self.seconds


def gate(budget_mib: int, warnings: list[str], clock: Clock | None = None) -> Gate:
    return Gate(Limit(budget_mib * MIB, DEMAND), lambda: LAYOUT, warnings.append, clock or Clock())


def test_uploads_beyond_the_room_wait_and_it_is_said_once() -> None:
    warnings: list[str] = []

    async def scenario() -> None:
        two = gate(72, warnings)  # 72 - 50 - 3 models leaves nine and a little: two transfers
        async with two.at_once(20 * MIB) as first, two.at_once(20 * MIB) as second:
            async with two.at_once(20 * MIB) as third, two.at_once(100) as small:
                assert first
                assert second
                assert third is None
                assert small
            async with two.at_once(20 * MIB) as again:
                assert again is None
        async with two.at_once(20 * MIB) as later:
            assert later

    asyncio.run(scenario())
    assert len(warnings) == 1
    assert "72Mi leaves no room" in warnings[0]


def test_somebody_alone_is_always_let_through() -> None:
    warnings: list[str] = []

    async def scenario() -> None:
        async with gate(1, warnings).at_once(100 * MIB) as alone:
            assert alone

    asyncio.run(scenario())
    assert not warnings


def test_downloads_wait_for_their_turn() -> None:
    async def scenario() -> list[str]:
        one, order = gate(68, []), list[str]()

        async def download(name: str) -> None:
            async with one.download(20 * MIB):
                order.append(f"{name} begins")
                await asyncio.sleep(0.01)
                order.append(f"{name} ends")

        async with one.at_once(20 * MIB):
            waiting = [asyncio.create_task(download(name)) for name in ("a", "b")]
            await asyncio.sleep(0.02)
            assert not order
        waiting.append(asyncio.create_task(download("c")))
        await asyncio.gather(*waiting)
        return order

    order = asyncio.run(scenario())
    assert len(order) == 6
    assert all(order[at].endswith("begins") and order[at + 1].endswith("ends") for at in (0, 2, 4))


def test_a_download_that_waits_for_long_is_told_so() -> None:
    async def scenario() -> None:
        clock = Clock()
        one = gate(68, [], clock)
        async with one.at_once(20 * MIB) as busy:
            waiting = asyncio.create_task(one.download(20 * MIB).__aenter__())
            for _ in range(3):
                await asyncio.sleep(0.01)
                clock.seconds += PATIENCE_S / 2
                assert busy
                busy.moved()
            with pytest.raises(NoRoomError, match="memoryBudget leaves: ask again"):
                await waiting

    asyncio.run(scenario())


def test_a_download_that_is_given_up_leaves_no_trace() -> None:
    async def scenario() -> None:
        one = gate(68, [])
        async with one.at_once(20 * MIB):
            waiting = asyncio.create_task(one.download(20 * MIB).__aenter__())
            await asyncio.sleep(0.01)
            waiting.cancel()
        async with one.download(20 * MIB):
            pass
        async with one.at_once(20 * MIB) as taken:
            assert taken

    asyncio.run(scenario())


async def stand_still(one: Gate, ready: asyncio.Event, is_wanted: Callable[[], bool] = lambda: True) -> None:
    async with one.at_once(20 * MIB, is_wanted):
        ready.set()
        await asyncio.Event().wait()


def test_who_stands_still_makes_way_once_somebody_waits() -> None:
    async def scenario() -> None:
        clock, ready = Clock(), asyncio.Event()
        one = gate(68, [], clock)
        still = asyncio.create_task(stand_still(one, ready))
        await ready.wait()
        clock.seconds += STALLED_S - 1
        async with one.at_once(20 * MIB) as early:
            assert early is None
        clock.seconds += 1
        await asyncio.sleep(0.01)
        assert not still.done()  # nobody waits at the moment
        async with one.at_once(20 * MIB) as refused:
            assert refused is None
        with pytest.raises(NoRoomError):
            await still
        async with one.at_once(20 * MIB) as next_one:
            assert next_one

    asyncio.run(scenario())


def test_what_nobody_wants_any_more_makes_way_at_once_for_a_download() -> None:
    async def scenario() -> None:
        ready = asyncio.Event()
        one = gate(68, [])
        unwanted = asyncio.create_task(stand_still(one, ready, lambda: False))
        await ready.wait()
        async with one.download(20 * MIB):
            with pytest.raises(NoRoomError):
                await unwanted

    asyncio.run(scenario())


def test_a_timeout_of_its_own_is_not_taken_for_the_gates() -> None:
    async def scenario() -> None:
        async with gate(68, []).at_once(20 * MIB):
            raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        asyncio.run(scenario())


def test_without_a_budget_nobody_waits() -> None:
    free = Gate(None, lambda: LAYOUT, pytest.fail, Clock())

    async def scenario() -> None:
        async with free.at_once(2**40) as one, free.at_once(2**40) as two:
            assert one
            assert two

    asyncio.run(scenario())
    assert free.problem(LAYOUT) is None
