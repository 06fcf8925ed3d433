"""How many local steps a round has, against the papers' equations in another arithmetic, and within the engine."""

from __future__ import annotations

from decimal import Decimal, getcontext
from typing import Any

import pytest

from fake_world import FakeWorld, config_for
from muster_coordinator.instructions import OrderTraining, Reason
from muster_coordinator.orders import Notice
from muster_coordinator.records import AssignmentId, RoundCommit, UsedUpdate
from muster_coordinator.stepcontrol import (
    Pace,
    Progress,
    ResourceBudget,
    Shape,
    best_steps,
    costs,
    slopes_of,
    spread,
    step_control_of,
)
from muster_coordinator.translate import Told, orders_of
from muster_spec.clients import ClientId
from muster_spec.rounds_types import Local, Optimizer, StepControl
from muster_spec.rounds_types import Progress as ProgressSpec
from muster_spec.rounds_types import ResourceBudget as BudgetSpec
from muster_wire.codecs import Pipeline
from muster_wire.feedback import Recipe

getcontext().prec = 50
A0 = ClientId("a/0")


def used(client: int = 0, examples: int = 10, steps: int = 4, train_s: float = 2.0, **more: Any) -> UsedUpdate:
    own = {name: more.pop(name) for name in ("norm", "weight") if name in more}
    return UsedUpdate(
        client=ClientId(f"a/{client}"),
        assignment=AssignmentId(f"1.0.a/{client}"),
        round=1,
        examples=examples,
        steps=steps,
        metrics=more,
        train_s=train_s,
        **{"weight": float(examples), **own},
    )


def commit(*updates: UsedUpdate, number: int = 1, seconds: float = 5.0, norm: float = 0.0) -> RoundCommit:
    return RoundCommit(
        round=number,
        attempt=0,
        epoch=1,
        base="",
        model="m",
        used=updates,
        failed={},
        failed_attempts=0,
        started_s=0.0,
        seconds=seconds,
        bytes_up=0,
        bytes_down=0,
        norm=norm,
    )


# --- a budget ---------------------------------------------------------------------------------------------------------


def exact_gap(tau: int, rho: str, beta: str, delta: str, eta: str, phi: str, cost: str) -> Decimal:
    """Wang et al. 2019, equations 11 and 18 as they are printed, in fifty digits. `cost`: (c τ + b) / R' τ."""
    r, b, d, e, p, a = (Decimal(one) for one in (rho, beta, delta, eta, phi, cost))
    h = d / b * ((e * b + 1) ** tau - 1) - e * d * tau
    root = (a**2 / (4 * e**2 * p**2) + r * h / (e * p * tau)).sqrt()
    return a / (2 * e * p) + root + r * h


@pytest.mark.parametrize(
    ("tau", "rho", "beta", "delta", "eta", "phi", "cost"),
    [
        (1, "2", "3", "0.5", "0.01", "0.025", "0.002"),
        (7, "2", "3", "0.5", "0.01", "0.025", "0.0004"),
        (100, "0.1", "12", "1.5", "0.1", "1", "0.01"),
        (40, "5", "0.001", "0.2", "0.05", "0.025", "0.3"),
    ],
)
def test_the_gap_is_the_papers(tau: int, rho: str, beta: str, delta: str, eta: str, phi: str, cost: str) -> None:
    control = ResourceBudget(100.0, float(phi), float(eta), 100)
    shape = Shape(float(rho), float(beta), float(delta), float(eta))
    expected = exact_gap(tau, rho, beta, delta, eta, phi, cost)
    assert control.gap(shape, float(cost), tau) == pytest.approx(float(expected), rel=1e-6)


def test_drift_is_nothing_for_one_step_and_for_clients_that_agree_and_never_overflows() -> None:
    assert Shape(1, 2.0, 0.7, 0.1).drift(1) == pytest.approx(0, abs=1e-12)
    assert Shape(1, 1e9, 0.0, 0.1).drift(1000) == 0
    assert Shape(1, 1e9, 1.0, 0.1).drift(1000) == float("inf")


