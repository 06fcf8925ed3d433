"""How many updates a round waits for, against trades worked out by hand, and within the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fake_world import FakeWorld, config_for
from muster_coordinator.aggregation import AggregationNumber, noise_after
from muster_coordinator.config import LatePolicy, config_of
from muster_coordinator.makings import strategy_of_job
from muster_coordinator.records import AssignmentId, RoundCommit, UsedUpdate
from muster_coordinator.recovery import after_commit
from muster_coordinator.state import Progress
from muster_spec.clients import ClientId
from muster_spec.loading import load
from muster_spec.resolving import resolve

A0 = ClientId("a/0")
NAN = float("nan")


def commit(updates: np.ndarray, weights: list[float], number: int = 1, seconds: float = 1.0) -> RoundCommit:  # type: ignore[type-arg]
    """A round of these updates, a row each."""
    used = tuple(
        UsedUpdate(
            client=ClientId(f"a/{index}"),
            assignment=AssignmentId(f"{number}.0.a/{index}"),
            round=number,
            examples=1,
            weight=weight,
            steps=1,
            metrics={},
            norm=float(np.linalg.norm(row)),
        )
        for index, (row, weight) in enumerate(zip(updates, weights, strict=True))
    )
    mean = np.average(updates, axis=0, weights=weights)
    return RoundCommit(
        round=number,
        attempt=0,
        epoch=1,
        base="",
        model="m",
        used=used,
        failed={},
        failed_attempts=0,
        started_s=0.0,
        seconds=seconds,
        bytes_up=0,
        bytes_down=0,
        norm=float(np.linalg.norm(mean)),
    )


# --- noise ------------------------------------------------------------------------------------------------------------


def test_noise_is_the_scatter_beside_the_mean() -> None:
    """(2, 1), (2, -1): mean (2, 0); the sample's variance is 2 in all, and ‖μ‖² = 4 - 2/2 = 3."""
    assert noise_after(None, commit(np.array([[2.0, 1.0], [2.0, -1.0]]), [1.0, 1.0])) == pytest.approx(2 / 3)
    assert noise_after(2.0, commit(np.array([[2.0, 1.0], [2.0, -1.0]]), [1.0, 1.0])) == pytest.approx((2 + 2 / 3) / 2)


def test_its_parts_are_right_in_the_mean_whatever_the_weights() -> None:
    """Updates drawn around a known mean with a known scatter, weighed unevenly: s comes out as σ²/‖μ‖²."""
    rng, weights = np.random.default_rng(5), [1.0, 2.0, 3.0, 4.0, 10.0]
    mean = np.full(400, 0.5)  # ‖μ‖² = 100
    found = [noise_after(None, commit(mean + rng.normal(0, 1.0, (5, 400)), weights)) for _ in range(200)]
    assert np.mean([one for one in found if one]) == pytest.approx(400 / 100, rel=0.05)


def test_updates_that_agree_have_none_and_those_of_pure_noise_have_much() -> None:
    assert noise_after(None, commit(np.array([[1.0, 1.0]] * 3), [1.0, 2.0, 3.0])) == pytest.approx(0, abs=1e-9)
    assert noise_after(None, commit(np.array([[1.0, 0.0], [-1.0, 1e-3]]), [1.0, 1.0])) == 1e6
    one = commit(np.array([[1.0, 0.0]]), [1.0])
    assert noise_after(None, one) is None
    assert noise_after(3.0, one) == 3.0


# --- the number -------------------------------------------------------------------------------------------------------

TIMES = np.array([1.0, 2.0, 3.0, 10.0])


@pytest.mark.parametrize(
    ("noise", "updates"),
    [
        (0.0, 1),  # one update says it all
        (2.0, 2),  # by time and rounds 3, 4, 5, 15, and at least half of them
        (20.0, 3),  # 21, 22, 23, 60, and at least three quarters
        (1e6, 4),
    ],
)
def test_the_trade_between_a_rounds_length_and_how_many_it_takes(noise: float, updates: int) -> None:
    least = {0.0: 0.1, 2.0: 0.5, 20.0: 0.75, 1e6: 1.0}[noise]
    assert AggregationNumber(least).choose(TIMES, 4, noise).updates == updates


