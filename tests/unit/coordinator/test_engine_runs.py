"""Whole jobs against the engine, in memory: how they go and how each of them ends."""

from __future__ import annotations

import math

import pytest

from fake_world import FakeWorld, Order, config_for
from muster_coordinator.config import Goal, LatePolicy, PoolSize
from muster_coordinator.events import ClientsJoined, ClientsLost, PauseWished, StopRequested, Tick, UpdateStaged
from muster_coordinator.instructions import (
    Accept,
    Finish,
    Fold,
    OrderEvaluation,
    OrderInitialisation,
    OrderTraining,
    Outcome,
    Reason,
    Refuse,
    Scope,
    Settle,
    StorePlan,
    Withdraw,
)
from muster_coordinator.records import AssignmentId
from muster_spec.clients import ClientId

A0, A1, A2 = (ClientId(f"a/{index}") for index in range(3))


def of_type(world: FakeWorld, kind: type) -> list:
    return [each for each in world.carried_out if isinstance(each, kind)]


def ready(**choices: object) -> FakeWorld:
    """A world whose first model is made and whose round 1 is open."""
    world = FakeWorld(config_for(**choices))
    world.join()
    assert world.work(A0)
    return world


def test_every_round_asks_whom_the_selector_chooses() -> None:
    world = FakeWorld(config_for({"a": 6}, cohort=2, total=30))
    world.run()
    cohorts = [tuple(each.client for each in plan.cohort) for (number, _), plan in world.plans.items() if number]
    assert {len(cohort) for cohort in cohorts} == {2}
    assert len(set(cohorts)) > 8  # of 15 pairs
    assert {client for cohort in cohorts for client in cohort} == set(world.config.clients)


def test_a_job_runs_to_its_last_round() -> None:
    world = FakeWorld(config_for(federated=True, central=True))
    assert world.run() == Finish(Outcome.COMPLETE, Reason.ROUNDS_COMPLETED, "all 3 rounds are done")
    assert [commit.round for commit in world.commits] == [0, 1, 2, 3]
    assert [record.round for record in world.evaluations] == [1, 2, 3]
    assert all(len(commit.used) == 3 for commit in world.commits[1:])
    assert world.clients[A1].promoted == ["1.0.a/1", "2.0.a/1", "3.0.a/1"]
    kinds = [tell.kind for tell in world.told]
    assert kinds[-1] == "finished"
    assert {"joined", "planned", "received", "committed", "evaluated"} <= set(kinds)


def test_a_wish_to_pause_is_carried_out_after_the_open_round() -> None:
    world = ready()
    assert world.work(A0)
    world.post(PauseWished(True))
    assert world.finish is None
    for client in (A1, A2):
        assert world.work(client)
    assert world.finish == Finish(Outcome.SUSPENDED, Reason.PAUSED, "suspended after 1 round of 3")
    assert [commit.round for commit in world.commits] == [0, 1]
    assert all(client.promoted[-1] == f"1.0.{name}" for name, client in world.clients.items())


def test_a_wish_to_pause_can_be_taken_back() -> None:
    world = ready()
    world.post(PauseWished(True))
    world.post(PauseWished(False))
    assert world.run().outcome is Outcome.COMPLETE


def test_between_rounds_a_job_pauses_at_once() -> None:
    world = FakeWorld(config_for())
    world.post(PauseWished(True))
    assert world.finish == Finish(Outcome.SUSPENDED, Reason.PAUSED, "suspended after 0 rounds of 3")


@pytest.mark.parametrize("on_insufficient", ["Retry", "Extend"])
def test_a_round_that_fails_is_not_tried_again_before_a_pause_but_after_it(on_insufficient: str) -> None:
    world = ready(on_insufficient=on_insufficient)
    assert world.work(A0)
    world.post(PauseWished(True))
    world.sleep(60)
    assert world.finish is not None
    assert world.finish.reason is Reason.PAUSED
    world.start()
    assert world.run().outcome is Outcome.COMPLETE
    assert [commit.round for commit in world.commits] == [0, 1, 2, 3]
    assert all(count == 1 for client in world.clients.values() for count in client.trained.values())


def test_a_metric_that_is_no_number_is_left_out_and_said_once() -> None:
    world = FakeWorld(config_for(federated=True), measure=lambda _: {"accuracy": 0.5, "auc": math.nan})
    world.run()
    assert [record.federated.metrics for record in world.evaluations if record.federated] == [{"accuracy": 0.5}] * 3
    said = [tell.message for tell in world.told if tell.kind == "warning"]
    assert len(said) == 1
    assert said[0].endswith("measured auc as nan: it is left out wherever it is so")


