"""Versions that nobody waits for, in simulated time: what they are for shows where machines differ."""

from __future__ import annotations

import pytest

from simulating import job_of, machines, run

TIERS = (10, 10, 8, 8, 2, 2, 1, 0.2)  # the last one needs fifty times as long as the first
POOLS = [{"name": "p", "inline": {"type": "Kubernetes", "clients": len(TIERS), "trusted": True}}]
LOCAL = {"epochs": 1, "batchSize": 16, "learningRate": 0.05}
TARGET = 0.8


def seconds_to_target(folder, **rounds):
    wanted = {"deadlineSeconds": 10_000, "total": 400, "target": {"value": TARGET}}
    job = job_of(folder, pools=POOLS, rounds=wanted | rounds, local=LOCAL, strategy={"type": "FedAvg"})
    ran = run(job, machines(*TIERS))
    reached = [line for line in ran.of("evaluated") if line["federated"]["accuracy"] >= TARGET]
    assert reached, rounds
    return reached[0]["simulatedSeconds"], ran


def test_a_buffer_reaches_the_target_sooner_than_waiting_for_everybody(tmp_path):
    waiting, _ = seconds_to_target(tmp_path)
    buffered, ran = seconds_to_target(tmp_path, mode="Asynchronous", asynchronous={"bufferSize": 4})
    assert buffered < 0.5 * waiting
    assert {line["used"] for line in ran.rounds} == {4}


def test_groups_reach_the_target_sooner_and_everybody_is_in_them(tmp_path):
    waiting, _ = seconds_to_target(tmp_path)
    groups = {"minSteps": 2, "maxSteps": 60}
    grouped, ran = seconds_to_target(tmp_path, mode="SemiSynchronous", semiSynchronous=groups)
    assert grouped < 0.5 * waiting
    assert {client for line in ran.rounds for client in line["clients"]} == {
        f"p/{index}" for index in range(len(TIERS))
    }


def test_clients_of_a_group_arrive_together(tmp_path):
    """Machines that keep their pace: where more than one is in a version, all of a group's are."""
    rounds = {"total": 40, "mode": "SemiSynchronous", "semiSynchronous": {"minSteps": 5, "maxSteps": 100}}
    ran = run(job_of(tmp_path, rounds={"deadlineSeconds": 10_000} | rounds, local=LOCAL), machines(4, 2, 2, 1))
    grown = [line for line in ran.rounds if line["reason"].startswith("a group is in with")]
    assert len(grown) > 10
    assert sum(line["used"] for line in grown[5:]) / len(grown[5:]) == pytest.approx(4, abs=0.5)
