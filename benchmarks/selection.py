"""How long each policy of selection takes with ten thousand known clients, and what its choices are like.

Time is that of planning one round as the engine does it: who is eligible, who is left out, the choice with its reasons,
the deadline, the plan. It is processor time, so that neighbours on the machine don't count. What choices are like is
shown on four tiers of clients, 15 each, that take 10, 20, 40 and 80 s: the mean length of a round that waits for
everybody, and how often each tier was asked. These are no trainings: `muster simulate` has them.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evaluations.figures import ci95
from muster_coordinator.deadlines import AdaptiveDeadline
from muster_coordinator.exclusion import Exclusion
from muster_coordinator.gathering import Ready, eligible_clients
from muster_coordinator.histories import Histories, blank
from muster_coordinator.planning import build_plan
from muster_coordinator.selection import SELECTORS, Request, Selector
from muster_coordinator.selectors.adaptive import Adaptive
from muster_coordinator.selectors.contribution import ContributionHistory
from muster_coordinator.selectors.cost import Cost, Rate
from muster_coordinator.selectors.label import Label
from muster_coordinator.selectors.oort import Oort
from muster_coordinator.selectors.power_of_choice import PowerOfChoice
from muster_coordinator.state import Gathering, JobState, Progress, Roster
from muster_spec.clients import client_id

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fake_world import config_for

CLIENTS, COHORT, REPEATS, LIMIT_MS = 10_000, 100, 15, 20.0
TIERS_S, TIER, ASKED, ROUNDS = (10.0, 20.0, 40.0, 80.0), 15, 20, 200

POLICIES: dict[str, Selector] = {
    "Random": SELECTORS["Random"],
    "Adaptive": Adaptive(1, 1, 1, 1, 1, 1),
    "Oort": Oort(0.9, 0.98, 0.2, 20, 2),
    "PowerOfChoice": PowerOfChoice(None),
    "Label": Label("site=north"),
    "Cost": Cost(1, 1, 1, {"a": Rate(2.0, 300.0, 0.1)}),
    "ContributionHistory": ContributionHistory(0.1),
}


def main() -> int:
    """Both tables; 1 when a limit is broken."""
    times = {name: stated(planning_ms(selector)) for name, selector in POLICIES.items()}
    shapes = {name: rounds_of(selector) for name, selector in POLICIES.items()}
    print(f"{'policy':20} {'ms a round':>10}   {'mean round':>10}   asked by tier, of {ROUNDS} rounds")
    for name, took in times.items():
        mean_s, by_tier = shapes[name]
        print(f"{name:20} {took['median']:10.2f}   {mean_s:8.1f} s   {'  '.join(f'{count:5.1f}' for count in by_tier)}")
    holds = all(took["median"] <= LIMIT_MS for took in times.values())
    result = {
        "benchmark": "selection",
        "clients": CLIENTS,
        "cohort": COHORT,
        "plan_ms": times,
        "bound": {"at most": LIMIT_MS},
        "decided_on": "median",
        "holds": holds,
        "mean_round_s": {name: shape[0] for name, shape in shapes.items()},
    }
    print(json.dumps(result))
    return int(not holds)


def planning_ms(selector: Selector, clients: int = CLIENTS, repeats: int = REPEATS) -> list[float]:
    """Of a few rounds, each with its own draw."""
    state, took = state_with(selector, clients), []
    for number in range(1, repeats + 1):
        gathering = Gathering(number, 0, 0.0, patient=False)
        began = time.process_time()
        build_plan(state, gathering, Ready(eligible_clients(state, 0.0)))
        took.append(1000 * (time.process_time() - began))
    return took


def stated(took: Sequence[float]) -> dict[str, Any]:
    """A policy's times as one figure."""
    return {
        "median": round(statistics.median(took), 3),
        "mean": round(statistics.fmean(took), 3),
        "ci95": ci95(took),
        "rounds": len(took),
    }


def state_with(selector: Selector, clients: int) -> JobState:
    """So many clients that took part before, some of them left out."""
    config = config_for(
        {"a": clients},
        seed=1,
        total=100,
        cohort=min(COHORT, clients),
        deadline_s=600.0,
        evaluation_timeout_s=60.0,
        selector=selector,
        exclusion=Exclusion(2, 32) if isinstance(selector, Adaptive) else None,
        deadline_control=AdaptiveDeadline(10.0, 1, is_elastic=False),
        inclusion_limit=3.0,
    )
    roster = Roster(dict.fromkeys(config.clients, "worker"), 0.0, 0.0)
    return JobState(config, Gathering(1, 0, 0.0, patient=False), Progress(histories=past(clients)), roster)


def past(count: int) -> Histories:
    """Half of the clients have taken part, a tenth of those has just failed."""
    rng, table = np.random.default_rng(1), blank(count).copy()
    known = rng.random(count) < 0.5
    for name in ("asked", "used", "last_asked", "last_used", "examples"):
        table[name][known] = rng.integers(1, 100, known.sum())
    for name in ("elapsed_s", "train_s", "bytes_per_s", "loss", "loss_rms", "moved", "moved_weight"):
        table[name][known] = rng.uniform(0.1, 100, known.sum())
    failed = known & (rng.random(count) < 0.1)
    table["strikes"][failed], table["last_strike"][failed] = 1, 1
    return Histories(table)


def rounds_of(selector: Selector) -> tuple[float, list[float]]:
    """The mean length of a round in seconds, and how often a client of each tier was asked."""
    seconds = np.repeat(TIERS_S, TIER)
    clients = tuple(client_id("a", index) for index in range(len(seconds)))
    ordinals = {client: ordinal for ordinal, client in enumerate(clients)}
    table, lengths = blank(len(seconds)).copy(), []
    table["examples"], table["loss_rms"], table["loss"] = 100, 1.0, 1.0
    for number in range(1, ROUNDS + 1):
        choices = selector(Request(1, number, 0, ASKED, clients, Histories(table.copy()), ordinals))
        places = [ordinals[choice.client] for choice in choices]
        for name in ("asked", "used"):
            table[name][places] += 1
        for name in ("last_asked", "last_used"):
            table[name][places] = number
        table["elapsed_s"][places] = table["train_s"][places] = seconds[places]
        lengths.append(seconds[places].max())
    return round(float(np.mean(lengths)), 2), np.round(
        table["asked"].reshape(len(TIERS_S), TIER).mean(axis=1), 1
    ).tolist()


if __name__ == "__main__":
    sys.exit(main())
