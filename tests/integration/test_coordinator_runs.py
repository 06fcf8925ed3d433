"""A real coordinator process and workers without a task, over real gRPC."""

import signal
import socket

import numpy as np
import pytest
from safetensors.numpy import save_file

from coordinating import commits_in, coordinator, errors_of, final_model, workers, write_job
from muster_coordinator.models import read_model


def test_a_small_job_runs_to_its_end(tmp_path):
    job = write_job(tmp_path)
    with coordinator(tmp_path, job) as running, workers(running.address) as three:
        reasons = three.join()
        assert running.wait() == 0, errors_of(tmp_path)
    assert reasons == ["all 2 rounds are done"] * 3
    assert running.events[0]["event"] == "listening"
    finished = running.until("finished")
    assert (finished["outcome"], finished["reason"], finished["rounds"]) == ("Complete", "RoundsCompleted", 2)
    assert min(finished["bytesUp"], finished["bytesDown"]) > 6 * 4 * 5_000
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


def test_stopped_by_sigterm_it_is_resumed(tmp_path):
    job = write_job(tmp_path, rounds={"total": 40})
    with coordinator(tmp_path, job) as running, workers(running.address) as three:
        address = running.address
        running.until("committed", round=3)
        running.process.send_signal(signal.SIGTERM)
        assert running.wait() == 143, errors_of(tmp_path)
        last = len(commits_in(tmp_path / "storage")) - 1
        assert last >= 3
        shorter = write_job(tmp_path, rounds={"total": 40})
        with coordinator(tmp_path, shorter, address) as again:
            assert again.until("resumed")["round"] == last + 1
            three.join()
            assert again.wait() == 0
    assert [commit.round for commit in commits_in(tmp_path / "storage")] == list(range(41))
    assert {count for worker in three.workers for count in worker.trainings.values()} == {1}


def test_it_leaves_when_its_stdin_is_closed(tmp_path):
    job = write_job(tmp_path)
    with coordinator(tmp_path, job, arguments=["--exit-with-stdin"]) as running:  # its stdin is /dev/null
        assert running.wait() == 143, errors_of(tmp_path)


def test_a_job_that_was_over_may_grow(tmp_path):
    with coordinator(tmp_path, write_job(tmp_path)) as running, workers(running.address) as three:
        three.join()
        assert running.wait() == 0
    with coordinator(tmp_path, write_job(tmp_path, rounds={"total": 3})) as running, workers(running.address) as three:
        three.join()
        assert running.wait() == 0
    assert len(commits_in(tmp_path / "storage")) == 4


def test_two_coordinators_on_one_storage_one_is_fenced(tmp_path):
    job = write_job(tmp_path, rounds={"total": 60})
    one, two, storage = tmp_path / "one", tmp_path / "two", tmp_path / "storage"
    storage.mkdir()
    for folder in (one, two):
        folder.mkdir()
        (folder / "storage").symlink_to(storage)
    with (
        coordinator(one, job) as first,
        workers(first.address),
        coordinator(two, job) as second,
        workers(second.address),
    ):
        codes = sorted((first.wait(), second.wait()))
        assert codes == [0, 3], errors_of(one) + errors_of(two)
    assert "another coordinator" in errors_of(one) + errors_of(two)
    assert [commit.round for commit in commits_in(storage)] == list(range(61))


def test_lossy_codecs_verify_on_both_sides(tmp_path):
    """Workers check the digest of what they decode; the exact model stays in float32 at the coordinator."""
    job = write_job(tmp_path, compression={"preset": "light"})
    with coordinator(tmp_path, job) as running, workers(running.address) as three:
        three.join()
        assert running.wait() == 0, errors_of(tmp_path)
    finished = running.until("finished")
    assert finished["bytesUp"] < 4 * 5_000 + 7 * 4 * 5_000 * 0.55
    model = final_model(tmp_path / "storage")
    assert not np.array_equal(model.trainable, model.trainable.astype(np.float16).astype(np.float32))


def test_the_first_model_may_come_from_a_file(tmp_path):
    path = tmp_path / "first.safetensors"
    weight = np.arange(5_000, dtype=np.float32)
    save_file({"weight": weight, "running_mean": np.zeros(4, np.float32), "steps": np.array(0)}, path)
    job = write_job(tmp_path, task={"initialModel": {"type": "File", "file": {"path": str(path)}}})
    with coordinator(tmp_path, job) as running, workers(running.address) as three:
        three.join()
        assert running.wait() == 0, errors_of(tmp_path)
    first = read_model(tmp_path / "storage" / "models" / f"{commits_in(tmp_path / 'storage')[0].model}.safetensors")
    assert np.array_equal(first.values.trainable, weight)
    assert not [name for worker in three.workers for name in worker.trainings if name.startswith("0.")]


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda job, _: job.write_text("{}"), "not a resolved job"),
        (lambda _, storage: storage.write_text(""), "Not a directory"),
        (lambda _, storage: (storage.mkdir(), (storage / "job.json").write_text("x")), "says whose history this is"),
    ],
)
def test_bad_input_is_one_plain_line(tmp_path, prepare, words):
    job = write_job(tmp_path)
    prepare(job, tmp_path / "storage")
    with coordinator(tmp_path, job) as running:
        assert running.wait() == 2
    (line,) = errors_of(tmp_path).splitlines()
    assert words in line


def test_a_port_in_use_is_one_plain_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        job = write_job(tmp_path)
        with coordinator(tmp_path, job, f"127.0.0.1:{taken.getsockname()[1]}") as running:
            assert running.wait() == 2
    assert "another process may have this port" in errors_of(tmp_path).splitlines()[-1]
    assert not (tmp_path / "storage").exists()


def test_another_specification_is_refused_by_its_path(tmp_path):
    with coordinator(tmp_path, write_job(tmp_path)) as running, workers(running.address) as three:
        three.join()
        assert running.wait() == 0
    with coordinator(tmp_path, write_job(tmp_path, local={"learningRate": 0.5})) as running:
        assert running.wait() == 2
    assert "spec.local.learningRate: was" in errors_of(tmp_path)


def test_a_damaged_newest_model_costs_one_round(tmp_path):
    with coordinator(tmp_path, write_job(tmp_path)) as running, workers(running.address) as three:
        three.join()
        assert running.wait() == 0
    commits = commits_in(tmp_path / "storage")
    path = tmp_path / "storage" / "models" / f"{commits[-1].model}.safetensors"
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    with coordinator(tmp_path, write_job(tmp_path)) as running, workers(running.address) as three:
        three.join()
        assert running.wait() == 0, errors_of(tmp_path)
    assert any("doesn't have its digest" in event["message"] for event in running.of("warning"))
    again = commits_in(tmp_path / "storage")
    assert [commit.round for commit in again] == [0, 1, 2]
    assert again[-1].model == commits[-1].model
    assert path.with_name(f"{path.name}.corrupt").exists()