def test_evaluations_average_over_examples_and_remember_the_best() -> None:
    world = FakeWorld(
        config_for(federated=True, central=True), measure=lambda order: {"accuracy": [0, 0.5, 0.9, 0.7][order.round]}
    )
    world.run()
    assert world.evaluations[1].central is not None
    assert world.evaluations[1].federated is not None
    assert (world.evaluations[1].central.clients, world.evaluations[1].federated.clients) == (1, 3)
    best = world.state.progress.best
    assert best is not None
    assert (best.round, best.model, best.value) == (2, "model-2", 0.9)


@pytest.mark.parametrize(
    ("choices", "reason", "rounds"),
    [
        ({"goal": Goal("accuracy", 0.6)}, Reason.TARGET_REACHED, 2),
        ({"goal": Goal("loss", 0.25)}, Reason.TARGET_REACHED, 3),
        ({"goal": Goal("accuracy", 0.99)}, Reason.ROUNDS_COMPLETED, 9),
        ({"goal": Goal("accuracy", 0.6), "evaluate_every": 5}, Reason.TARGET_REACHED, 5),
    ],
)
def test_a_target_ends_the_job(choices: dict, reason: Reason, rounds: int) -> None:
    world = FakeWorld(config_for(federated=True, total=9, **choices))
    assert world.run().reason is reason
    assert world.commits[-1].round == rounds


def test_patience_ends_the_job_rounds_after_its_best_model() -> None:
    world = FakeWorld(
        config_for(federated=True, total=9, patience=3), measure=lambda order: {"accuracy": -abs(order.round - 2)}
    )
    assert world.run().reason is Reason.NO_IMPROVEMENT
    assert world.commits[-1].round == 5


def test_the_first_round_waits_for_everybody_but_not_for_ever() -> None:
    world = FakeWorld(config_for())
    world.join(A0)
    world.work(A0)
    world.join(A1)
    world.sleep(9.9)
    assert len(world.commits) == 1
    assert (1, 0) not in world.plans
    world.sleep(0.1)
    assert [each.client for each in world.plans[1, 0].cohort] == [A0, A1]


def test_the_first_round_starts_at_once_when_all_are_here() -> None:
    assert len(ready().plans[1, 0].cohort) == 3


def test_fastest_k_closes_early_and_withdraws_the_rest() -> None:
    world = ready(min_updates=2)
    world.work(A2)
    world.work(A0)
    assert [each.client for each in world.commits[1].used] == [A2, A0]  # arrival order
    assert world.commits[1].failed.keys() == {A1}
    assert Withdraw(A1, "1.0.a/1", "its round closed without it") in world.carried_out


def test_a_cohort_that_is_awaited_whole_is_summed_in_its_own_order() -> None:
    world = ready()
    for name in (A2, A1, A0):
        world.work(name)
    assert [each.assignment for each in of_type(world, Fold)[1:]] == ["1.0.a/0", "1.0.a/1", "1.0.a/2"]
    assert [each.weight for each in world.commits[1].used] == [10, 11, 12]


def test_order_is_kept_at_a_deadline_too() -> None:
    world = ready()
    world.work(A2)
    world.work(A1)
    world.sleep(60)
    assert [each.client for each in world.commits[1].used] == [A1, A2]
    assert world.commits[1].failed == {A0: "no update when the round closed (2 updates are in at the deadline)"}


def test_over_selection_asks_more_and_closes_at_the_cohort() -> None:
    world = ready(sizes={"a": 6}, cohort=3, asked=4)
    cohort = [each.client for each in world.plans[1, 0].cohort]
    assert len(cohort) == 4
    for name in cohort[::-1]:
        world.work(name)
    assert [each.client for each in world.commits[1].used] == cohort[:0:-1]


def test_retry_draws_another_cohort_and_tells_the_old_one_only_when_the_new_plan_is_stored() -> None:
    world = ready(min_updates=2)
    world.work(A1)
    world.sleep(60)
    plan = next(i for i, each in enumerate(world.carried_out) if isinstance(each, StorePlan) and each.plan.attempt == 1)
    told = [
        i for i, each in enumerate(world.carried_out) if isinstance(each, Settle | Withdraw) and "failed" in each.reason
    ]
    assert len(told) == 3
    assert min(told) > plan
    assert world.clients[A1].held == {}
    assert world.run().outcome is Outcome.COMPLETE
    assert world.commits[1].failed_attempts == 1


