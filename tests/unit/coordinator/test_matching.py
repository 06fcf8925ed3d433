"""Matched averaging, against the papers' equations and against every assignment there is; and whose turn it is."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_world import FakeWorld, config_for
from muster_coordinator.combining import matching_of
from muster_coordinator.instructions import Matched, OrderTraining, Outcome, Reason
from muster_coordinator.matching.assignment import Matching, _Global, gains, match_units
from muster_coordinator.matching.phases import Phase, passes_after, phase_of
from muster_coordinator.matching.rows import MatchedRows
from muster_coordinator.orders import Notice
from muster_coordinator.records import AssignmentId
from muster_coordinator.strategies import add
from muster_coordinator.sums import Sum
from muster_coordinator.translate import Told, orders_of
from muster_spec.clients import ClientId
from muster_spec.strategy_types import FedMA
from muster_wire.codecs import CodecId, Pipeline
from muster_wire.feedback import Recipe
from muster_wire.groups import Group, Member
from muster_wire.layout import Kind, Layout, TensorSpec
from muster_wire.matching import CLASSES, chain_of, spread
from muster_wire.payload import PayloadKind, Shape, encode_update
from muster_wire.values import Values

A0 = ClientId("a/0")
RNG = np.random.default_rng(4)


# --- units ------------------------------------------------------------------------------------------------------------


def gain_of(unit: Any, others: Any, sigma: float, prior: float, clients: int) -> float:
    """Yurochkin et al. 2019, equation 8, of a unit and those that are matched to a global one already."""
    mine, theirs = unit / sigma, sum(others) / sigma
    known = 1 / prior + len(others) / sigma
    odds = 2 * np.log(len(others) / (clients - len(others)))
    return float(np.sum((mine + theirs) ** 2) / (known + 1 / sigma) - np.sum(theirs**2) / known + odds)


def gain_alone(unit: Any, place: int, sigma: float, prior: float, gamma: float, clients: int) -> float:
    """Equation 9: the place-th new one."""
    return float(np.sum((unit / sigma) ** 2) / (1 / prior + 1 / sigma) - 2 * np.log(place / (gamma / clients)))


def test_gains_are_those_of_the_paper() -> None:
    matching = Matching(sigma=0.5, prior_sigma=2.0, gamma=3.0)
    members = [RNG.standard_normal((2, 4)), RNG.standard_normal((1, 4))]
    state = _Global(np.array([m.sum(axis=0) / 0.5 for m in members]), np.array([2, 1]))
    units = RNG.standard_normal((3, 4))
    found = gains(units, state, matching, 5, 3)
    for row, unit in enumerate(units):
        for column, others in enumerate(members):
            assert found[row, column] == pytest.approx(gain_of(unit, list(others), 0.5, 2.0, 5))
        for place in (1, 2, 3):
            assert found[row, 1 + place] == pytest.approx(gain_alone(unit, place, 0.5, 2.0, 3.0, 5))


def test_of_all_assignments_it_takes_the_best() -> None:
    """Two clients of three units each, no sweeps: the second one's match against all of them."""
    first, second = RNG.standard_normal((3, 4)), RNG.standard_normal((3, 4))
    matching = Matching(sweeps=0, max_growth=2.0)
    matches, _ = match_units([first, second].__getitem__, 2, matching, 6, np.random.default_rng(0))

    def worth(columns: Any) -> float:
        return sum(
            gain_of(second[row], [first[column]], 1.0, 1.0, 2)
            if column < 3
            else gain_alone(second[row], column - 2, 1.0, 1.0, 7.0, 2)
            for row, column in enumerate(columns)
        )

    best = max(worth(each) for each in permutations(range(6), 3))
    fresh = sorted(column for column in matches[1] if column >= 3)
    chosen = [column if column < 3 else 3 + fresh.index(column) for column in matches[1]]
    assert worth(chosen) == pytest.approx(best)


def test_the_same_units_in_another_order_are_found_and_averaged() -> None:
    """Four clients that hold the same twelve units, shuffled, with a little noise."""
    true = 3 * RNG.standard_normal((12, 20))
    orders = [RNG.permutation(12) for _ in range(4)]
    clients = [true[order] + 0.01 * RNG.standard_normal((12, 20)) for order in orders]
    matches, units = match_units(clients.__getitem__, 4, Matching(), 18, np.random.default_rng(0))
    assert len(units) == 12
    for client, places in zip(clients, matches, strict=True):
        np.testing.assert_allclose(units[places], client, atol=0.06)
    mean = [np.mean([c[list(m).index(i)] for c, m in zip(clients, matches, strict=True)], axis=0) for i in range(12)]
    np.testing.assert_allclose(units, mean)