def test_costs_slopes_and_spread_are_read_off_a_round() -> None:
    two = [
        used(0, examples=10, steps=4, train_s=2.0, lossSlope=1.0, gradientSlope=3.0, norm=3.0),
        used(1, examples=30, steps=4, train_s=4.0, lossSlope=2.0, gradientSlope=1.0, norm=1.0),
    ]
    assert costs(two, 5.0) == (1.0, 1.0)  # four steps in four seconds; five seconds in all
    assert slopes_of(two) == (1.75, 1.5)
    assert slopes_of([used()]) is None
    # updates (3, 0) and (0, 1), weights 10 and 30: the mean is (0.75, 0.75), and the mean of squares 9/4 + 3/4
    assert spread(two, norm=(2 * 0.75**2) ** 0.5, rate=0.1) == pytest.approx((3 - 1.125) ** 0.5 / 0.4)
    assert spread(two, norm=99.0, rate=0.1) == 0.0  # rounding never makes a root of less than nothing


def after(control: ResourceBudget, pace: Pace, spent_s: float = 10.0, **changes: Any) -> Pace:
    said = {"lossSlope": 1.0, "gradientSlope": 1.0, "norm": 0.1, "steps": 1, "train_s": 0.1} | changes
    seconds = said.pop("seconds", 5.0)
    return control.after(pace, commit(used(0, **said), used(1, **said), seconds=seconds, norm=0.05), spent_s)


def test_dear_rounds_have_more_steps_and_cheap_ones_fewer() -> None:
    """What fixed epochs don't do: the paper's point."""
    control = ResourceBudget(1000.0, phi=1.0, rate=0.1, most=100)
    dear, cheap = (after(control, Pace(10), seconds=seconds, steps=10, train_s=1.0).steps for seconds in (60.0, 1.01))
    assert 1 <= cheap < dear <= 100
    everyone_alike = control.after(Pace(10), commit(used(steps=10, lossSlope=1, gradientSlope=1), norm=0.0), 0.0)
    assert everyone_alike.steps == 100


def test_the_least_gap_wins_and_a_search_goes_ten_times_as_far_as_it_was() -> None:
    assert best_steps(lambda steps: abs(steps - 7), 100) == 7
    control = ResourceBudget(1e6, 0.025, 0.1, most=100)
    pace, seen = control.first, [control.first.steps]
    for _ in range(3):
        pace = control.after(pace, commit(used(lossSlope=1.0, gradientSlope=1.0, steps=pace.steps)), 0.0)
        seen.append(pace.steps)
    assert seen == [1, 10, 100, 100]  # clients that agree may go as far as they like


def test_without_measures_nothing_is_learnt_and_the_first_model_is_no_round() -> None:
    control = ResourceBudget(1000.0, 0.025, 0.1, 100)
    assert control.after(Pace(5), commit(used()), 0.0) == Pace(5)
    assert control.after(Pace(5), commit(number=0), 0.0) == Pace(5)


def test_the_last_round_is_cut_to_what_is_left_and_then_it_is_over() -> None:
    control = ResourceBudget(20.0, 0.025, 0.1, 100)
    agreed = commit(used(steps=10, train_s=5.0, lossSlope=1.0, gradientSlope=1.0), seconds=6.0)  # c 0.5, b 1
    assert control.after(Pace(10), agreed, 0.0) == Pace(38)
    assert control.after(Pace(10), agreed, 17.0) == Pace(4)
    assert control.after(Pace(10), agreed, 18.6) == Pace(1, is_spent=True)


# --- progress ---------------------------------------------------------------------------------------------------------


