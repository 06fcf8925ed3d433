"""What is made of raw lines of simulations, on lines whose figures are known."""

import pytest

from evaluations.figures import (
    TARGET,
    difference,
    level,
    ratio,
    round_seconds,
    saving,
    seconds_to_target,
    table,
)
from evaluations.series import Arm, job_of, missing
from muster_cli.errors import BadInput


def row(arm, seed, seconds, accuracies=(), rounds=4):
    return {
        "benchmark": "b",
        "arm": arm,
        "seed": seed,
        "rounds": rounds,
        "outcome": "Complete",
        "seconds": sum(seconds),
        "roundSeconds": list(seconds),
        "bytesUp": 1_000_000,
        "failedAttempts": 1,
        "clients": 3,
        "participation": [2, 1, 0],
        "measured": [[number, 10.0 * number, value] for number, value in enumerate(accuracies, start=1)],
    }


def test_what_a_run_comes_to():
    run = row("a", 0, [1, 3], [0.1, 0.2])
    assert level(run) == pytest.approx(15)
    assert round_seconds(run) == 2
    assert level(row("a", 0, [1], [0.0] * 5 + [0.5] * 10)) == pytest.approx(50)


def test_the_target_is_reached_when_three_evaluations_hold_it():
    lucky = [0.1, TARGET + 0.3, 0.0, 0.1, *[TARGET + 0.01] * 3]
    assert seconds_to_target(row("a", 0, [1], lucky)) == 70.0
    assert seconds_to_target(row("a", 0, [1], [0.1] * 9)) is None


def test_arms_are_compared_seed_by_seed():
    rows = [row("slow", 0, [10], [0.2]), row("quick", 0, [5], [0.3]), row("slow", 1, [20], [0.2])]
    rows += [row("quick", 1, [15], [0.2]), row("quick", 2, [1], [0.9])]  # the last has no pair
    assert saving(rows, "quick", "slow", round_seconds)["mean"] == pytest.approx(37.5)
    assert ratio(rows, "quick", "slow", round_seconds)["mean"] == pytest.approx((2 + 4 / 3) / 2, abs=1e-3)
    gained = difference(rows, "quick", "slow", level)
    assert gained["mean"] == pytest.approx(5)
    assert gained["pairs"] == 2
    assert gained["against"] == "slow"
    assert gained["ci95"][0] < 0 < gained["ci95"][1]
    assert difference(rows, "quick", "nobody", level) is None
    assert table(rows)["quick"] | {"accuracy": 0} == {
        "runs": 3,
        "accuracy": 0,
        "round_seconds": 7,
        "seconds_to_target": None,
        "reached_target": 0,
        "mb_up": 1.0,
        "took_part": 2,
        "clients": 3,
        "incomplete": 0,
        "closed_by_deadline": None,
        "failed_attempts": 3,
    }


def test_rounds_that_a_deadline_closed_are_counted_where_every_line_says_so():
    rows = [row("a", 0, [4]) | {"closedByDeadline": 2}, row("a", 1, [4]) | {"closedByDeadline": 0}]
    assert table(rows)["a"]["closed_by_deadline"] == 2
    assert table([*rows, row("a", 2, [4])])["a"]["closed_by_deadline"] is None


def test_a_longer_run_stands_for_its_trial():
    rows = [row("a", 0, [4], rounds=9), row("a", 0, [1], rounds=2)]
    assert table(rows)["a"]["round_seconds"] == 4


def test_a_series_goes_on_where_it_was_stopped():
    arms = [Arm("a"), Arm("b")]
    rows = [row("a", 0, [1]), row("b", 1, [1]), row("a", 1, [1], rounds=5)]
    assert [(arm.name, seed) for arm, seed in missing("b", arms, range(2), 4, rows)] == [("b", 0), ("a", 1)]
    assert len(list(missing("other", arms, range(2), 4, rows))) == 4


def test_an_arm_is_a_job():
    job = job_of(Arm("a", {"spec.rounds.minUpdates": 14}, clients=30), seed=3, rounds=7)
    assert (job.spec.rounds.total, job.spec.rounds.min_updates, job.spec.seed, job.clients_total) == (7, 14, 3, 30)
    with pytest.raises(BadInput):
        job_of(Arm("a", {"spec.rounds.nothing": 1}), 0, 1)
