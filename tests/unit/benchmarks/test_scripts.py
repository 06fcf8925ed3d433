"""Benchmarks run seldom, and what they borrow moves on: each can be loaded, and those with quick parts run them."""

import importlib
from pathlib import Path

import pytest

from selection import POLICIES, planning_ms, stated

SCRIPTS = sorted(path.stem for path in (Path(__file__).parents[3] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_finds_what_it_needs(script):
    assert importlib.import_module(script).__doc__


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_of_selection_can_be_timed(policy):
    took = planning_ms(POLICIES[policy], clients=40, repeats=1)
    assert stated(took)["rounds"] == 1
    assert stated(took)["ci95"] is None


def test_times_are_one_figure():
    assert stated([1.0, 2.0, 6.0]) == {"median": 2.0, "mean": 3.0, "ci95": [-3.572, 9.572], "rounds": 3}
