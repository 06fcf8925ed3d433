"""A real coordinator process and workers without a task, over real gRPC."""

import numpy as np

from coordinating import commits_in, coordinator, errors_of, final_model, workers, write_job


def test_a_small_job_runs_to_its_end(tmp_path):
    job = write_job(tmp_path)
    with coordinator(tmp_path, job) as running, workers(running.address) as three:
        reasons = three.join()
        assert running.wait() == 0, errors_of(tmp_path)
    assert reasons == ["all 2 rounds are done"] * 3
    assert [event["event"] for event in running.events][0] == "listening"
    finished = running.until("finished")
    assert (finished["outcome"], finished["reason"], finished["rounds"]) == ("Complete", "RoundsCompleted", 2)
    assert finished["bytesUp"] > 6 * 4 * 5_000 and finished["bytesDown"] > 6 * 4 * 5_000
    commits = commits_in(tmp_path / "storage")
    assert [commit.round for commit in commits] == [0, 1, 2]
    assert [len(commit.used) for commit in commits] == [1, 3, 3]
    assert final_model(tmp_path / "storage").digest() == commits[-1].model == finished["model"]
    for worker in three.workers:
        assert set(worker.settled.values()) == {True}
        assert not worker.held
        assert set(worker.trainings.values()) == {1}


def test_two_runs_of_one_seed_give_the_same_bits(tmp_path):
    models = []
    for name in ("one", "other"):
        folder = tmp_path / name
        folder.mkdir()
        with coordinator(folder, write_job(folder)) as running, workers(running.address) as three:
            three.join()
            assert running.wait() == 0
        models.append(final_model(folder / "storage"))
    assert np.array_equal(models[0].trainable, models[1].trainable)
