"""The account of memory: what a job needs for sure, what is left for transfers, and who waits for it."""

from __future__ import annotations

import asyncio

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
from muster_coordinator.gate import Gate, Limit
from muster_coordinator.robust.krum import Krum
from muster_coordinator.strategies import FedAvg
from muster_wire.layout import Kind, Layout, TensorSpec

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
    mean = demand_of(FedAvg(), None, 100, MIB)
    assert mean == Demand(IDLE_BYTES + 100 * CLIENT_BYTES, FedAvg.models_in_memory, MIB)
    krum = demand_of(FedAvg(), Krum(2), 100, MIB)
    assert MIB < krum.fixed_bytes - mean.fixed_bytes < 20 * MIB
    assert demand_of(FedAvg(), Krum(2), 1000, MIB).fixed_bytes > krum.fixed_bytes + 8 * 1000**2


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


def gate(budget_mib: int, warnings: list[str]) -> Gate:
    return Gate(Limit(budget_mib * MIB, DEMAND), lambda: LAYOUT, warnings.append)


def test_uploads_beyond_the_room_wait_and_it_is_said_once() -> None:
    warnings: list[str] = []
    two = gate(72, warnings)  # 72 - 50 - 3 models leaves nine and a little: two transfers
    with two.upload(20 * MIB) as first, two.upload(20 * MIB) as second:
        with two.upload(20 * MIB) as third, two.upload(100) as small:
            assert (first, second, third, small) == (True, True, False, True)
        with two.upload(20 * MIB) as again:
            assert not again
    with two.upload(20 * MIB) as later:
        assert later
    assert len(warnings) == 1
    assert "72Mi leaves no room" in warnings[0]


def test_somebody_alone_is_always_let_through() -> None:
    warnings: list[str] = []
    with gate(1, warnings).upload(100 * MIB) as alone:
        assert alone
    assert not warnings


def test_downloads_wait_for_their_turn() -> None:
    async def scenario() -> list[str]:
        one, order = gate(68, []), list[str]()

        async def download(name: str) -> None:
            async with one.download(20 * MIB):
                order.append(f"{name} begins")
                await asyncio.sleep(0.01)
                order.append(f"{name} ends")

        with one.upload(20 * MIB):
            waiting = [asyncio.create_task(download(name)) for name in ("a", "b")]
            await asyncio.sleep(0.02)
            assert not order
        waiting.append(asyncio.create_task(download("c")))
        await asyncio.gather(*waiting)
        return order

    order = asyncio.run(scenario())
    assert len(order) == 6
    assert all(order[at].endswith("begins") and order[at + 1].endswith("ends") for at in (0, 2, 4))


def test_a_download_that_is_given_up_leaves_no_trace() -> None:
    async def scenario() -> None:
        one = gate(68, [])
        with one.upload(20 * MIB):
            waiting = asyncio.create_task(one.download(20 * MIB).__aenter__())
            await asyncio.sleep(0.01)
            waiting.cancel()
        async with one.download(20 * MIB):
            pass
        with one.upload(20 * MIB) as taken:
            assert taken

    asyncio.run(scenario())


def test_without_a_budget_nobody_waits() -> None:
    free = Gate(None, lambda: LAYOUT, pytest.fail)
    with free.upload(2**40) as one, free.upload(2**40) as two:
        assert one
        assert two
    assert free.problem(LAYOUT) is None
