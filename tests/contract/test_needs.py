"""What strategies and robust rules say they need, against what `muster validate` refuses: each with each."""

from __future__ import annotations

from typing import Any

import pytest

from muster_coordinator.needs import Needs
from muster_coordinator.robust import RULES
from muster_coordinator.strategies import STRATEGIES
from muster_spec import Category, check
from muster_spec.documents import Document
from muster_spec.schemas import API_VERSION

# What a job withholds, by its name: the changes to a spec that runs, and the needs that it then can't serve.
WITHHELD: dict[str, tuple[dict[str, Any], set[str]]] = {
    "secure aggregation": ({"privacy": {"secureAggregation": {}}}, {"needs_plaintext"}),
    "asynchronous": ({"rounds": {"mode": "Asynchronous"}}, {"needs_one_base", "needs_own_rounds"}),
    "semi-synchronous": ({"rounds": {"mode": "SemiSynchronous"}}, {"needs_one_base", "needs_own_rounds"}),
    "late updates": ({"rounds": {"lateUpdates": {"type": "NextRound"}}}, {"needs_one_base", "needs_own_rounds"}),
    "top-k": ({"compression": {"up": {"codecs": [{"type": "TopK"}]}}}, {"needs_all_values"}),
    "adaptive top-k": ({"compression": {"up": {"codecs": [{"type": "AdaptiveTopK"}]}}}, {"needs_all_values"}),
    "federated dropout": ({"compression": {"preset": "none", "federatedDropout": {}}}, {"needs_whole_model"}),
}
MEMBERS: dict[str, dict[str, Any]] = {
    "Krum": {"krum": {"byzantine": 1}},
    "MultiKrum": {"multiKrum": {"byzantine": 1}},
    "Bulyan": {"bulyan": {"byzantine": 1}},
}


def choice(name: str) -> dict[str, Any]:
    """The spec that chooses this strategy or rule, by its defaults."""
    if name in STRATEGIES:
        return {"strategy": {"type": name}}
    return {"robustness": {"aggregation": {"type": name, **MEMBERS.get(name, {})}}}


CHOICES: dict[str, type[Needs]] = {**STRATEGIES, **RULES}


def refusals(spec: dict[str, Any]) -> list[str]:
    """What the schema's rules say of a job; not that this version can't do something yet, whatever goes with it."""
    pools = [{"name": "site", "inline": {"type": "Kubernetes", "clients": 20}}]
    whole = {"task": {"entrypoint": "a:B"}, "pools": pools, **spec}
    document = {"apiVersion": API_VERSION, "kind": "FederatedJob", "metadata": {"name": "one"}, "spec": whole}
    problems = check([Document(document)]).problems
    return [problem.message for problem in problems if problem.category is not Category.UNSUPPORTED]


@pytest.mark.parametrize("name", CHOICES)
def test_each_is_accepted_by_itself(name: str) -> None:
    assert not refusals(choice(name))


@pytest.mark.parametrize("what", WITHHELD)
def test_a_plain_average_needs_none_of_it(what: str) -> None:
    assert not refusals(WITHHELD[what][0])


@pytest.mark.parametrize("what", WITHHELD)
@pytest.mark.parametrize("name", CHOICES)
def test_what_is_needed_and_withheld_is_refused_and_nothing_else(name: str, what: str) -> None:
    changes, needs = WITHHELD[what]
    is_needed = any(getattr(CHOICES[name], need) for need in needs)
    found = refusals({**choice(name), **changes})
    assert bool(found) == is_needed, found


def test_every_need_is_withheld_by_something() -> None:
    needs = {name for name in vars(Needs) if name.startswith("needs_")}
    assert needs == set().union(*(unserved for _, unserved in WITHHELD.values()))


@pytest.mark.parametrize("preset", ["balanced", "max", "auto"])
@pytest.mark.parametrize("name", RULES)
def test_presets_leave_no_value_out_of_an_update(name: str, preset: str) -> None:
    """So they go with robust rules, as the same codecs do by hand."""
    assert not refusals({**choice(name), "compression": {"preset": preset}})