def test_units_that_nobody_else_has_stay_by_themselves_up_to_the_bound() -> None:
    first = 5 * np.eye(4, 8)
    second = 5 * np.eye(4, 8, k=4)
    for most in (4, 6, 8):
        matches, units = match_units([first, second].__getitem__, 2, Matching(), most, np.random.default_rng(0))
        assert len(units) == most
        assert all(len(set(places.tolist())) == 4 for places in matches)


# --- layers -----------------------------------------------------------------------------------------------------------

LAYOUT = Layout(
    (
        TensorSpec("in.weight", (5, 3), "float32", Kind.TRAINABLE),
        TensorSpec("in.bias", (5,), "float32", Kind.TRAINABLE),
        TensorSpec("out.weight", (2, 5), "float32", Kind.TRAINABLE),
        TensorSpec("out.bias", (2,), "float32", Kind.TRAINABLE),
    ),
    (Group(5, (Member("in.weight", 0), Member("in.bias", 0), Member("out.weight", 1))),),
)


def values(layout: Layout, **tensors: Any) -> Values:
    made = Values.zeros(layout, frozen=False)
    for spec, view in made.tensors():
        view[...] = tensors[spec.name]
    return made


def fold(rows: Any, update: Values) -> None:
    rows.fold_payload(Shape(update.layout, PayloadKind.UPDATE, CodecId.FLOAT32), encode_update(update, CodecId.FLOAT32))


def tensors_of(model: Values) -> dict[str, Any]:
    return {spec.name: view.astype(np.float64) for spec, view in model.tensors()}


def answer(model: Values, inputs: Any) -> Any:
    t = tensors_of(model)
    return np.maximum(inputs @ t["in.weight"].T + t["in.bias"], 0) @ t["out.weight"].T + t["out.bias"]


def test_networks_that_differ_in_the_order_of_their_units_are_one_and_their_average_is_not(tmp_path: Path) -> None:
    """Which is the paper's point: matched averaging gives the network back, and FedAvg something else."""
    whole = {name: 2 * RNG.standard_normal(size) for name, size in (("in.weight", (5, 3)), ("in.bias", 5))}
    whole |= {name: RNG.standard_normal(size) for name, size in (("out.weight", (2, 5)), ("out.bias", 2))}
    base, inputs = values(LAYOUT, **whole), RNG.standard_normal((7, 3))
    orders = [np.arange(5), np.array([3, 0, 4, 1, 2]), np.array([1, 2, 0, 4, 3])]
    clients = [
        {
            "in.weight": whole["in.weight"][o],
            "in.bias": whole["in.bias"][o],
            "out.weight": whole["out.weight"][:, o],
            "out.bias": whole["out.bias"],
        }
        for o in orders
    ]
    hidden = MatchedRows(LAYOUT, Phase(0, (5,)), Matching(), tmp_path)
    for client in clients:
        fold(hidden, values(hidden.layout, **{name: client[name] for name in ("in.weight", "in.bias")}))
    made, matches = hidden.finish(base, seed=1)
    assert made.layout == LAYOUT
    last = MatchedRows(made.layout, Phase(1, (5,)), Matching(), tmp_path)
    for client, places in zip(clients, matches, strict=True):
        read = spread(client["out.weight"], np.array(places), 5, 1)
        counts = {CLASSES: np.array([3.0, 1.0])}
        fold(last, values(last.layout, **{"out.weight": read, "out.bias": client["out.bias"]} | counts))
    made, none = last.finish(made, seed=2)
    assert none == ()
    np.testing.assert_allclose(answer(made, inputs), answer(base, inputs), rtol=1e-4, atol=1e-5)
    average = Sum(LAYOUT)
    for client in clients:
        fold_into_sum(average, values(LAYOUT, **client))
    averaged = average.finish(Values.zeros(LAYOUT), add)
    assert np.abs(answer(averaged, inputs) - answer(base, inputs)).max() > 0.5


def fold_into_sum(total: Sum, update: Values) -> None:
    encoded = encode_update(update, CodecId.FLOAT32)
    total.fold_payload(Shape(update.layout, PayloadKind.UPDATE, CodecId.FLOAT32), encoded, 1.0)


def test_outputs_count_by_examples_of_their_class(tmp_path: Path) -> None:
    rows = MatchedRows(LAYOUT, Phase(1, (5,)), Matching(), tmp_path)
    first = {"out.weight": np.full((2, 5), 1.0), "out.bias": np.array([1.0, 1.0]), CLASSES: np.array([30.0, 0.0])}
    second = {"out.weight": np.full((2, 5), 5.0), "out.bias": np.array([5.0, 5.0]), CLASSES: np.array([10.0, 0.0])}
    for client in (first, second):
        fold(rows, values(rows.layout, **client))
    made, _ = rows.finish(Values.zeros(LAYOUT), seed=0)
    found = tensors_of(made)
    assert found["out.weight"][0].tolist() == [2.0] * 5  # (30 · 1 + 10 · 5) / 40
    assert found["out.weight"][1].tolist() == [3.0] * 5  # nobody has any: the plain mean
    assert found["out.bias"].tolist() == [2.0, 3.0]