def test_steps_grow_with_the_third_root_of_the_losses_fall() -> None:
    control = Progress(10, most=25)
    pace = control.first
    assert pace.steps == 10
    seen = []
    for loss in (8.0, 4.0, 1.0, 0.125, 100.0):
        pace = control.after(pace, commit(used(0, baseLoss=loss), used(1, baseLoss=loss)), 0.0)
        seen.append(pace.steps)
    assert seen == [10, 13, 20, 25, 10]  # 10 · 2^⅓ = 12.6; 10 · 8^⅓; 10 · 64^⅓ = 40 is too many; never below the first
    assert pace.first_loss == 8.0


def test_losses_are_means_by_examples_and_silence_changes_nothing() -> None:
    control = Progress(10, 100)
    mixed = commit(used(0, examples=30, baseLoss=1.0), used(1, examples=10, baseLoss=5.0), used(2, examples=99))
    assert control.after(control.first, mixed, 0.0).first_loss == 2.0
    assert control.after(Pace(12, first_loss=3.0), commit(used()), 0.0) == Pace(12, first_loss=3.0)


# --- in the engine ----------------------------------------------------------------------------------------------------


def test_every_order_of_a_round_says_the_steps_of_its_plan() -> None:
    world = FakeWorld(config_for({"a": 3}, total=3, step_control=Progress(10, 100)))
    world.says = {"metrics": {"baseLoss": 8.0}}
    world.join()
    world.work(A0)  # the first model
    seen = []
    for loss in (8.0, 1.0, 1.0):
        orders = [next(iter(client.wanted.values())) for client in world.clients.values()]
        assert all(isinstance(order, OrderTraining) for order in orders)
        seen.append({order.steps for order in orders if isinstance(order, OrderTraining)})
        world.says = {"metrics": {"baseLoss": loss}}
        for name in world.config.clients:
            world.work(name)
    assert seen == [{10}, {10}, {20}]
    assert [plan.steps for plan in world.plans.values()] == [0, 10, 10, 20]


def test_a_restart_goes_on_with_what_was_learnt() -> None:
    world = FakeWorld(config_for({"a": 3}, total=4, step_control=Progress(10, 100)))
    world.join()
    world.work(A0)
    for loss in (8.0, 1.0):
        world.says = {"metrics": {"baseLoss": loss}}
        for name in world.config.clients:
            world.work(name)
    before = world.state.progress.pace
    assert before == Pace(20, first_loss=8.0)
    world.start()
    assert world.state.progress.pace == before


def test_a_job_whose_budget_is_spent_is_complete() -> None:
    control = ResourceBudget(50.0, 0.025, 0.1, 100)
    world = FakeWorld(config_for({"a": 3}, total=100, step_control=control))
    world.says = {"metrics": {"lossSlope": 1.0, "gradientSlope": 1.0}}
    world.join()
    world.work(A0)
    while world.finish is None:
        world.now += 20.0
        for name in world.config.clients:
            world.work(name)
    assert world.finish.reason is Reason.BUDGET_SPENT
    assert 2 < len(world.commits) < 10


def test_a_worker_hears_how_many_steps_it_takes() -> None:
    told = Told(lambda digest: digest, lambda _: Recipe(Pipeline()))
    order = OrderTraining(A0, AssignmentId("1.0.a/0"), 1, "base", 7, deadline=160.0, steps=12)
    notice = Notice(1, (order,), (), finished=False, reason="", committed=0)
    assert orders_of(notice, told, now=100.0).assignments[0].train.steps == 12


def test_a_job_says_which_and_with_what() -> None:
    def control(asked: StepControl) -> object:
        sgd = Optimizer(type="SGD", momentum=0, weight_decay=0)
        return step_control_of(Local(epochs=1, batch_size=8, learning_rate=0.3, optimizer=sgd, step_control=asked))

    budget = BudgetSpec(seconds=60, phi=0.5, max_steps=9)
    assert control(StepControl(type="Fixed")) is None
    assert control(StepControl(type="ResourceBudget", resource_budget=budget)) == ResourceBudget(60.0, 0.5, 0.3, 9)
    progress = ProgressSpec(initial_steps=3, max_steps=12)
    assert control(StepControl(type="Progress", progress=progress)) == Progress(3, 12)
