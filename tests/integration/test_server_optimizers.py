"""Jobs with a server optimiser over real processes: what it keeps is in the checkpoint, and survives kill -9."""

import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import safetensors.numpy

from coordinating import a_third, commits_in, coordinator, errors_of, run_in_turn, workers, write_job
from muster_coordinator.models import read_model

ADAM = {"type": "FedAdam", "fedAdam": {"learningRate": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 0.01}}
DURABLE = re.compile(r".*(\.safetensors|\b\d{6}\.json)")  # the model, what is kept with it, and the record of both


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    job = write_job(folder, strategy=ADAM, checkpoint={"keep": 9})
    assert run_in_turn(folder, job) == [0], errors_of(folder)
    return folder


def trainable(folder, commit):
    values = read_model(folder / "storage" / "models" / f"{commit.model}.safetensors").values
    return values.trainable.astype(np.float64)


def kept(folder, commit):
    found = safetensors.numpy.load_file(folder / "storage" / "server" / f"{commit.server_state}.safetensors")
    return found["momentum"].astype(np.float64), found["variance"].astype(np.float64)


def test_a_round_is_a_step_of_the_optimiser(undisturbed, tmp_path):
    """FedAvg with the same seed says what the mean of the first round is; two rounds of algorithm 2 follow from it."""
    assert run_in_turn(tmp_path, write_job(tmp_path, checkpoint={"keep": 9})) == [0], errors_of(tmp_path)
    plain, ours = commits_in(tmp_path / "storage"), commits_in(undisturbed / "storage")
    assert plain[0].model == ours[0].model
    assert [commit.server_state for commit in plain] == ["", "", ""]
    assert ours[0].server_state == ""
    mean = trainable(tmp_path, plain[1]) - trainable(tmp_path, plain[0])
    m, v = 0.1 * mean, 0.99 * 0.01**2 + 0.01 * mean**2
    expected = trainable(undisturbed, ours[0]) + 0.1 * m / (np.sqrt(v) + 0.01)
    np.testing.assert_allclose(trainable(undisturbed, ours[1]), expected, rtol=1e-5, atol=1e-6)
    momentum, variance = kept(undisturbed, ours[1])
    np.testing.assert_allclose(momentum, m, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, v, rtol=1e-4, atol=1e-8)
    before, after = trainable(undisturbed, ours[1]), trainable(undisturbed, ours[2])
    momentum, variance = kept(undisturbed, ours[2])
    np.testing.assert_allclose(after, before + 0.1 * momentum / (np.sqrt(variance) + 0.01), rtol=1e-5, atol=1e-6)


@pytest.mark.timeout(600)
def test_killed_at_every_durable_write(tmp_path, undisturbed):
    names = (undisturbed / "places.0").read_text().splitlines()
    places = [at for at, name in enumerate(names, 1) if DURABLE.fullmatch(name)]
    states = {commit.server_state for commit in commits_in(undisturbed / "storage")} - {""}
    assert sum(any(state in names[at - 1] for state in states) for at in places) == 2 * 4
    assert len(places) == (3 + 2 + 3) * 4

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


def test_a_damaged_state_costs_its_round(tmp_path):
    """Like a damaged model: the round before it is gone on from, with its own state, and that is said."""
    rounds = {"total": 3, "deadlineSeconds": 20}
    assert run_in_turn(tmp_path, write_job(tmp_path, strategy=ADAM, checkpoint={"keep": 9})) == [0], errors_of(tmp_path)
    before = commits_in(tmp_path / "storage")
    path = tmp_path / "storage" / "server" / f"{before[2].server_state}.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    job = write_job(tmp_path, strategy=ADAM, checkpoint={"keep": 9}, rounds=rounds)
    with coordinator(tmp_path, job) as running, workers(running.address) as three:
        three.join()
        assert running.wait() == 0, errors_of(tmp_path)
    said = [event["message"] for event in running.of("warning")]
    assert any(path.name in message and "digest" in message for message in said)
    assert "going on from round 1" in said
    after = commits_in(tmp_path / "storage")
    assert len(after) == 4
    assert (after[1].model, after[1].server_state) == (before[1].model, before[1].server_state)
    assert (after[2].model, after[2].server_state) == (before[2].model, before[2].server_state)
