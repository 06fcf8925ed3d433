"""When a model is measured, how results are averaged, and what they decide."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from msgspec import structs

from fake_world import config_for
from muster_coordinator import evaluation
from muster_coordinator.config import Goal
from muster_coordinator.records import EvaluationRecord, RoundCommit, Scores, UsedUpdate
from muster_coordinator.state import Best, Roster
from muster_spec.clients import ClientId

A0, A1, A2 = (ClientId(f"a/{index}") for index in range(3))


def scores(examples: int = 10, **metrics: float) -> Scores:
    return Scores(metrics=metrics, examples=examples, clients=1)


def record(number: int, central: Scores | None = None, federated: Scores | None = None) -> EvaluationRecord:
    return EvaluationRecord(round=number, model=f"model-{number}", central=central, federated=federated)


@pytest.mark.parametrize(
    ("number", "every", "central", "due"),
    [
        (0, 1, True, False),
        (1, 1, True, True),
        (3, 2, True, False),
        (4, 2, True, True),
        (5, 2, True, True),
        (5, 1, False, False),
    ],
)
def test_when_a_model_is_measured(number: int, every: int, central: bool, due: bool) -> None:
    assert evaluation.is_due(config_for(total=5, evaluate_every=every, central=central), number) is due


def test_each_metric_is_averaged_over_the_examples_of_those_who_reported_it() -> None:
    measured = {A1: scores(30, accuracy=0.5), A0: scores(10, accuracy=0.9, auc=0.7)}
    mean = evaluation.average(measured)
    assert mean is not None
    assert mean.metrics == pytest.approx({"accuracy": 0.6, "auc": 0.7})
    assert (mean.examples, mean.clients) == (40, 2)
    assert evaluation.average({}) is None
    assert evaluation.average(dict(reversed(measured.items()))) == mean  # bit for bit


def test_what_is_not_a_number_is_left_out() -> None:
    found = evaluation.scores_of(5, {"loss": math.nan, "accuracy": 0.5, "auc": math.inf})
    assert found.metrics == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("metric", "value", "than", "better"),
    [
        ("accuracy", 0.9, 0.8, True),
        ("accuracy", 0.8, 0.8, False),
        ("testLoss", 0.9, 0.8, False),
        ("mean_error", 0.1, 0.2, True),
        ("Perplexity", 12.0, 30.0, True),
        ("f1", 0.1, 0.2, False),
    ],
)
def test_what_is_better(metric: str, value: float, than: float, better: bool) -> None:
    assert evaluation.is_better(metric, value, than) is better


@pytest.mark.parametrize(
    ("best", "new", "goal", "expected"),
    [
        (None, record(1, scores(accuracy=0.5)), None, (1, "accuracy", 0.5)),
        (None, record(1, None, scores(loss=0.5)), None, (1, "loss", 0.5)),
        (None, record(1, scores(accuracy=0.5), scores(accuracy=0.9)), None, (1, "accuracy", 0.5)),
        (Best(1, "m", "accuracy", 0.5), record(2, scores(accuracy=0.5)), None, (1, "accuracy", 0.5)),
        (Best(1, "m", "accuracy", 0.5), record(2, scores(accuracy=0.6)), None, (2, "accuracy", 0.6)),
        (Best(1, "m", "loss", 0.5), record(2, scores(loss=0.4)), None, (2, "loss", 0.4)),
        (Best(1, "m", "accuracy", 0.5), record(2, scores(loss=0.0)), None, (1, "accuracy", 0.5)),
        (None, record(1, scores(accuracy=0.5, auc=0.7)), Goal("auc", 0.9), (1, "auc", 0.7)),
        (None, record(1), None, None),
    ],
)
def test_the_best_model(best: Best | None, new: EvaluationRecord, goal: Goal | None, expected: tuple | None) -> None:
    found = evaluation.best_of(best, new, goal)
    assert (None if found is None else (found.round, found.metric, found.value)) == expected


@pytest.mark.parametrize(
    ("goal", "new", "reached"),
    [
        (Goal("accuracy", 0.9), record(1, scores(accuracy=0.9)), True),
        (Goal("accuracy", 0.9), record(1, scores(accuracy=0.89), scores(accuracy=1.0)), False),
        (Goal("loss", 0.2), record(1, None, scores(loss=0.1)), True),
        (Goal("auc", 0.2), record(1, scores(accuracy=0.9)), False),
        (None, record(1, scores(accuracy=0.9)), False),
        (Goal("auc", 0.2), None, False),
    ],
)
def test_when_a_target_is_reached(goal: Goal | None, new: EvaluationRecord | None, reached: bool) -> None:
    assert evaluation.has_reached(goal, new) is reached


@pytest.mark.parametrize(
    ("patience", "best", "newest", "stalled"),
    [(3, 4, 7, True), (3, 5, 7, False), (None, 1, 99, False), (1, 7, 7, False)],
)
def test_when_patience_ends(patience: int | None, best: int, newest: int, stalled: bool) -> None:
    assert evaluation.has_stalled(patience, Best(best, "m", "accuracy", 0.5), record(newest)) is stalled
    assert not evaluation.has_stalled(patience, None, record(newest))


def commit() -> RoundCommit:
    used = UsedUpdate(client=A0, assignment="2.0.a/0", round=2, examples=1, weight=1.0, steps=1, metrics={})
    late = UsedUpdate(client=A2, assignment="1.0.a/2", round=1, examples=1, weight=1.0, steps=1, metrics={})
    return RoundCommit(
        round=2,
        attempt=0,
        epoch=1,
        base="model-1",
        model="model-2",
        used=(used, late),
        failed={A1: "late"},
        failed_attempts=0,
        started_s=0.0,
        seconds=1.0,
        bytes_up=1,
        bytes_down=1,
    )


def test_the_cohort_measures_and_whoever_leaves_is_not_waited_for() -> None:
    config = config_for(federated=True)
    phase = evaluation.begin(config, commit(), central=True, restored=False, now=50.0)
    assert phase.waiting == {A0, A1}
    assert not phase.central_wanted
    phase = evaluation.report_local(phase, A0, scores(accuracy=0.5))
    assert not evaluation.is_over(phase, 79.9)
    assert evaluation.is_over(phase, 80.0)
    assert evaluation.record_of(phase).missing == {A1: "no result in time"}
    phase = evaluation.give_up_local(phase, [A1, A2], "lost")
    assert evaluation.is_over(phase, 51.0)
    assert evaluation.record_of(phase).missing == {A1: "lost"}


def test_a_client_without_held_out_data_counts_as_an_answer_only() -> None:
    phase = evaluation.begin(config_for(federated=True), commit(), central=False, restored=False, now=0.0)
    phase = evaluation.report_local(phase, A0, scores(examples=0))
    assert phase.waiting == {A1}
    assert evaluation.record_of(phase).federated is None


def test_evaluators_are_tried_in_turn() -> None:
    config = config_for(central=True)
    phase = evaluation.begin(config, commit(), central=True, restored=False, now=0.0)
    roster = Roster({A0: "w", A2: "w"})
    assert evaluation.next_evaluator(phase, config, roster) == A0
    phase = evaluation.give_up_central(replace(phase, evaluator=A0), "boom")
    assert phase.missing == {A0: "boom"}
    assert evaluation.next_evaluator(phase, config, roster) == A2


# --- what somebody should know ---


def test_a_client_that_could_not_measure_is_named_once_with_its_reason() -> None:
    first = structs.replace(
        record(1), missing={A0: "load_test_data raised ValueError: no such scanner", A1: evaluation.AWAY}
    )
    said = ["evaluation of round 1: a/0: load_test_data raised ValueError: no such scanner"]
    assert evaluation.concerns(first, None, None) == said
    assert evaluation.concerns(structs.replace(first, round=2), first, None) == []
    other = structs.replace(first, round=2, missing={A1: "evaluate raised KeyError: 'x'"})
    assert evaluation.concerns(other, first, None) == ["evaluation of round 2: a/1: evaluate raised KeyError: 'x'"]


def test_a_target_that_nobody_measures_is_said_once() -> None:
    measured = record(1, central=scores(accuracy=0.5, loss=1.0))
    (said,) = evaluation.concerns(measured, None, Goal("f1", 0.9))
    assert said.startswith("spec.rounds.target.metric: the task measures no f1")
    assert said.endswith("it measures accuracy, loss")
    assert evaluation.concerns(record(2, central=measured.central), measured, Goal("f1", 0.9)) == []
    assert evaluation.concerns(measured, None, Goal("loss", 0.9)) == []
