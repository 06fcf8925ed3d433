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


@pytest.mark.parametrize(("selection", "share"), [({}, 0.95), ({"adaptive": {"fairness": 1}}, 0.8)])
def test_adaptive_selection_has_shorter_rounds_and_everybody_takes_part(tmp_path, selection, share):
    adaptive, by_chance = (
        run(job_of(tmp_path, pools=EIGHT, rounds=ROUNDS, selection=kind), machines(*MIXED))
        for kind in ({"type": "Adaptive"} | selection, {"type": "Random"})
    )
    assert mean(adaptive.seconds) < share * mean(by_chance.seconds)
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


def test_fedpa_waits_for_those_that_pay_and_counts_the_others_later(tmp_path):
    """Two of eight are ten times as slow: FedAvg's rounds are theirs, FedPA's are not, and yet their updates count."""
    ran = {}
    for kind in ("FedAvg", "FedPA"):
        job = job_of(tmp_path, pools=EIGHT, rounds={"total": 20, "deadlineSeconds": 10_000}, strategy={"type": kind})
        ran[kind] = run(job, machines(8, 8, 8, 8, 8, 8, 0.8, 0.8))
    assert ran["FedPA"].seconds[0] == pytest.approx(ran["FedAvg"].seconds[0])  # nobody is known yet
    assert mean(ran["FedPA"].seconds[2:]) < 0.5 * mean(ran["FedAvg"].seconds[2:])
    assert ran["FedPA"].summary["participation"]["least"] > 1
    assert {len(line["clients"]) for line in ran["FedPA"].rounds[2:]} - {8}


def test_fedma_matches_a_layer_a_round_and_measures_what_a_pass_ends_with(tmp_path):
    """Digits have three layers. The model of the second pass knows most of them."""
    job = job_of(
        tmp_path,
        task={"entrypoint": "muster.tasks.digits:Digits", "config": {"width": 4}},
        rounds={"total": 6, "deadlineSeconds": 1000},
        local={"epochs": 3, "batchSize": 16, "learningRate": 0.05, "optimizer": {"type": "SGD", "momentum": 0.9}},
        strategy={"type": "FedMA", "fedMA": {"maxGrowth": 2}},
        evaluation={"every": 1, "central": {"type": "Auto"}, "federated": False},
    )
    ran = run(job, machines(1, 1, 1, 1), surrogate=False)
    assert ran.summary["outcome"] == "Complete"
    measured = {line["round"]: line["central"]["accuracy"] for line in ran.of("evaluated")}
    assert list(measured) == [3, 6]
    assert measured[6] > 0.7
    assert all(line["failed"] == {} for line in ran.rounds)


def test_slow_clients_that_choose_their_examples_are_in_time(tmp_path):
    """The slowest needs 30 s for its six steps, and rounds last 29: it is there where some of its examples are easy."""
    times = {}
    for kind in ("All", "FedBalancer"):
        job = job_of(
            tmp_path,
            task={"entrypoint": "muster.tasks.digits:Digits", "config": {"width": 2}},
            rounds={"total": 6, "deadlineSeconds": 29},
            local={"batchSize": 64, "learningRate": 0.05, "sampling": {"type": kind}},
            evaluation={"every": 6, "central": {"type": "Never"}, "federated": True},
        )
        times[kind] = run(job, machines(1, 1, 1, 0.2), surrogate=False).summary["participation"]["rounds"]
    assert times["All"] == {"p/0": 6, "p/1": 6, "p/2": 6, "p/3": 0}
    assert times["FedBalancer"]["p/3"] > 0


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
