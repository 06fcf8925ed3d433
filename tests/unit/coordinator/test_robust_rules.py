"""Robust rules against the plainest implementation of their papers' words, and what hostile clients can do to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from muster_coordinator.robust import RULES, Rule, least_updates, rule_of
from muster_coordinator.robust.centres import CenteredClipping, GeometricMedian
from muster_coordinator.robust.coordinatewise import Median, TrimmedMean
from muster_coordinator.robust.krum import Bulyan, Krum, MultiKrum
from muster_spec import strategy_types as spec
from muster_spec.schemas import Schema, schema_of
from muster_spec.support import support
from muster_wire.layout import Kind

Updates = np.ndarray[Any, np.dtype[np.float64]]


def apply(rule: Rule, updates: Updates, start: Updates | None = None) -> Updates:
    """What a round makes of these updates, at once instead of block by block; `start` is what the last one came to."""
    rows = updates.astype(np.float32)
    if rule.starts_from_last:
        last = np.zeros(updates.shape[1]) if start is None else start
        rows = np.vstack([rows, last.astype(np.float32)])
    wide = rows.astype(np.float64)
    shares = rule.shares(wide @ wide.T)
    return rule.combine(rows[shares != 0], shares[shares != 0])


# --- the papers' words, in loops --------------------------------------------------------------------------------------


def plain_median(updates: Updates) -> Updates:
    return np.median(updates, axis=0)


def plain_trimmed_mean(updates: Updates, thrown: int) -> Updates:
    return np.sort(updates, axis=0)[thrown : len(updates) - thrown].mean(axis=0)


def plain_scores(updates: list[Updates], hostile: int) -> list[float]:
    scores = []
    for i, one in enumerate(updates):
        others = sorted(float(np.sum((one - other) ** 2)) for j, other in enumerate(updates) if j != i)
        scores.append(sum(others[: max(len(updates) - hostile - 2, 0)]))
    return scores


def plain_multi_krum(updates: Updates, hostile: int, selected: int) -> Updates:
    best = np.argsort(plain_scores(list(updates), hostile), kind="stable")[:selected]
    return updates[best].mean(axis=0)


def plain_bulyan(updates: Updates, hostile: int) -> Updates:
    left, picked = list(updates), []
    while len(picked) < len(updates) - 2 * hostile:
        picked.append(left.pop(int(np.argmin(plain_scores(left, hostile)))))
    chosen = np.array(picked)
    out = np.empty(chosen.shape[1])
    for place in range(chosen.shape[1]):
        values = chosen[:, place]
        near = np.argsort(np.abs(values - np.median(values)), kind="stable")[: len(chosen) - 2 * hostile]
        out[place] = values[near].mean()
    return out


def plain_centered_clipping(start: Updates, updates: Updates, radius: float | None, iterations: int) -> Updates:
    centre = start
    for _ in range(iterations):
        lengths = [float(np.linalg.norm(x - centre)) for x in updates]
        tau = radius or sorted(lengths)[(len(lengths) - 1) // 2] / 2 + sorted(lengths)[len(lengths) // 2] / 2
        centre = centre + np.mean([(x - centre) * min(1, tau / d) for x, d in zip(updates, lengths, strict=True)], 0)
    return centre


def plain_from_nothing(updates: Updates, radius: float | None, iterations: int) -> Updates:
    return plain_centered_clipping(np.zeros(updates.shape[1]), updates, radius, iterations)


seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, count: int, size: int = 9) -> Updates:
    """As float32 has them, with a spread between the values and a few that are far away."""
    rng = np.random.default_rng(seed)
    updates = rng.normal(0, 1, (count, size)) * rng.choice([0.01, 1, 50], (1, size))
    updates[rng.random(count) < 0.2] *= 100
    return updates.astype(np.float32).astype(np.float64)


PLAIN: dict[str, tuple[Callable[[int], Rule], Callable[[Updates, int], Updates], int]] = {
    "median": (lambda f: Median(), lambda x, f: plain_median(x), 2),  # noqa: ARG005
    "trimmed": (lambda f: TrimmedMean(0.2), lambda x, f: plain_trimmed_mean(x, -(-len(x) // 5)), 2),  # noqa: ARG005
    "krum": (Krum, lambda x, f: plain_multi_krum(x, f, 1), 2),
    "multi-krum": (MultiKrum, lambda x, f: plain_multi_krum(x, f, len(x) - f - 2), 2),
    "multi-krum of two": (lambda f: MultiKrum(f, 2), lambda x, f: plain_multi_krum(x, f, 2), 2),
    "bulyan": (Bulyan, plain_bulyan, 4),
    "clipping": (lambda f: CenteredClipping(3.0, 4), lambda x, f: plain_from_nothing(x, 3.0, 4), 2),  # noqa: ARG005
    "relative clipping": (lambda f: CenteredClipping(None, 4), lambda x, f: plain_from_nothing(x, None, 4), 2),  # noqa: ARG005
}


@pytest.mark.parametrize("name", PLAIN)
@settings(deadline=None, max_examples=60)
@given(seed=seeds, hostile=st.integers(0, 3), more=st.integers(0, 4))
def test_each_rule_is_what_its_paper_says(name: str, seed: int, hostile: int, more: int) -> None:
    make, plain, factor = PLAIN[name]
    updates = drawn(seed, factor * hostile + 4 + more)
    assert apply(make(hostile), updates) == pytest.approx(plain(updates, hostile), rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("radius", [3.0, None])
@settings(deadline=None, max_examples=40)
@given(seed=seeds)
def test_clipping_goes_on_from_what_the_last_round_came_to(radius: float | None, seed: int) -> None:
    """Whoever is in the rounds: 9, 5, then 7 clients."""
    rule, start = CenteredClipping(radius, 2), np.zeros(9)
    for number, count in enumerate((9, 5, 7)):
        updates = drawn(seed + number, count)
        found = apply(rule, updates, start)
        assert found == pytest.approx(plain_centered_clipping(start, updates, radius, 2), rel=1e-4, abs=1e-3)
        start = found.astype(np.float32).astype(np.float64)


def test_history_is_what_lets_a_small_radius_arrive() -> None:
    """Three clients agree on 1; a step of 0.25 a round gets there in four rounds, and without a memory never."""
    rule, three, last, forgetful = CenteredClipping(0.25, 1), np.ones((3, 1)), np.zeros(1), np.zeros(1)
    for number in range(1, 7):
        last, forgetful = apply(rule, three, last), apply(rule, three)
        assert last == pytest.approx([min(1, number / 4)])
        assert forgetful == pytest.approx([0.25])


def test_updates_that_are_where_it_starts_stay_there() -> None:
    """A median distance of 0 clips all others away."""
    assert apply(CenteredClipping(None, 3), np.array([[0.0], [0.0], [9.0]])) == [0]
    assert apply(CenteredClipping(None, 3), np.array([[2.0], [2.0], [9.0]]), np.array([2.0])) == [2]


@settings(deadline=None, max_examples=60)
@given(seed=seeds, count=st.integers(3, 9))
def test_the_geometric_median_is_where_the_sum_of_distances_is_least(seed: int, count: int) -> None:
    updates = drawn(seed, count)
    found = apply(GeometricMedian(500, 1e-6), updates)

    def total(point: Updates) -> float:
        return float(np.linalg.norm(updates - point, axis=1).sum())

    for towards in (*np.eye(9), *updates - found):
        for step in (1e-2, -1e-2, 0.5):
            assert total(found) <= total(found + step * towards) + 1e-3 * total(found)


def test_steps_and_smoothing_bound_the_geometric_median() -> None:
    three = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 10.0]])
    first, last = apply(GeometricMedian(1, 1e-6), three), apply(GeometricMedian(200, 1e-6), three)
    assert np.linalg.norm(first - last) > 0.05
    smooth = apply(GeometricMedian(200, 100.0), three)  # every distance counts as 100: the mean
    assert smooth == pytest.approx(three.mean(axis=0))


# --- small numbers, by hand -------------------------------------------------------------------------------------------


def test_rules_by_hand() -> None:
    line = np.array([[0.0], [1.0], [2.0], [3.0], [100.0]])
    assert apply(Median(), line) == [2]
    assert apply(TrimmedMean(0.1), line) == [2]  # one of five at each end: rounded up, for none would bear nobody
    assert apply(TrimmedMean(0.49), line) == [2]  # never all of them
    assert apply(Krum(1), line) == [1]  # its two nearest are at 1 and 1, as those of 2 are: the first of equals
    assert apply(MultiKrum(1), line) == [1.5]  # the two best of five
    assert apply(Bulyan(0), line[:4]) == [1.5]  # nobody is hostile: the mean
    assert apply(CenteredClipping(10, 1), line) == pytest.approx([16 / 5])
    assert apply(Median(), np.array([[1.0], [2.0], [4.0], [8.0]])) == [3]
    assert apply(Bulyan(1), np.array([[1.0], [2.0], [1.0], [2.0], [1.0], [1.0], [50.0]])) == [1]


def test_updates_are_counted_once_whatever_their_examples() -> None:
    assert apply(MultiKrum(0, 1), np.array([[1.0], [1.0], [5.0]])) == [1]


def test_what_rules_declare() -> None:
    assert [Median().least, TrimmedMean(0.3).least, GeometricMedian(1, 1).least, CenteredClipping(1, 1).least] == [
        3
    ] * 4
    assert [rule.name for rule in RULES.values() if rule.starts_from_last] == ["CenteredClipping"]
    assert [Krum(2).least, MultiKrum(2).least, MultiKrum(2, 9).least, Bulyan(2).least] == [7, 7, 13, 11]
    for rule in RULES.values():
        assert rule.models_in_memory <= 6
        assert rule.touches == {Kind.TRAINABLE}


def test_jobs_choose_rules_by_the_schemas_names() -> None:
    assert rule_of(spec.Aggregation(type="Mean")) is None
    assert rule_of(spec.Aggregation(type="Median")) == Median()
    assert rule_of(spec.Aggregation(type="TrimmedMean", trimmed_mean=spec.TrimmedMean(share=0.2))) == TrimmedMean(0.2)
    assert rule_of(spec.Aggregation(type="Krum", krum=spec.Krum(byzantine=2))) == Krum(2)
    multi = spec.MultiKrum(byzantine=2, selected=3)
    assert rule_of(spec.Aggregation(type="MultiKrum", multi_krum=multi)) == MultiKrum(2, 3)
    assert rule_of(spec.Aggregation(type="Bulyan", bulyan=spec.Bulyan(byzantine=1))) == Bulyan(1)
    geometric = spec.GeometricMedian(iterations=4, smoothing=0.5)
    assert rule_of(spec.Aggregation(type="GeometricMedian", geometric_median=geometric)) == GeometricMedian(4, 0.5)
    clipping = spec.CenteredClipping(radius=2, iterations=7)
    assert rule_of(spec.Aggregation(type="CenteredClipping", centered_clipping=clipping)) == CenteredClipping(2, 7)
    relative = spec.CenteredClipping(iterations=7)
    assert rule_of(spec.Aggregation(type="CenteredClipping", centered_clipping=relative)) == CenteredClipping(None, 7)
    assert least_updates(None) == 1
    assert least_updates(spec.Robustness(aggregation=spec.Aggregation(type="Mean"), clip_norm=1.0)) == 1
    assert (
        least_updates(spec.Robustness(aggregation=spec.Aggregation(type="Bulyan", bulyan=spec.Bulyan(byzantine=2))))
        == 11
    )


def test_the_registry_has_every_rule_of_the_schema() -> None:
    robustness = schema_of("FederatedJob")["properties"]["spec"]["properties"]["robustness"]
    names = robustness["properties"]["aggregation"]["properties"]["type"]["enum"]
    refused = [entry for entry in support().unsupported if entry.path == "job.spec.robustness.aggregation.type"]
    assert not refused
    assert {"Mean", *RULES} == set(names)


# --- attacks ----------------------------------------------------------------------------------------------------------

TARGET = np.linspace(-1, 1, 20)
CLIENTS, HOSTILE, ROUNDS = 15, 3, 25


def honest(model: Updates, rng: np.random.Generator) -> Updates:
    """Everybody steps towards the same point, each with noise of its own."""
    return np.array([0.5 * (TARGET - model) + rng.normal(0, 0.05, TARGET.size) for _ in range(CLIENTS - HOSTILE)])


def sign_flipped(good: Updates, rng: np.random.Generator) -> Updates:  # noqa: ARG001
    return np.repeat(-10 * good.mean(0, keepdims=True), HOSTILE, 0)


def huge(good: Updates, rng: np.random.Generator) -> Updates:  # noqa: ARG001 -- as large as checks let pass
    return np.repeat(np.full((1, good.shape[1]), 2.0**39 / np.sqrt(good.shape[1])), HOSTILE, 0)


def noise(good: Updates, rng: np.random.Generator) -> Updates:
    return rng.normal(0, 200, (HOSTILE, good.shape[1]))


def a_little(good: Updates, rng: np.random.Generator) -> Updates:  # noqa: ARG001
    """Baruch et al., 2019: the same shift by a few standard deviations from every hostile client."""
    return np.repeat((good.mean(0) - 1.5 * good.std(0))[None], HOSTILE, 0)


def one_value(good: Updates, rng: np.random.Generator) -> Updates:  # noqa: ARG001 -- what Bulyan was made for
    bad = good[:HOSTILE].copy()
    bad[:, 0] += 30
    return bad


ATTACKS = (sign_flipped, huge, noise, a_little, one_value)
DEFENCES = (
    Median(),
    TrimmedMean(0.2),
    Krum(HOSTILE),
    MultiKrum(HOSTILE),
    Bulyan(HOSTILE),
    GeometricMedian(20, 1e-6),
    CenteredClipping(0.5, 5),
    CenteredClipping(None, 5),
)


def distance_after(combine: Callable[[Updates, Updates], Updates], attack: Callable[..., Updates]) -> float:
    """`combine` makes of a round's updates, and of what the last round came to, what is added to the model."""
    rng, model, last = np.random.default_rng(5), np.zeros(TARGET.size), np.zeros(TARGET.size)
    for _ in range(ROUNDS):
        good = honest(model, rng)
        last = combine(np.concatenate([good, attack(good, rng)]), last)
        model = model + last
    return float(np.linalg.norm(model - TARGET))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("rule", DEFENCES, ids=str)
