"""A checkpoint on an object store, against an S3 on loopback: whole jobs, deaths, rivals, and damage."""

import itertools
import json
import signal
import socket
from contextlib import ExitStack

import pytest

from bucketing import s3
from coordinating import MORTAL, coordinator, errors_of, workers, write_job
from muster_coordinator.bucket import Bucket
from running import muster
from running import write_job as write_manifest

DOWN = {"down": {"codecs": [{"type": "Int8"}]}, "deltas": True, "up": {"codecs": [{"type": "Int8"}]}}


@pytest.fixture(scope="module")
def store():
    with s3() as running:
        yield running


def test_a_run_leaves_its_checkpoint_there_and_goes_on_from_it(store, tmp_path):
    write_manifest(tmp_path)
    place = json.dumps({"type": "Url", "url": {"url": store.url("run")}})
    run = ("run", "job.yaml", "--json", "--no-baselines", "--out", "out", "--set", f"spec.checkpoint.storage={place}")
    done = muster(*run, "--set", "spec.rounds.total=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [commit.round for commit in store.commits("run")] == [0, 1, 2]
    names = store.names("run")
    assert {"job.json", "final.safetensors", "best.safetensors", "epochs/000001"} <= set(names)
    assert store.read("run", "final.safetensors") == (tmp_path / "out" / "model.safetensors").read_bytes()
    again = muster(*run, "--set", "spec.rounds.total=3", "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert [commit.round for commit in store.commits("run")] == [0, 1, 2, 3]
    assert "epochs/000002" in store.names("run")


def test_coordinators_that_die_find_everything_there(store, tmp_path):
    """Each on an empty machine: nothing of the one before is left but what the store has."""
    job = write_job(tmp_path, rounds={"total": 3}, strategy={"type": "FedAdam"}, compression=DOWN)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    codes = []
    with workers(address) as three:
        for place in itertools.count(45, 45):
            arguments = ("--scratch", tmp_path / f"machine-{len(codes)}")
            launcher = (MORTAL, place, tmp_path / "places")
            with coordinator(tmp_path, job, address, launcher, arguments, storage=store.url("killed")) as running:
                codes.append(running.wait())
            if codes[-1] == 0:
                break
        trainings = [worker.trainings for worker in three.workers]
    assert len(codes) > 2
    assert codes == [-signal.SIGKILL] * (len(codes) - 1) + [0], errors_of(tmp_path)
    assert [commit.round for commit in store.commits("killed")] == [0, 1, 2, 3]
    assert {count for counter in trainings for count in counter.values()} == {1}


def test_of_two_coordinators_one_leaves(store, tmp_path):
    job = write_job(tmp_path, rounds={"total": 12})
    with ExitStack() as both:
        running = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            arguments = ("--scratch", folder / "scratch")
            rival = coordinator(folder, job, arguments=arguments, storage=store.url("rivals"))
            running.append(both.enter_context(rival))
            running[-1].until("listening")
        for rival in running:
            both.enter_context(workers(rival.address))
        codes = sorted(rival.wait() for rival in running)
    assert codes == [0, 3]
    commits = store.commits("rivals")
    assert [commit.round for commit in commits] == list(range(13))
    assert {commit.base for commit in commits[1:]} == {commit.model for commit in commits[:-1]}


def filled(store, folder, tmp_path, rounds=3):
    """A job that has run, on a store; what it takes to start it again."""
    job = write_job(tmp_path, rounds={"total": rounds})
    run_on(store, folder, job, tmp_path)
    return job


def run_on(store, folder, job, tmp_path):
    arguments = ("--scratch", tmp_path / "scratch")
    with coordinator(tmp_path, job, arguments=arguments, storage=store.url(folder)) as running:
        with workers(running.address):
            assert running.wait() == 0, errors_of(tmp_path)
        return [event["message"] for event in running.of("warning")]


def test_what_is_torn_or_altered_costs_its_rounds(store, tmp_path):
    job = filled(store, "damaged", tmp_path)
    record = store.read("damaged", "rounds/000003.json")
    store.write("damaged", "rounds/000003.json", record[: len(record) // 2])
    name = f"models/{store.commits_of('damaged', 2).model}.safetensors"
    model = bytearray(store.read("damaged", name))
    model[-1] ^= 1
    store.write("damaged", name, bytes(model))
    said = run_on(store, "damaged", job, tmp_path)
    assert any("rounds/000003.json" in message and "kept as" in message for message in said)
    assert any("doesn't have its digest any more" in message for message in said)
    assert any("going on from round 1" in message for message in said)
    assert [commit.round for commit in store.commits("damaged")] == [0, 1, 2, 3]
    assert store.read("damaged", "rounds/000003.json.corrupt") == record[: len(record) // 2]
    assert store.read("damaged", f"{name}.corrupt") == bytes(model)


def test_a_commit_whose_answer_was_lost_is_still_ours(store):
    """The library below asks again, and finds our own object in the way."""
    bucket = Bucket(store.url("lost"))
    assert bucket.create("rounds/000001.json", b"ours")
    assert bucket.create("rounds/000001.json", b"ours")
    assert not bucket.create("rounds/000001.json", b"theirs")
    assert bucket.read(["rounds/000001.json"]) == {"rounds/000001.json": b"ours"}


@pytest.mark.usefixtures("store")
def test_a_bucket_that_is_not_there_is_said(tmp_path):
    job = write_job(tmp_path)
    with coordinator(tmp_path, job, storage="s3://nobodys-bucket/job") as running:
        assert running.wait() in (2, 74)
    assert "s3://nobodys-bucket/job" in errors_of(tmp_path)
    assert "Traceback" not in errors_of(tmp_path)