def test_of_all_numbers_it_is_the_best() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        times, noise = np.sort(rng.exponential(5, 12)), float(rng.exponential(8))
        found = AggregationNumber(0.25).choose(rng.permutation(times), 12, noise).updates
        costs = {k: times[k - 1] * (1 + noise / k) for k in range(3, 13)}
        assert costs[found] == min(costs.values())


def test_one_slow_client_is_not_waited_for_unless_updates_scatter() -> None:
    times = np.array([1.0] * 9 + [1.5])
    assert AggregationNumber(0.5).choose(times, 10, 1.0).updates == 9
    assert AggregationNumber(0.5).choose(np.array([1.0] * 9 + [1.05]), 10, 1e4).updates == 10


def test_no_round_is_closed_with_less_than_its_share() -> None:
    assert AggregationNumber(0.5).choose(TIMES, 4, 0.0).updates == 2
    assert AggregationNumber(0.7).choose(TIMES, 4, 0.0).updates == 3
    assert AggregationNumber(0.5).choose(TIMES, 1, 0.0).updates == 1


def test_who_is_not_known_counts_as_usual_and_of_nobody_everybody_is_awaited() -> None:
    assert AggregationNumber(0.5).choose(np.array([1.0, 1.0, NAN, 50.0]), 4, 0.0).updates == 2
    assert AggregationNumber(0.5).choose(np.full(4, NAN), 4, 1.0).updates == 4
    assert AggregationNumber(0.5).choose(TIMES, 4, None).updates == 4


# --- in the engine ----------------------------------------------------------------------------------------------------


def test_a_round_closes_with_as_many_as_were_chosen_and_counts_the_rest_later() -> None:
    """Updates that agree: once that is known, half of the cohort closes a round, and the others are in the next one."""
    config = config_for({"a": 4}, total=3, aggregation=AggregationNumber(0.5), min_updates=2, late=LatePolicy(2, 1.0))
    world = FakeWorld(config)
    world.says, world.norm = {"norm": 1.0}, 1.0
    world.join()
    world.work(A0)
    for name in config.clients:
        world.now += 1.0
        world.work(name)
    assert world.plans[1, 0].close_at == 4
    assert world.plans[2, 0].close_at == 2
    assert world.plans[2, 0].number_reason.startswith("2 of 4 are there after")
    first, second, third, _ = config.clients
    for name in (first, second):
        world.work(name)
    assert len(world.commits[2].used) == 2
    assert len(world.commits[2].owed) == 2
    late = world.commits[2].owed[0]
    for name in (third, first, second):
        world.work(name)
    (found,) = [each for each in world.commits[3].used if each.round == 2]
    assert (found.assignment, found.discount) == (late, 0.5)


def test_what_was_learnt_survives_a_restart() -> None:
    seen = commit(np.array([[2.0, 1.0], [2.0, -1.0]]), [1.0, 1.0])
    assert after_commit(Progress(), seen, config_for({"a": 4})).noise == pytest.approx(2 / 3)


def job(folder: Path, **strategy: Any) -> Any:
    document = {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "FederatedJob",
        "metadata": {"name": "small"},
        "spec": {
            "task": {"entrypoint": "tasks:Task"},
            "pools": [{"name": "p", "inline": {"type": "Kubernetes", "clients": 10}}],
            "strategy": {"type": "FedPA"} | strategy,
        },
    }
    path = folder / "job.yaml"
    path.write_bytes(msgspec.json.encode(document))
    return resolve(load([path]), uid="u")


def test_a_job_says_how_late_updates_count(tmp_path: Path) -> None:
    config = config_of(job(tmp_path), 1)
    assert (config.late, config.minimum, config.aggregation) == (LatePolicy(2, 0.5), 5, AggregationNumber(0.5))
    asked = job(tmp_path, fedPA={"minShare": 0.25, "maxStaleness": 4, "exponent": 2})
    assert config_of(asked, 1).late == LatePolicy(4, 2.0)
    assert config_of(asked, 1).minimum == 3
    assert strategy_of_job(asked).name == "FedPA"
