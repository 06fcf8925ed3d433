"""What workers measure of themselves: checked as hostile, durable with the next commit, used where nothing is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from coordinating import write_job
from fake_world import FakeWorld, config_for
from muster_coordinator.carried import begin_with, to_hand_on
from muster_coordinator.events import ClientsProfiled
from muster_coordinator.gathering import known
from muster_coordinator.histories import blank
from muster_coordinator.records import ClientProfile
from muster_coordinator.selection import Request
from muster_coordinator.selectors.adaptive import Adaptive
from muster_coordinator.surveying import FEW_BYTES, LEAST_BYTES, MOST_BYTES, needs_profiles, profile_of, survey_bytes
from muster_spec.clients import ClientId
from muster_spec.types import ResolvedJob
from muster_wire.v1 import federation_pb2 as pb

A0, A1, A2 = (ClientId(f"a/{index}") for index in range(3))
QUICK = ClientProfile(flops=8e10, memory_bytes=2**33, latency_s=0.01, up_bytes_per_s=1e7, down_bytes_per_s=4e7)
SLOW = ClientProfile(flops=1e10, memory_bytes=2**31, latency_s=0.1, up_bytes_per_s=1e5, down_bytes_per_s=1e6)


def profiled(world: FakeWorld, client: ClientId, profile: ClientProfile, worker: str = "") -> None:
    world.post(ClientsProfiled(worker or world.clients[client].worker, (client,), profile))


def test_a_profile_goes_into_the_next_commit_and_lasts() -> None:
    world = FakeWorld(config_for())
    world.join()
    profiled(world, A1, SLOW)
    profiled(world, A1, QUICK)
    assert known(world.state).row(1)["flops"] == 8e10  # counts at once
    world.work(A0)
    assert world.commits[0].profiled == {A1: QUICK}
    assert not world.state.profiled
    world.start()
    assert known(world.state).row(1)["flops"] == 8e10
    assert math.isnan(known(world.state).row(0)["flops"])
    world.run()
    assert [commit.profiled for commit in world.commits[1:]] == [{}, {}, {}]
    assert known(world.state).row(1)["latency_s"] == 0.01


def test_what_was_measured_since_is_not_lost_while_a_commit_is_stored() -> None:
    world = FakeWorld(config_for())
    world.join()
    profiled(world, A1, SLOW)
    world.slow_disk = True
    world.work(A0)
    assert world.commits[0].profiled == {A1: SLOW}
    profiled(world, A1, QUICK)
    world.slow_disk = False
    world.hear_of_stores()
    assert world.state.profiled == {A1: QUICK}
    assert known(world.state).row(1)["flops"] == 8e10


def test_a_worker_speaks_for_its_own_clients_only() -> None:
    world = FakeWorld(config_for())
    world.join()
    profiled(world, A1, QUICK, worker=world.clients[A0].worker)
    assert not world.state.profiled
    assert not [told for told in world.told if told.kind == "profiled"]
    profiled(world, A1, QUICK)
    (told,) = [told for told in world.told if told.kind == "profiled"]
    assert told.details["gflops"] == 80.0
    assert told.details["upMbit"] == 80.0


@pytest.mark.parametrize(
    "change",
    [
        {"flops": math.nan},
        {"flops": 0.0},
        {"flops": 1e30},
        {"memory_bytes": 0},
        {"memory_bytes": 2**60},
        {"latency_s": -1.0},
        {"latency_s": math.inf},
        {"up_bytes_per_s": 0.0},
        {"down_bytes_per_s": -5.0},
    ],
)
def test_what_no_machine_can_be_is_not_believed(change: dict[str, float]) -> None:
    whole = {"flops": 1e9, "memory_bytes": 2**30, "latency_s": 0.01, "up_bytes_per_s": 1e6, "down_bytes_per_s": 1e6}
    assert profile_of(pb.Profile(**whole)) is not None
    assert profile_of(pb.Profile(**whole | change)) is None


@pytest.mark.parametrize(
    ("model", "survey"), [(0, FEW_BYTES), (10_000, LEAST_BYTES), (64_000_000, 1_000_000), (2**40, MOST_BYTES)]
)
def test_a_survey_is_small_beside_the_model(model: int, survey: int) -> None:
    assert survey_bytes(model) == survey


@pytest.mark.parametrize(
    ("spec", "needed"),
    [
        ({}, False),
        ({"compression": {"preset": "max"}}, False),
        ({"compression": {"preset": "auto"}}, True),
        ({"compression": {"up": {"codecs": [{"type": "AdaptiveTopK"}]}}}, True),
        ({"selection": {"type": "Adaptive"}, "rounds": {"total": 2, "cohort": 2}}, True),
        ({"selection": {"type": "Oort"}, "rounds": {"total": 2, "cohort": 2}}, True),
        ({"selection": {"type": "Cost"}, "rounds": {"total": 2, "cohort": 2}}, True),
        ({"rounds": {"total": 2, "deadlineControl": {"type": "Adaptive"}}}, True),
        ({"selection": {"type": "Random", "memory": {"path": "known"}}}, True),
        ({"rounds": {"total": 2, "stragglers": {"type": "Partial"}}}, True),
        ({"local": {"sampling": {"type": "FedBalancer"}}}, True),
    ],
)
def test_profiles_are_wanted_where_something_goes_by_them(tmp_path: Path, spec: dict[str, Any], needed: bool) -> None:
    job = msgspec.json.decode(write_job(tmp_path, **spec).read_bytes(), type=ResolvedJob)
    assert needs_profiles(job) is needed


def test_the_next_job_on_the_pool_knows_it() -> None:
    ordinals = {A0: 0, A1: 1, A2: 2}
    table = blank(3).copy()
    for name in ("flops", "memory_bytes", "latency_s", "up_bytes_per_s", "down_bytes_per_s"):
        table[name][1] = getattr(QUICK, name)
    handed = to_hand_on([A0, A1, A2], table)
    assert handed.keys() == {A1}
    assert handed[A1].profile == QUICK
    again = begin_with(handed, ordinals)
    assert again.row(1)["up_bytes_per_s"] == 1e7
    assert math.isnan(again.row(2)["flops"])


def choose(rows: dict[str, list[float]]) -> list[ClientId]:
    """Whom Adaptive asks of three, by capacity and bandwidth alone."""
    table = blank(3).copy()
    for name, values in rows.items():
        table[name] = values
    ordinals = {A0: 0, A1: 1, A2: 2}
    histories = replace(begin_with({}, ordinals), table=table)
    request = Request(1, 1, 0, 1, (A0, A1, A2), histories, ordinals)
    return [choice.client for choice in Adaptive(1, 1, 0, 0, 0, 0)(request)]


def test_adaptive_goes_by_profiles_where_nothing_else_is_known() -> None:
    assert choose({"flops": [1e9, 8e9, 2e9]}) == [A1]
    assert choose({"up_bytes_per_s": [1e5, 1e6, 9e6]}) == [A2]
    assert choose({"up_bytes_per_s": [1e6] * 3, "down_bytes_per_s": [1e5, 9e6, 1e6]}) == [A1]
    assert choose({"up_bytes_per_s": [1e6] * 3, "latency_s": [0.01, 0.5, 0.5]}) == [A0]


def test_who_has_trained_is_judged_by_that_whatever_it_says_of_itself() -> None:
    table = blank(3).copy()
    table["flops"], table["train_s"] = [9e9, 1e9, 2e9], [50.0, 1.0, np.nan]
    capacity = Adaptive(1, 1, 0, 0, 0, 0).terms(table, np.zeros(3))["capacity"]
    assert capacity[0] < capacity[2] < capacity[1]