def test_extend_throws_nothing_away() -> None:
    world = ready(min_updates=2, on_insufficient="Extend")
    world.work(A1)
    world.sleep(60)
    world.work(A0)
    assert [each.client for each in world.commits[1].used] == [A1, A0]
    assert world.commits[1].failed_attempts == 1
    assert list(world.plans) == [(0, 0), (1, 0), (2, 0)]


@pytest.mark.parametrize(
    ("choice", "reason", "seconds"),
    [
        ("Fail", Reason.NOT_ENOUGH_UPDATES, 60),
        ("Retry", Reason.TOO_MANY_FAILED_ROUNDS, 180),
        ("Extend", Reason.TOO_MANY_FAILED_ROUNDS, 180),
    ],
)
def test_a_job_without_updates_fails(choice: str, reason: Reason, seconds: float) -> None:
    world = FakeWorld(
        config_for(on_insufficient=choice),
        behave=lambda _, order: "never" if isinstance(order, OrderTraining) else None,
    )
    began = world.now
    finish = world.run()
    assert (finish.outcome, finish.reason) == (Outcome.FAILED, reason)
    assert world.now - began == seconds


def test_a_task_that_raises_everywhere_fails_at_once_with_its_message() -> None:
    world = FakeWorld(
        config_for(), behave=lambda _, order: "KeyError: 'label'" if isinstance(order, OrderTraining) else None
    )
    began = world.now
    finish = world.run()
    assert finish.reason is Reason.TASK_FAILED
    assert "KeyError: 'label'" in finish.message
    assert world.now == began


def test_one_client_that_raises_does_not_hold_the_round_up() -> None:
    world = FakeWorld(
        config_for(), behave=lambda name, order: "boom" if name == A1 and isinstance(order, OrderTraining) else None
    )
    began = world.now
    assert world.run().outcome is Outcome.COMPLETE
    assert world.commits[2].failed == {A1: "boom"}
    assert world.now == began


def test_a_rejected_update_costs_its_client_the_round() -> None:
    world = FakeWorld(
        config_for(),
        behave=lambda name, order: "rejected: NaN" if name == A2 and isinstance(order, OrderTraining) else None,
    )
    world.run()
    assert world.commits[1].failed == {A2: "rejected: NaN"}
    assert Refuse(A2, "1.0.a/2", "rejected: NaN") in world.carried_out


def test_an_update_without_examples_has_no_weight() -> None:
    world = ready()
    world.stage(UpdateStaged(A0, AssignmentId("1.0.a/0"), examples=0, steps=1, metrics={}, size_bytes=10))
    assert of_type(world, Refuse) == [Refuse(A0, "1.0.a/0", "trained on no examples: it has no weight")]
    world.work(A1)
    world.work(A2)
    assert world.commits[1].failed == {A0: "trained on no examples: it has no weight"}


def test_nobody_hands_in_for_another() -> None:
    world = ready()
    world.stage(UpdateStaged(A1, AssignmentId("1.0.a/0"), examples=5, steps=1, metrics={}, size_bytes=10))
    assert of_type(world, Refuse) == [Refuse(A1, "1.0.a/0", "this assignment is a/0's")]
    world.run()
    assert len(world.commits[1].used) == 3


def test_the_first_model_is_tried_on_other_trusted_clients() -> None:
    world = FakeWorld(
        config_for(),
        behave=lambda name, order: "no torch" if name == A0 and isinstance(order, OrderInitialisation) else None,
    )
    assert world.run().outcome is Outcome.COMPLETE
    assert [each.client for each in of_type(world, OrderInitialisation)] == [A0, A1]


def test_no_client_can_make_the_first_model() -> None:
    world = FakeWorld(config_for(), behave=lambda *_: "ImportError: no module named model")
    finish = world.run()
    assert finish.reason is Reason.NO_FIRST_MODEL
    assert "ImportError: no module named model" in finish.message
    assert {each.client for each in of_type(world, OrderInitialisation)} == {A0, A1, A2}


