"""Jobs with hostile clients, over real processes: robust rules bear them, the mean doesn't, bounds refuse them."""

import numpy as np
import pytest

from coordinating import WEIGHTS, commits_in, coordinator, errors_of, final_model, workers, write_job
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
        {"type": "CenteredClipping", "centeredClipping": {"radius": 40}},
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
