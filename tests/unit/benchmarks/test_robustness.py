"""Clients that attack do what the benchmark says, and its figures say who held."""

import pytest
import torch

from evaluations.hostile import HostileDigits, Taken
from evaluations.series import closing, job_of
from muster.task import Client
from muster.training import Training, train
from muster_spec.rounds_types import Local, Optimizer
from robustness import ARMS, ATTACKS, BYZANTINE, RULES, SERIES, attacked, clean, figures

LOCAL = Local(epochs=1, batch_size=16, learning_rate=0.05, optimizer=Optimizer(type="SGD", momentum=0, weight_decay=0))


def update_of(ordinal, **options):
    """What this client of twenty hands in from the same base, and what it would have trained."""
    task = HostileDigits({"digits": {"width": 2}} | options)
    data = task.load_data(Client("p", ordinal, ordinal, 20, 20, 0)).train
    training = Training(local=LOCAL, seed=3, device=torch.device("cpu"), clock=lambda: 0.0)
    found = []
    for do in (task.train, lambda *given: train(task, *given)):
        torch.manual_seed(0)
        model = task.build_model()
        before = torch.nn.utils.parameters_to_vector(model.parameters()).clone()
        do(model, data, training)
        found.append((torch.nn.utils.parameters_to_vector(model.parameters()) - before).detach())
    return (data, *found)


def test_the_first_clients_send_their_update_times_minus_ten():
    data, sent, trained = update_of(1, hostile=2)
    assert isinstance(data, Taken)
    assert trained.norm() > 0.01
    torch.testing.assert_close(sent, -10 * trained)


def test_or_noise_as_many_times_as_long():
    _, sent, trained = update_of(0, hostile=1, attack="Noise", factor=100.0)
    assert (sent.norm() / trained.norm()).item() == pytest.approx(100, rel=1e-4)
    assert abs(torch.nn.functional.cosine_similarity(sent, trained, dim=0).item()) < 0.3


def test_all_others_are_honest():
    data, sent, trained = update_of(2, hostile=2)
    assert not isinstance(data, Taken)
    torch.testing.assert_close(sent, trained)


def test_every_arm_is_a_job_with_everybody_in_each_cohort():
    assert len(ARMS) > len(RULES) * len(BYZANTINE) * len(ATTACKS)
    for arm in ARMS:
        job = job_of(arm, 0, 1, SERIES.manifest)
        assert job.clients_total == job.spec.rounds.cohort == job.spec.rounds.min_updates == 20


def row(arm, accuracy, **more):
    usual = {"seed": 0, "rounds": 4, "outcome": "Complete", "seconds": 4.0, "roundSeconds": [1.0], "bytesUp": 1}
    usual |= {"failedAttempts": 0, "clients": 20, "participation": [1], "measured": [[1, 1.0, accuracy]]}
    return {"arm": arm} | usual | more


def verdicts(rows):
    """Of the claims about which something is known."""
    found = closing(SERIES, rows)["claims"]
    return {claim["name"].removesuffix(": points lost"): claim["holds"] for claim in found if claim["figure"]}


def test_a_rule_breaks_at_more_than_three_points_less_than_itself_and_fails_as_guessing():
    rows = [row(clean("Median", 4), 0.95), row(clean("Mean", 4), 0.96)]
    rows += [row(attacked("Median", word, 4), 0.93) for word in ATTACKS]
    rows += [row(attacked("Mean", word, 4), 0.9, outcome="Failed") for word in ATTACKS]
    rows += [row(attacked("Median", "noise", 6), 0.91)]
    found = figures(rows)
    assert found["points_lost"]["Mean"]["noise"][4]["mean"] == pytest.approx(86)
    assert found["breaks_from"]["Median"] == {"times -10": None, "noise": 6}
    assert found["breaks_from"]["Mean"] == {"times -10": 4, "noise": 4}
    assert found["breaks_from"]["Bulyan"] == {}, "nothing was measured, so nothing held"


def test_claims_hold_with_the_whole_interval():
    """Three points at most for robust rules; more than three for FedAvg: a mean on the right side is not enough."""

    def rows(rule, lost):
        for seed, points in enumerate(lost):
            yield row(clean(rule, 4), 0.95, seed=seed)
            yield row(attacked(rule, "noise", 4), 0.95 - points / 100, seed=seed)

    median, mean = (f"{rule}, 4 of 20 hostile, noise" for rule in ("Median", "Mean"))
    sure = verdicts([*rows("Median", [1.0, 1.1, 1.2]), *rows("Mean", [80.0, 81.0, 82.0])])
    assert sure == {median: True, mean: True}
    unsure = verdicts([*rows("Median", [0.0, 2.0, 4.0]), *rows("Mean", [2.0, 4.0, 6.0])])
    assert unsure == {median: False, mean: False}
    assert verdicts([*rows("Median", [1.0]), *rows("Mean", [80.0])]) == {median: None, mean: None}


def test_what_was_not_measured_is_not_claimed():
    assert verdicts([row(clean("Median", 4), 0.95), row(attacked("Mean", "noise", 4), 0.94)]) == {}
    assert len(SERIES.claims) == len(RULES) * len(ATTACKS)
