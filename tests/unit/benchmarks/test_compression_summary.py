"""The figures of the compression benchmark, from raw lines whose answer is known."""

from __future__ import annotations

import pytest

from compressions.summary import interval, summarise


def row(preset: str, seed: int, levels: list[float], wire: int, dataset: str = "digits") -> dict[str, object]:
    accuracies = [[number, value] for number, value in enumerate(levels)]
    sizes = {"wireUp": wire // 2, "wireDown": wire // 2, "payloadUp": wire // 4, "payloadDown": wire // 2}
    return {"dataset": dataset, "preset": preset, "seed": seed, "accuracies": accuracies, **sizes}


def test_presets_are_compared_seed_by_seed_over_the_last_ten_evaluations() -> None:
    rows = [
        row("none", 0, [0.0, *[0.90] * 10], 1000),
        row("none", 1, [0.0, *[0.50] * 10], 1000),
        row("max", 0, [0.9, *[0.89] * 10], 100),
        row("max", 1, [0.9, *[0.47] * 10], 60),
        row("max", 2, [0.9, *[0.10] * 10], 900),  # of no pair: says nothing
    ]
    figures = summarise(rows, {"digits": 0.9})
    of = figures["datasets"]["digits"]["max"]
    assert figures["max"] == {key: of[key] for key in ("saved", "points_lost", "points_lost_ci95")}
    assert (of["saved"], of["points_lost"], of["pairs"], of["runs"]) == (0.92, 2.0, 2, 3)
    assert of["points_lost_ci95"] == [pytest.approx(2 - 12.706, abs=1e-3), pytest.approx(2 + 12.706, abs=1e-3)]
    assert figures["datasets"]["digits"]["none"]["rounds_to_target"] is None  # one of two never got there
    assert of["rounds_to_target"] == 0
    assert of["overhead"] == 0.25


def test_a_preset_is_as_good_as_on_its_worse_data_set() -> None:
    rows = [
        row(preset, 0, [level] * 10, wire, dataset)
        for dataset, preset, level, wire in [
            ("digits", "none", 0.9, 1000),
            ("digits", "light", 0.9, 500),
            ("cifar10", "none", 0.5, 1000),
            ("cifar10", "light", 0.49, 400),
        ]
    ]
    figures = summarise(rows, {"digits": 0.9, "cifar10": 0.4})["light"]
    assert (figures["saved"], figures["points_lost"]) == (0.5, 1.0)


def test_of_one_run_nothing_is_known() -> None:
    assert interval([1.0]) == (float("-inf"), float("inf"))
