"""Policies of selection and deadlines in simulated time: the driver and the loop are those of production.

Each of them is held against the same job without it, so that a driver that forgot the policy would fail here.
"""

from __future__ import annotations

import pytest

from simulating import job_of, machines, run

EIGHT = [{"name": "p", "inline": {"type": "Kubernetes", "clients": 8, "trusted": True}}]
ROUNDS = {"total": 40, "deadlineSeconds": 10_000, "cohort": 3}
MIXED = (8, 8, 8, 8, 8, 1, 1, 1)


def mean(values):
    return sum(values) / len(values)


def test_adaptive_selection_has_shorter_rounds_and_everybody_takes_part(tmp_path):
    adaptive, by_chance = (
        run(job_of(tmp_path, pools=EIGHT, rounds=ROUNDS, selection={"type": kind}), machines(*MIXED))
        for kind in ("Adaptive", "Random")
    )
    assert mean(adaptive.seconds) < 0.8 * mean(by_chance.seconds)
    assert min(adaptive.summary["participation"]["rounds"].values()) >= 4


def test_the_cheapest_pool_is_asked(tmp_path):
    pools = [
        {"name": name, "inline": {"type": "Kubernetes", "clients": 4, "trusted": True, "cost": {"perHour": price}}}
        for name, price in (("dear", 9), ("cheap", 1))
    ]
    rounds = ROUNDS | {"total": 6}
    ran = run(job_of(tmp_path, pools=pools, rounds=rounds, selection={"type": "Cost"}), machines(*[1] * 8))
    assert {client for line in ran.rounds for client in line["clients"]} <= {f"cheap/{index}" for index in range(4)}


def test_only_clients_with_the_labels_are_asked(tmp_path):
    pools = [
        {"name": name, "inline": {"type": "Kubernetes", "clients": 4, "trusted": True, "labels": {"site": name}}}
        for name in ("north", "south")
    ]
    selection = {"type": "Label", "label": {"matchLabels": {"site": "south"}}}
    rounds = ROUNDS | {"total": 8}
    ran = run(job_of(tmp_path, pools=pools, rounds=rounds, selection=selection), machines(*[1] * 8))
    assert {client for line in ran.rounds for client in line["clients"]} == {f"south/{index}" for index in range(4)}


def test_a_budget_of_time_takes_more_steps_where_rounds_are_dear(tmp_path):
    """A step takes a second; an update of 4,000 bytes none, or sixteen. The budget ends the job."""
    local = {"batchSize": 1, "learningRate": 0.05}
    budget = {"type": "ResourceBudget", "resourceBudget": {"seconds": 120, "phi": 0.5}}
    steps = {}
    for mbit, upload_s in ((1e9, 0.0), (0.002, 16.0)):
        job = job_of(tmp_path, rounds={"total": 500, "deadlineSeconds": 1000}, local=local | {"stepControl": budget})
        ran = run(job, machines(1, 1, 1, 1, up_mbit=mbit))
        assert ran.summary["reason"] == "BudgetSpent"
        assert 90 < sum(ran.seconds) <= 120
        steps[upload_s] = [seconds - upload_s for seconds in ran.seconds]
        assert steps[upload_s][0] == pytest.approx(1, abs=0.5)
    assert max(steps[0.0]) < max(steps[16.0])


def test_progress_grows_the_steps_as_the_loss_falls(tmp_path):
    control = {"type": "Progress", "progress": {"initialSteps": 2, "maxSteps": 5}}
    job = job_of(tmp_path, local={"batchSize": 1, "learningRate": 0.2, "stepControl": control})
    ran = run(job, machines(1, 1, 1, 1))
    steps = [round(seconds) for seconds in ran.seconds]  # each takes a second
    assert steps[0] == 2
    assert steps == sorted(steps)
    assert steps[-1] > 2


def test_a_deadline_that_adapts_stops_waiting_for_the_slowest(tmp_path):
    speeds = (4, 4, 4, 0.05)
    adaptive, fixed = (
        run(
            job_of(tmp_path, rounds={"total": 8, "deadlineSeconds": 20_000, "deadlineControl": control}),
            machines(*speeds),
        )
        for control in ({"type": "Adaptive", "adaptive": {"minSeconds": 1}}, {"type": "Fixed"})
    )
    assert adaptive.seconds[0] == pytest.approx(fixed.seconds[0])  # nobody is known yet
    assert max(adaptive.seconds[1:]) < 0.1 * min(fixed.seconds)
