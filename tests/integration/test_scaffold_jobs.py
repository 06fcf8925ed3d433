"""SCAFFOLD over real processes: server and clients are algorithm 1, and neither forgets its variate."""

import itertools
import json
import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import safetensors.numpy

from coordinating import WEIGHTS, a_third, commits_in, errors_of, run_in_turn, write_job
from muster_coordinator.durable import unseal
from muster_coordinator.models import read_model
from muster_coordinator.records import RoundPlan
from muster_coordinator.rehearsal import Drift
from running import TASKS, muster

RATE, SERVER_RATE = 0.05, 0.8
AIMS, CURVES, EXAMPLES = ((1.0, 0.0, 2.0), (-3.0, 1.0, 0.0), (0.0, 5.0, 1.0)), (1.0, 3.0, 0.5), (2, 9, 5)


def control_of(storage, commit):
    if not commit.server_state:
        return 0.0
    return safetensors.numpy.load_file(storage / "server" / f"{commit.server_state}.safetensors")["control"]


def model_of(storage, commit):
    return read_model(storage / "models" / f"{commit.model}.safetensors").values


# --- whole federations ------------------------------------------------------------------------------------------------


def paper(rounds, chosen_in):
    """Algorithm 1 with option II, step by step: the models and the server's variates."""
    x, c, own = np.zeros(3), np.zeros(3), np.zeros((3, 3))
    xs, cs = [], []
    for number in range(rounds):
        chosen, ys, moved = chosen_in[number], [], np.zeros(3)
        for client in chosen:
            y = x.copy()
            for _ in range(EXAMPLES[client]):
                y -= RATE * (CURVES[client] * (y - np.array(AIMS[client])) - own[client] + c)
            after = own[client] - c + (x - y) / (EXAMPLES[client] * RATE)
            moved += after - own[client]
            own[client] = after
            ys.append(y)
        x = x + SERVER_RATE * (np.mean(ys, axis=0) - x)
        c = c + moved / 3
        xs.append(x)
        cs.append(c)
    return xs, cs


@pytest.mark.parametrize("preset", ["none", "light"])
def test_a_federation_is_algorithm_1(tmp_path, preset):
    """Two of three clients a round, who differ in steps, curves and aims; workers with the ready-made local loop."""
    document = {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "FederatedJob",
        "metadata": {"name": "bowls"},
        "spec": {
            "task": {
                "entrypoint": "bowls:Bowls",
                "source": {"type": "Path", "path": {"path": str(TASKS)}},
                "config": {"aims": AIMS, "curves": CURVES, "examples": EXAMPLES},
            },
            "pools": [{"name": "a", "inline": {"type": "Kubernetes", "clients": 3}}],
            "rounds": {"total": 6, "cohort": 2, "deadlineSeconds": 30},
            "local": {"epochs": 1, "batchSize": 1, "learningRate": RATE},
            "strategy": {"type": "Scaffold", "scaffold": {"learningRate": SERVER_RATE}},
            "compression": {"preset": preset},
            "checkpoint": {"keep": 9},
            "evaluation": {"central": {"type": "Never"}, "federated": False},
        },
    }
    (tmp_path / "job.yaml").write_text(json.dumps(document))
    done = muster("run", "job.yaml", "--json", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (storage,) = (path.parent for path in (tmp_path / "run").rglob("rounds"))
    commits = commits_in(storage)[1:]
    chosen = [[int(each.client.partition("/")[2]) for each in commit.used] for commit in commits]
    assert len({tuple(sorted(each)) for each in chosen}) > 1, "or nobody's variate would have to wait"
    xs, cs = paper(6, chosen)
    close = {"rtol": 1e-4, "atol": 1e-5} if preset == "none" else {"rtol": 0, "atol": 0.03}  # float16 rounds both ways
    for commit, x, c in zip(commits, xs, cs, strict=True):
        np.testing.assert_allclose(model_of(storage, commit).trainable, x, **close)
        np.testing.assert_allclose(control_of(storage, commit), c, **close)
    assert np.abs(cs[-1]).max() > 0.1


# --- a coordinator that dies ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    job = write_job(folder, strategy={"type": "Scaffold"}, local={"learningRate": RATE}, checkpoint={"keep": 9})
    assert run_in_turn(folder, job) == [0], errors_of(folder)
    return folder


def test_the_variate_follows_from_the_updates(undisturbed):
    """With workers that move by a formula of their seeds, which the plans name."""
    storage = undisturbed / "storage"
    commits, control = commits_in(storage), np.zeros(WEIGHTS)
    for before, commit in itertools.pairwise(commits):
        plan = unseal((storage / "plans" / f"{commit.round:06d}.0.json").read_bytes(), RoundPlan)
        base = model_of(storage, before)
        trained = [Drift(WEIGHTS).train(base, planned.seed) for planned in plan.cohort]
        drift = sum(each.update.trainable.astype(np.float64) / each.steps for each in trained)
        control = (1 - 3 / 3) * control - drift / (3 * RATE)
        np.testing.assert_allclose(control_of(storage, commit), control, rtol=1e-4, atol=1e-4)


@pytest.mark.timeout(600)
def test_killed_around_what_it_keeps(tmp_path, undisturbed):
    names = (undisturbed / "places.0").read_text().splitlines()
    states = {commit.server_state for commit in commits_in(undisturbed / "storage")} - {""}
    places = [
        at
        for at, name in enumerate(names, 1)
        if any(state in name for state in states) or re.fullmatch(r".*\b00000[12]\.json", name)
    ]
    assert len(places) == 2 * 4 + 2 * 4

    def one(place):
        folder = tmp_path / str(place)
        folder.mkdir()
        shutil.copyfile(undisturbed / "job.json", folder / "job.json")
        assert run_in_turn(folder, folder / "job.json", [place, 0]) == [-signal.SIGKILL, 0], errors_of(folder)
        ours, theirs = commits_in(folder / "storage"), commits_in(undisturbed / "storage")
        made = [(commit.round, commit.model, commit.server_state) for commit in ours]
        assert made == [(commit.round, commit.model, commit.server_state) for commit in theirs]
        shutil.rmtree(folder)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, a_third(places)))
