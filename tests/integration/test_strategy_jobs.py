"""Jobs with other strategies and weightings over real processes, their models worked out again in numpy."""

import json

import numpy as np
import pytest
import yaml

from coordinating import TOKEN, WEIGHTS, Workers, commits_in, coordinator, errors_of, write_job
from muster_coordinator.durable import unseal
from muster_coordinator.models import read_model
from muster_coordinator.records import RoundPlan
from muster_coordinator.rehearsal import Drift, RehearsalWorker, Trained
from running import muster
from running import write_job as write_small_job

CLIENTS, RATE = 3, 0.1


class Varied(Drift):
    """Clients differ in how far they go, what they lose and how steadily, as their seeds say."""

    def train(self, base, seed):
        trained = super().train(base, seed)
        metrics = {"loss": 1.0 + seed % 3, "baseLoss": 0.5 + seed % 4, "gradientVariance": 0.25 * (1 + seed % 5)}
        return Trained(trained.update, trained.examples, steps=1 + seed % 6, metrics=metrics)


def run(folder, **spec):
    job = write_job(folder, rounds={"total": 1}, checkpoint={"keep": 9}, local={"learningRate": RATE}, **spec)
    with coordinator(folder, job) as running:
        made = [
            RehearsalWorker(running.address, TOKEN, "p", [index], Varied(WEIGHTS), f"w{index}")
            for index in range(CLIENTS)
        ]
        working = Workers(made)
        try:
            working.join()
        finally:
            working.stop()
        assert running.wait() == 0, errors_of(folder)


def done(folder):
    """The base, the updates that clients made of it, what they said of them, and the next model."""
    storage = folder / "storage"
    first, last = commits_in(storage)
    base, made = (read_model(storage / "models" / f"{each.model}.safetensors").values for each in (first, last))
    plan = unseal((storage / "plans" / "000001.0.json").read_bytes(), RoundPlan)
    trained = [Varied(WEIGHTS).train(base, planned.seed) for planned in plan.cohort]
    assert [each.client for each in last.used] == [planned.client for planned in plan.cohort]
    return base, trained, made


def moved(base, made):
    return made.trainable.astype(np.float64) - base.trainable.astype(np.float64)


def numbers(trained, name):
    return np.array([each.metrics[name] for each in trained])


def expected_examples(trained):
    return np.array([each.examples for each in trained], float)


WEIGHTINGS = {
    "Uniform": lambda trained: np.ones(len(trained)),
    "Loss": lambda trained: numbers(trained, "loss"),
    "Variance": lambda trained: 1 / numbers(trained, "gradientVariance"),
    "Blend": lambda trained: sum(
        part / part.sum()
        for part in (expected_examples(trained), numbers(trained, "loss"), 1 / numbers(trained, "gradientVariance"))
    ),
}


@pytest.mark.parametrize("kind", WEIGHTINGS)
def test_weightings(tmp_path, kind):
    run(tmp_path, strategy={"weighting": {"type": kind}})
    base, trained, made = done(tmp_path)
    weights = WEIGHTINGS[kind](trained)
    expected = weights @ [each.update.trainable.astype(np.float64) for each in trained] / weights.sum()
    np.testing.assert_allclose(moved(base, made), expected, rtol=1e-4, atol=1e-6)


def test_nobody_has_more_than_the_largest_share(tmp_path):
    run(tmp_path, robustness={"maxWeightShare": 0.4})
    base, trained, made = done(tmp_path)
    examples = expected_examples(trained)
    assert examples.max() > 0.4 * examples.sum(), "or there would be nothing to see"
    used = commits_in(tmp_path / "storage")[1].used
    weights = np.array([each.weight for each in used])
    assert weights.max() <= 0.4 * weights.sum() * (1 + 1e-9)
    expected = weights @ [each.update.trainable.astype(np.float64) for each in trained] / weights.sum()
    np.testing.assert_allclose(moved(base, made), expected, rtol=1e-4, atol=1e-6)


def test_fednova(tmp_path):
    run(tmp_path, strategy={"type": "FedNova"})
    base, trained, made = done(tmp_path)
    p = expected_examples(trained) / expected_examples(trained).sum()
    steps = np.array([each.steps for each in trained], float)
    assert len(set(steps)) > 1, "or there would be nothing to see"
    normalised = [each.update.trainable.astype(np.float64) / each.steps for each in trained]
    np.testing.assert_allclose(moved(base, made), (p @ steps) * (p @ normalised), rtol=1e-4, atol=1e-6)


def test_q_fedavg(tmp_path):
    run(tmp_path, strategy={"type": "QFedAvg", "qFedAvg": {"q": 2}})
    base, trained, made = done(tmp_path)
    n, losses, lipschitz = expected_examples(trained), numbers(trained, "baseLoss"), 1 / RATE
    pulls = [lipschitz * each.update.trainable.astype(np.float64) for each in trained]
    h = [2 * loss * float(pull @ pull) + lipschitz * loss**2 for loss, pull in zip(losses, pulls, strict=True)]
    expected = (n * losses**2) @ pulls / (n @ h)
    assert np.linalg.norm(expected) > 1e-3
    np.testing.assert_allclose(moved(base, made), expected, rtol=0, atol=3e-7)  # what float32 leaves of the sum


def test_a_server_optimiser_steps_with_what_the_strategy_makes(tmp_path):
    """FedNova's mean, scaled, goes into the server's momentum and learning rate."""
    optimizer = {"type": "SGD", "sgd": {"learningRate": 0.5, "momentum": 0.9}}
    run(tmp_path, strategy={"type": "FedNova", "serverOptimizer": optimizer})
    base, trained, made = done(tmp_path)
    p = expected_examples(trained) / expected_examples(trained).sum()
    steps = np.array([each.steps for each in trained], float)
    normalised = [each.update.trainable.astype(np.float64) / each.steps for each in trained]
    np.testing.assert_allclose(moved(base, made), 0.5 * (p @ steps) * (p @ normalised), rtol=1e-4, atol=1e-6)


def small_job(folder, **spec):
    path = write_small_job(folder)
    document = yaml.safe_load(path.read_text())
    document["spec"] |= spec
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize(
    ("strategy", "metric"),
    [
        ({"type": "QFedAvg", "qFedAvg": {"q": 0.2}}, "baseLoss"),
        ({"type": "FedAdam", "weighting": {"type": "Variance"}}, "gradientVariance"),
        ({"type": "FedNova", "weighting": {"type": "Loss"}}, "loss"),
    ],
    ids=["QFedAvg", "Variance", "FedNova"],
)
def test_workers_measure_what_their_job_weighs_by(tmp_path, strategy, metric):
    """Whole federations, with the ready-made local loop."""
    complete = muster("run", small_job(tmp_path, strategy=strategy), "--json", "--out", "run", cwd=tmp_path)
    assert complete.returncode == 0, complete.stderr
    closing = json.loads(complete.stdout.splitlines()[-1])
    assert (closing["state"], closing["rounds"]) == ("Complete", 4)
    (storage,) = (path.parent for path in (tmp_path / "run").rglob("rounds"))
    for commit in commits_in(storage)[1:]:
        assert len(commit.used) == 4
        assert all(each.metrics[metric] > 0 for each in commit.used)