def test_a_layer_that_grows_takes_its_readers_along(tmp_path: Path) -> None:
    rows = MatchedRows(LAYOUT, Phase(0, (5,)), Matching(max_growth=1.6), tmp_path)
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        fold(
            rows,
            values(rows.layout, **{"in.weight": 9 * rng.standard_normal((5, 3)), "in.bias": rng.standard_normal(5)}),
        )
    made, matches = rows.finish(Values.zeros(LAYOUT), seed=1)
    shapes = {spec.name: spec.shape for spec in made.layout.tensors}
    assert 5 < shapes["in.bias"][0] <= 8
    assert shapes["out.weight"] == (2, shapes["in.bias"][0])
    assert chain_of(made.layout) == chain_of(LAYOUT)
    assert [len(places) for places in matches] == [5, 5]
    again = MatchedRows(LAYOUT, Phase(0, (5,)), Matching(max_growth=1.6), tmp_path)
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        fold(
            again,
            values(again.layout, **{"in.weight": 9 * rng.standard_normal((5, 3)), "in.bias": rng.standard_normal(5)}),
        )
    assert again.finish(Values.zeros(LAYOUT), seed=1)[0].digest() == made.digest()


def test_a_job_says_how_units_are_matched() -> None:
    asked = FedMA(max_growth=2.0, sigma=0.5, prior_sigma=3.0, gamma=9.0, sweeps=1)
    assert matching_of(asked) == Matching(0.5, 3.0, 9.0, 1, 2.0)


# --- rounds -----------------------------------------------------------------------------------------------------------


def test_a_pass_has_a_round_for_each_layer() -> None:
    assert [phase_of(number, (4, 6)) for number in range(5)] == [
        None,
        Phase(0, (4, 6)),
        Phase(1, (4, 6)),
        Phase(2, (4, 6)),
        Phase(0, (4, 6)),
    ]
    assert [passes_after(number, (4, 6)) for number in range(5)] == [0, None, None, 1, None]
    assert phase_of(3, ()) is None


def matched_world(total: int, **choices: Any) -> FakeWorld:
    world = FakeWorld(config_for({"a": 4}, total=total, is_matched=True, **choices))
    world.widths = (2,)
    return world


def test_a_pass_goes_on_with_those_who_began_it_and_tells_them_where_their_units_are() -> None:
    world = matched_world(4, cohort=3, min_updates=2)
    world.join()
    world.work(A0)
    first = {planned.client for planned in world.plans[1, 0].cohort}
    asked = [world.clients[name].wanted for name in sorted(first)]
    orders = [order for wanted in asked for order in wanted.values() if isinstance(order, OrderTraining)]
    assert {order.matched for order in orders} == {Matched(0)}
    beginners = sorted(first)[:2]
    for name in beginners:
        world.work(name)
    assert [planned.client for planned in world.plans[2, 0].cohort] == beginners
    (order,) = world.clients[beginners[1]].wanted.values()
    assert isinstance(order, OrderTraining)
    assert order.matched == Matched(1, (1, 0))
    for name in beginners:
        world.work(name)
    assert len(world.plans[3, 0].cohort) == 3  # a new pass, a new cohort


def test_only_whole_models_are_measured_and_a_pass_is_not_begun_that_could_not_end() -> None:
    world = matched_world(5, central=True)
    world.join()
    world.run()
    assert [record.round for record in world.evaluations] == [2, 4]
    assert len(world.commits) == 1 + 4
    assert world.finish is not None
    assert (world.finish.outcome, world.finish.reason) == (Outcome.COMPLETE, Reason.ROUNDS_COMPLETED)
    short = matched_world(1)
    assert short.run().reason is Reason.TASK_FAILED
    assert short.finish is not None
    assert "raise rounds.total to 2" in short.finish.message


@pytest.mark.parametrize("crash_in", range(0, 60, 7))
def test_a_crash_anywhere_leaves_the_pass_as_it_was(crash_in: int) -> None:
    undisturbed, world = matched_world(4), matched_world(4)
    undisturbed.run()
    world.crash_in = crash_in
    world.run()
    assert [commit.matches for commit in world.commits] == [commit.matches for commit in undisturbed.commits]
    made, expected = ([p.cohort for p in each.plans.values() if p.round] for each in (world, undisturbed))
    assert made == expected


def test_a_worker_hears_its_phase_and_its_places() -> None:
    order = OrderTraining(A0, AssignmentId("2.0.a/0"), 2, "base", 7, deadline=160.0, matched=Matched(1, (3, 0, 2)))
    notice = Notice(1, (order,), (), finished=False, reason="", committed=1)
    train = orders_of(notice, Told(lambda digest: digest, lambda _: Recipe(Pipeline())), 100.0).assignments[0].train
    assert (train.matched.phase, list(train.matched.places)) == (1, [3, 0, 2])