def test_robust_rules_bear_attacks(rule: Rule, attack: Callable[..., Updates]) -> None:
    assert distance_after(lambda updates, last: apply(rule, updates, last), attack) < 0.6


@pytest.mark.parametrize("attack", [each for each in ATTACKS if each is not a_little])
def test_the_mean_does_not(attack: Callable[..., Updates]) -> None:
    assert distance_after(lambda updates, last: updates.mean(axis=0), attack) > 3  # noqa: ARG005


def default_clipping() -> Rule:
    """What a manifest gets that says CenteredClipping and no more."""
    field = schema_of("FederatedJob")["properties"]["spec"]["properties"]["robustness"]["properties"]["aggregation"]
    defaults = {name: each["default"] for name, each in members_of(field).items() if "default" in each}
    return CenteredClipping(**{"radius": None, **defaults})


def members_of(aggregation: Schema) -> Schema:
    return aggregation["properties"]["centeredClipping"]["properties"]


@pytest.mark.parametrize("length", [0.01, 1, 100])
@pytest.mark.parametrize("spread", [0.1, 1])
def test_clippings_defaults_stay_near_the_honest_mean(spread: float, length: float) -> None:
    """Four of twenty send their update times -10, whatever honest updates' length is; bounds are shares of that."""
    rng, values, last = np.random.default_rng(3), 1000, np.zeros(1000)
    towards = rng.normal(0, 1, values) / np.sqrt(values)
    for _ in range(4):
        updates = length * (towards + spread * rng.normal(0, 1, (20, values)) / np.sqrt(values))
        updates[:4] *= -10
        last, mean = apply(default_clipping(), updates, last), updates[4:].mean(axis=0)
        assert np.linalg.norm(last - mean) < 0.3 * max(spread, 0.2) * length
        assert np.linalg.norm(updates.mean(axis=0) - mean) > 2 * length  # the mean is carried away
