"""The benchmark of fastest-K's bias: its arms are what they are said to be, and its figures those of known lines."""

import pytest

from bias import ARMS, CORRECTED, SERIES, SLOW_CLASSES, SLOW_CLIENTS, SLOW_METRICS, SLOW_TIER, figures
from evaluations.series import closing, job_of
from muster_cli.simulation.fleet import build_fleet
from muster_cli.simulation.profile import read_profile
from muster_spec.clients import client_id


def row(arm, seed, both, everything, share):
    """With as much more on one of the two classes as less on the other."""
    return {
        "benchmark": "bias",
        "arm": arm,
        "seed": seed,
        "rounds": 2,
        "outcome": "Complete",
        "seconds": 20.0,
        "roundSeconds": [10.0, 10.0],
        "bytesUp": 1_000_000,
        "failedAttempts": 0,
        "clients": 60,
        "participation": [1] * 60,
        "tiers": {SLOW_TIER: share},
        "measured": [[2, 20.0, everything]],
        "metrics": {name: [[2, 20.0, both + off]] for name, off in zip(SLOW_METRICS, (-0.05, 0.05), strict=True)},
    }


def test_the_classes_are_held_by_the_profiles_slowest_tier():
    fleet = build_fleet(read_profile(ARMS[0].profile), [client_id("site", index) for index in range(60)], 3)
    assert [place for place, nature in enumerate(fleet) if nature.tier == SLOW_TIER] == list(SLOW_CLIENTS)
    for arm in ARMS:
        job = job_of(arm, 0, 2)
        reserved = job.spec.task.config["partition"]["reserved"]
        assert (reserved["classes"], reserved["clients"]) == (list(SLOW_CLASSES), list(SLOW_CLIENTS))
    assert [job_of(arm, 0, 2).spec.rounds.min_updates for arm in ARMS] == [None, 14, 14]
    assert job_of(CORRECTED, 0, 2).spec.rounds.inclusion_correction.max_factor == 3


def test_what_is_lost_and_won_back():
    known = {"all": (0.3, 0.4, 0.30), "fastest 14": (0.1, 0.35, 0.1), "fastest 14, corrected": (0.25, 0.38, 0.1)}
    found = figures([row(arm, seed, *values) for seed in range(2) for arm, values in known.items()])
    assert found["slow_classes"]["fastest 14"] == {"accuracy": 10.0, "share_of_updates": 0.1}
    assert found["slow_classes_points_lost"]["fastest 14"]["mean"] == pytest.approx(20)
    assert found["slow_classes_points_won_back"]["mean"] == pytest.approx(15)
    assert found["accuracy_points_lost"]["fastest 14, corrected"]["mean"] == pytest.approx(2)
    assert figures([])["slow_classes"]["all"] is None


def test_claims_are_about_the_slow_clients_classes_and_hold_with_the_whole_interval():
    def verdicts(lost, won):
        runs = (("all", [0.3] * 3), ("fastest 14", [0.3 - each for each in lost]))
        runs += (("fastest 14, corrected", [0.3 - one + other for one, other in zip(lost, won, strict=True)]),)
        rows = [row(arm, seed, both, 0.3, 0.1) for arm, values in runs for seed, both in enumerate(values)]
        return [claim["holds"] for claim in closing(SERIES, rows)["claims"]]

    assert verdicts([0.20, 0.21, 0.22], [0.10, 0.11, 0.12]) == [True, True]
    assert verdicts([0.20, 0.21, 0.22], [0.0, 0.1, 0.2]) == [True, False]
    assert verdicts([0.0, 0.1, 0.2], [-0.1, -0.11, -0.12]) == [False, False]