def test_only_a_trusted_pool_makes_the_first_model() -> None:
    world = FakeWorld(
        config_for({"x": 2, "a": 1}, pools=(PoolSize("x", 2, trusted=False), PoolSize("a", 1, trusted=True)))
    )
    world.run()
    assert [each.client for each in of_type(world, OrderInitialisation)] == [A0]
    assert FakeWorld(config_for(pools=(PoolSize("a", 3, trusted=False),))).finish is not None


def test_a_lost_initialiser_is_replaced_soon() -> None:
    world = FakeWorld(config_for())
    world.join(A0, A1)
    world.lose(A0)
    world.sleep(10)
    assert [each.client for each in of_type(world, OrderInitialisation)] == [A0, A1]


def test_a_task_that_kills_its_process_is_not_given_one_after_another() -> None:
    world = FakeWorld(config_for({"a": 1}))
    for _ in range(30):
        world.join(A0)
        if world.finish is not None:
            break
        world.lose(A0, memory=False)
    assert world.finish is not None
    assert world.finish.reason is Reason.NO_FIRST_MODEL
    assert "ended 3 times while it made the first model" in world.finish.message


def test_a_worker_that_only_reconnects_goes_on_making_the_first_model() -> None:
    world = FakeWorld(config_for({"a": 1}))
    for _ in range(10):
        world.join(A0)
        world.lose(A0)
    world.join(A0)
    assert world.finish is None
    assert {each.client for each in of_type(world, OrderInitialisation)} == {A0}
    assert world.run().outcome is Outcome.COMPLETE


def test_the_first_model_may_come_from_a_file() -> None:
    world = FakeWorld(config_for(initial_model="start.safetensors"))
    assert world.run().outcome is Outcome.COMPLETE
    assert of_type(world, OrderInitialisation) == []


def test_nobody_comes() -> None:
    world = FakeWorld(config_for({"a": 3, "b": 2}, wait_for_clients_s=100.0))
    world.join(A0)
    world.work(A0)
    world.sleep(100)
    assert world.finish is not None
    assert world.finish.reason is Reason.NO_CLIENTS
    assert "a 1 of 3, b 0 of 2" in world.finish.message


def test_the_jobs_own_deadline() -> None:
    world = ready(active_deadline_s=30.0)
    world.sleep(30)
    assert world.finish is not None
    assert world.finish.reason is Reason.DEADLINE_EXCEEDED


def test_stop_suspends_and_a_restart_goes_on() -> None:
    world = ready()
    world.work(A0)
    world.post(StopRequested("SIGTERM"))
    assert world.finish == Finish(Outcome.SUSPENDED, Reason.STOPPED, "SIGTERM")
    world.start()
    assert world.run().outcome is Outcome.COMPLETE
    assert world.clients[A0].trained["1.0.a/0"] == 1
    assert "resumed" in [tell.kind for tell in world.told]


def test_a_lost_client_keeps_its_place_and_gets_its_order_again() -> None:
    world = ready()
    world.lose(A1, memory=False)
    world.work(A0)
    world.work(A2)
    assert len(world.commits) == 1
    world.join(A1)
    assert "1.0.a/1" in world.clients[A1].wanted
    world.work(A1)
    assert len(world.commits[1].used) == 3


def test_another_worker_takes_a_client_over() -> None:
    world = ready()
    world.post(ClientsJoined("other", (A1,)))
    world.post(ClientsLost((A1,), "closed", worker="worker-a/1"))  # of the worker before: too late to matter
    assert world.state.roster.workers[A1] == "other"
    assert [each.client for each in of_type(world, OrderTraining)].count(A1) == 2


def test_held_updates_are_settled_from_the_records() -> None:
    world = FakeWorld(config_for(total=5))
    world.join()
    for name in (A0, A0, A1):
        world.work(name)
    world.clients[A1].connected = False  # it will not hear of the commit
    world.work(A2)
    held = ("1.0.a/1", "1.7.a/1", "nonsense", "2.0.a/1")
    world.clients[A1].connected = True
    world.carried_out.clear()
    world.post(ClientsJoined("back", (A1,), held))
    settled = {each.assignment: each.used for each in of_type(world, Settle)}
    assert settled == {"1.0.a/1": True, "1.7.a/1": False, "nonsense": False}
    assert [each.assignment for each in of_type(world, OrderTraining)] == ["2.0.a/1"]


