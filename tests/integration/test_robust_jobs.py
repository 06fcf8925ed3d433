"""Jobs with hostile clients, over real processes: robust rules bear them, the mean doesn't, bounds refuse them."""

import signal

import numpy as np
import pytest
import safetensors.numpy

from coordinating import WEIGHTS, commits_in, coordinator, errors_of, final_model, run_in_turn, workers, write_job
from muster_coordinator.rehearsal import RehearsalWorker
from muster_wire.v1 import federation_pb2 as pb

CLIENTS, HOSTILE = 7, (1, 4)
ROUNDS = {"total": 3, "minUpdates": 7, "deadlineSeconds": 20}


class Hostile(RehearsalWorker):
    """Sends what would lead away from where it should go, a thousand times as far, and wrecks the buffers."""

    def encode(self, trained, codec):
        if trained.examples:
            update = trained.update
            update.trainable[...] *= -1000
            update.float_buffers[...] = 1e6
            update.integers[...] = 2**40
        return super().encode(trained, codec)


def run(folder, robustness, **more):
    job = write_job(folder, clients=CLIENTS, rounds=ROUNDS, robustness=robustness, **more)
    kinds = dict.fromkeys(HOSTILE, Hostile)
    with coordinator(folder, job) as running, workers(running.address, CLIENTS, kinds) as seven:
        seven.join()
        assert running.wait() == 0, errors_of(folder)
        return running, seven


def length(folder):
    model = final_model(folder / "storage")
    assert model.trainable.size == WEIGHTS
    return float(np.linalg.norm(model.trainable)) / np.sqrt(WEIGHTS), model


@pytest.mark.parametrize(
    "aggregation",
    [
        {"type": "Median"},
        {"type": "TrimmedMean", "trimmedMean": {"share": 0.3}},
        {"type": "Krum", "krum": {"byzantine": 2}},
        {"type": "MultiKrum", "multiKrum": {"byzantine": 2, "selected": 3}},
        {"type": "Bulyan", "bulyan": {"byzantine": 1}},
        {"type": "GeometricMedian"},
        {"type": "CenteredClipping"},
    ],
    ids=lambda one: one["type"],
)
def test_a_job_bears_hostile_clients(tmp_path, aggregation):
    if aggregation["type"] == "Bulyan":  # 4f + 3 is seven for one
        kinds, folder = {1: Hostile}, tmp_path
        job = write_job(folder, clients=CLIENTS, rounds=ROUNDS, robustness={"aggregation": aggregation})
        with coordinator(folder, job) as running, workers(running.address, CLIENTS, kinds) as seven:
            seven.join()
            assert running.wait() == 0, errors_of(folder)
    else:
        run(tmp_path, {"aggregation": aggregation})
    size, model = length(tmp_path)
    assert size < 2
    assert np.abs(model.float_buffers).max() < 1
    assert model.integers.tolist() == [3]
    last = commits_in(tmp_path / "storage")[-1]
    assert len(last.used) == CLIENTS, "everybody has been looked at, so everybody is settled as used"


@pytest.mark.parametrize("preset", ["balanced", "max"])
def test_few_bits_are_compared_like_many(tmp_path, preset):
    run(tmp_path, {"aggregation": {"type": "Median"}}, compression={"preset": preset})
    assert length(tmp_path)[0] < 3


STEP = {"type": "CenteredClipping", "centeredClipping": {"radius": 0.5, "iterations": 1}}


def test_clipping_goes_on_from_the_last_round_whoever_coordinates(tmp_path):
    """With Adam on top: what is kept is the rule's result, not the step. One is killed in its second round."""
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    for folder in (calm, killed):
        folder.mkdir()
        adam = {"type": "FedAdam", "fedAdam": {"learningRate": 0.1}}
        job = write_job(
            folder, strategy=adam, robustness={"aggregation": STEP}, checkpoint={"keep": 9}, rounds={"minUpdates": 3}
        )
        places = [] if folder == calm else [place_of(calm, commits_in(calm / "storage")[2].server_state)]
        assert run_in_turn(folder, job, [*places, 0]) == [-signal.SIGKILL] * len(places) + [0], errors_of(folder)
    ours, theirs = commits_in(killed / "storage"), commits_in(calm / "storage")
    assert [(each.model, each.server_state) for each in ours] == [(each.model, each.server_state) for each in theirs]
    first, second = (kept_mean(calm, commit) for commit in theirs[1:])
    assert np.linalg.norm(first) <= 0.5 * 1.0001, "from 0 no step is longer than the radius"
    assert np.linalg.norm(second) > 0.6, "two steps"


def place_of(folder, state):
    """The first durable write of this state: the coordinator has all updates of its round by then."""
    names = (folder / "places.0").read_text().splitlines()
    return next(at for at, name in enumerate(names, 1) if state in name)


def kept_mean(folder, commit):
    found = safetensors.numpy.load_file(folder / "storage" / "server" / f"{commit.server_state}.safetensors")
    assert set(found) == {"momentum", "variance", "mean"}
    return found["mean"].astype(np.float64)


def test_a_mean_does_not_bear_them(tmp_path):
    run(tmp_path, {})
    assert length(tmp_path)[0] > 1000


def test_clipping_bounds_what_they_do(tmp_path):
    run(tmp_path, {"clipNorm": 50})
    assert length(tmp_path)[0] < 3


def test_updates_beyond_the_largest_norm_are_refused(tmp_path):
    """By a verdict that names the bound; the round waits for everybody, and goes on with the others."""
    job = write_job(tmp_path, rounds={"total": 1}, robustness={"maxNorm": 300})
    with coordinator(tmp_path, job) as running, workers(running.address, kinds={2: Hostile}) as three:
        three.join()
        assert running.wait() == 0, errors_of(tmp_path)
    assert "at most 300 is allowed" in running.of("rejected")[0]["reason"]
    verdict = three.workers[2].verdicts["1.0.p/2"]
    assert (verdict.accepted, verdict.cause) == (False, pb.Verdict.CAUSE_NORM)
    assert sorted(update.client for update in commits_in(tmp_path / "storage")[1].used) == ["p/0", "p/1"]


class Refused(RehearsalWorker):
    """Every update of it is refused."""

    def encode(self, trained, codec):
        if trained.examples:
            trained.update.trainable[0] = np.nan
        return super().encode(trained, codec)


def test_a_round_with_too_few_updates_fails_and_says_so(tmp_path):
    """Six of seven are fewer than Krum needs for two hostile ones: no model is made of them."""
    rounds = {"total": 1, "minUpdates": 7, "deadlineSeconds": 20, "onInsufficient": "Fail"}
    robustness = {"aggregation": {"type": "Krum", "krum": {"byzantine": 2}}}
    job = write_job(tmp_path, clients=CLIENTS, rounds=rounds, robustness=robustness)
    with coordinator(tmp_path, job) as running, workers(running.address, CLIENTS, {3: Refused}) as seven:
        seven.join()
        assert running.wait() == 1
    assert "only 6 of at least 7 updates are possible" in running.of("finished")[0]["message"]
    assert len(commits_in(tmp_path / "storage")) == 1