def test_a_second_copy_is_accepted_and_not_counted() -> None:
    world = ready()
    order = world.clients[A0].wanted["1.0.a/0"]
    world.hand_in(A0, order)
    world.hand_in(A0, order)
    assert of_type(world, Accept)[-2:] == [Accept(A0, "1.0.a/0")] * 2
    assert world.run().outcome is Outcome.COMPLETE
    world = ready()
    world.work(A1)
    world.work(A2)
    copy = world.clients[A1].held["1.0.a/1"]
    world.work(A0)
    world.stage(copy)
    assert of_type(world, Settle)[-1] == Settle(A1, "1.0.a/1", used=True, reason="its round is committed")


def test_late_updates_are_discarded() -> None:
    world = ready(min_updates=2)
    order = world.clients[A2].wanted["1.0.a/2"]
    world.work(A0)
    world.work(A1)
    world.hand_in(A2, order)
    assert of_type(world, Refuse)[-1].assignment == "1.0.a/2"
    assert world.clients[A2].held == {}


def test_late_updates_join_the_next_round_discounted() -> None:
    world = ready(min_updates=2, late=LatePolicy(max_staleness=2, exponent=0.5))
    world.work(A0)
    world.work(A1)
    assert "1.0.a/2" in world.clients[A2].wanted  # it goes on
    assert [each.client for each in world.plans[2, 0].cohort] == [A0, A1]
    world.work(A2)
    world.work(A0)
    world.work(A1)
    late = next(used for used in world.commits[2].used if used.client == A2)
    assert late.round == 1
    assert late.weight == pytest.approx(12 / 2**0.5)
    assert world.clients[A2].promoted == ["1.0.a/2"]


def test_late_work_is_withdrawn_once_it_would_be_too_stale() -> None:
    world = ready(min_updates=2, late=LatePolicy(max_staleness=1, exponent=1.0))
    for _ in range(2):
        world.work(A0)
        world.work(A1)
    assert Withdraw(A2, "1.0.a/2", "its round closed without it") in world.carried_out
    assert A2 in {each.client for each in world.plans[3, 0].cohort}


def test_a_late_update_held_through_a_crash_is_asked_for_again() -> None:
    world = ready(min_updates=2, late=LatePolicy(max_staleness=2, exponent=1.0))
    order = world.clients[A2].wanted["1.0.a/2"]
    world.work(A0)
    world.work(A1)
    world.hand_in(A2, order)
    world.start()
    world.run()
    assert "1.0.a/2" in world.used()
    assert world.clients[A2].trained["1.0.a/2"] == 1


def test_central_evaluation_goes_to_the_next_trusted_client() -> None:
    def behave(name: ClientId, order: Order) -> str | None:
        return "no test data here" if name == A0 and isinstance(order, OrderEvaluation) else None

    world = FakeWorld(config_for(central=True, total=1), behave=behave)
    world.run()
    assert [each.client for each in of_type(world, OrderEvaluation)] == [A0, A1]
    assert world.evaluations[0].central is not None
    assert world.evaluations[0].missing == {A0: "no test data here"}


def test_a_task_without_a_test_set_is_asked_once() -> None:
    world = FakeWorld(config_for(central=True), measure=lambda _: {})
    world.run()
    assert len([each for each in of_type(world, OrderEvaluation) if each.scope is Scope.CENTRAL]) == 1
    assert [record.central for record in world.evaluations] == [None]


def test_an_evaluation_is_bounded() -> None:
    world = FakeWorld(
        config_for(federated=True, total=1),
        behave=lambda name, order: "never" if name == A1 and isinstance(order, OrderEvaluation) else None,
    )
    began = world.now
    assert world.run().outcome is Outcome.COMPLETE
    assert world.now - began == 30
    assert world.evaluations[0].missing == {A1: "no result in time"}


def test_an_early_tick_repeats_the_wish() -> None:
    world = ready()
    world.wake = None
    world.post(Tick())
    assert world.wake == world.now + 60


# --- time between a deed and its completion ---------------------------------------------------------------------------


@pytest.mark.parametrize("late", [None, LatePolicy(1, 1.0)])
def test_an_update_that_comes_while_its_round_is_being_committed(late: LatePolicy | None) -> None:
    world = ready(min_updates=2, late=late)
    world.work(A0)
    world.slow_disk = True
    world.work(A1)
    world.work(A2)
    assert of_type(world, Accept)[-1] == Accept(A2, "1.0.a/2")
    assert "1.0.a/2" in world.clients[A2].held
    world.hear_of_stores()
    if late is None:
        assert Settle(A2, "1.0.a/2", used=False, reason="its round closed without it") in world.carried_out
    else:
        assert A2 in {each.client for each in world.plans[2, 0].cohort}  # its late work is done: it is not busy
        world.hear_of_stores()
        assert "1.0.a/2" in {each.assignment for each in of_type(world, Fold)}


def test_an_update_that_comes_between_a_failed_attempt_and_the_next_plan() -> None:
    world = ready(min_updates=2)
    world.slow_disk = True
    world.sleep(60)
    world.work(A1)
    assert of_type(world, Accept)[-1] == Accept(A1, "1.0.a/1")
    assert "1.0.a/1" in world.clients[A1].held
    world.hear_of_stores()
    assert Settle(A1, "1.0.a/1", used=False, reason="its attempt failed") in world.carried_out
    assert world.clients[A1].held == {}


def test_a_late_update_in_a_failed_sum_is_given_back_with_it() -> None:
    world = ready(min_updates=2, late=LatePolicy(2, 1.0))
    for name in (A0, A1, A2):  # a/2 is late for round 1 and in the sum of round 2
        world.work(name)
    world.sleep(60)
    assert [each.used for each in of_type(world, Settle) if each.assignment == "1.0.a/2"] == [False]
    assert world.state.owed == {}
    assert world.run().outcome is Outcome.COMPLETE


def test_a_copy_in_fastest_k_is_not_summed_again() -> None:
    world = ready(min_updates=2)
    world.work(A1)
    world.stage(world.clients[A1].held["1.0.a/1"])
    assert [each.assignment for each in of_type(world, Fold)][1:] == ["1.0.a/1"]
    assert len(world.commits) == 1


def test_the_first_models_maker_may_be_away_for_a_moment() -> None:
    world = FakeWorld(config_for())
    world.join(A0, A1)
    world.lose(A0)
    world.sleep(9)
    world.join(A0)
    world.sleep(30)
    world.work(A0)
    assert [each.client for each in of_type(world, OrderInitialisation)] == [A0, A0]
    assert world.commits[0].used[0].client == A0


def test_an_evaluation_goes_on_without_those_who_left() -> None:
    world = ready(federated=True)
    for name in (A0, A1):
        world.work(name)
    world.lose(A2)
    world.sleep(60)
    world.work(A0)
    world.lose(A1)
    assert world.evaluations[0].missing == {A2: "away", A1: "lost: gone"}


def test_a_rules_least_number_of_updates_comes_before_fastest_k() -> None:
    """Admission refuses such jobs; should one come by, a round waits for what its rule needs and never makes do."""
    world = FakeWorld(config_for({"a": 6}, min_updates=2, least=5), behave=lambda client, order: None)  # noqa: ARG005
    world.run()
    assert [len(commit.used) for commit in world.commits] == [1, 5, 5, 5]


def test_with_fewer_clients_than_a_rule_needs_no_round_is_made() -> None:
    def behave(client: ClientId, order: Order) -> str | None:
        return "rejected: too long" if client in ("a/1", "a/2") and isinstance(order, OrderTraining) else None

    world = FakeWorld(config_for({"a": 6}, least=5, max_failed=2), behave=behave)
    finish = world.run()
    assert finish.reason is Reason.TOO_MANY_FAILED_ROUNDS
    assert "only 4 of at least 5 updates are possible" in finish.message
    assert len(world.commits) == 1


def test_orders_say_how_often_a_client_took_part() -> None:
    world = FakeWorld(config_for())
    world.run()
    orders = {order.assignment: order.participations for order in of_type(world, OrderTraining)}
    assert [orders[AssignmentId(f"{number}.0.a/1")] for number in (1, 2, 3)] == [0, 1, 2]
    world.start()  # counted from the records
    assert world.state.progress.participations == {A0: 3, A1: 3, A2: 3}


def test_a_lost_memory_is_said_and_counted() -> None:
    world = ready()
    name = AssignmentId("1.0.a/1")
    update = UpdateStaged(A1, name, examples=3, steps=1, metrics={}, size_bytes=9, memory_lost=True)
    world.staged[name] = update
    world.post(update)
    (warning,) = [tell for tell in world.told if tell.kind == "warning"]
    assert "a/1 has lost what it kept of earlier updates" in warning.message
    for client in (A0, A2):
        world.work(client)
    committed = [tell for tell in world.told if tell.kind == "committed"][-1]
    assert committed.details["memoriesLost"] == 1
    assert committed.details["compression"] == "up float32, down float32"
