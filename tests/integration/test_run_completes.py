"""`muster run`, undisturbed: real processes, real gRPC, a model in the end."""

import json
import os
import re
import subprocess
import sys

import pytest
from safetensors.numpy import load_file

from running import muster, write_job

CLOSING = {"event", "time", "state", "message", "rounds", "accuracy", "baselines", "bytesUp", "bytesDown", "seconds",
           "totalSeconds", "folder", "compression", "bytesSaved"}  # fmt: skip


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    folder = tmp_path_factory.mktemp("complete")
    done = muster("run", write_job(folder), "--json", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_stdout_is_one_json_object_a_line_and_closes_with_done(complete):
    _, done = complete
    events = [json.loads(line) for line in done.stdout.splitlines()]
    closing = events[-1]
    assert set(closing) == CLOSING
    assert (closing["event"], closing["state"], closing["rounds"]) == ("done", "Complete", 4)
    assert 0.9 < closing["accuracy"] <= 1.0
    assert set(closing["baselines"]) == {"pooled", "localOnly"}
    assert all(0.5 < score <= 1.0 for score in closing["baselines"].values())
    assert closing["bytesUp"] > 0
    assert closing["bytesDown"] > 0
    assert 0 < closing["seconds"] < closing["totalSeconds"]
    assert [event["round"] for event in events if event["event"] == "committed"] == [0, 1, 2, 3, 4]


def test_the_folder_holds_everything(complete):
    folder, done = complete
    run = folder / "run"
    assert (run / "metrics.jsonl").read_text() == done.stdout
    assert "learningRate: 0.1" in (run / "manifest.yaml").read_text()
    assert load_file(run / "model.safetensors")["weight"].shape == (2, 4)
    logs = {log.name for log in (run / "logs").iterdir()}
    assert {"coordinator.log", "nursery.log", "a-0.log", "a-1.log", "b-0.log", "b-1.log"} <= logs
    assert not (run / "token").exists()


def test_the_secret_is_nowhere_in_the_folder_or_the_words(complete):
    folder, done = complete
    assert "Bearer" not in done.stdout + done.stderr
    assert not list((folder / "run").rglob("*token*"))


def test_going_on_with_a_complete_run_changes_nothing(complete):
    folder, done = complete
    model = (folder / "run/model.safetensors").read_bytes()
    again = muster("run", "job.yaml", "--json", "--out", "run", "--resume", "--no-baselines", cwd=folder)
    closing, before = json.loads(again.stdout.splitlines()[-1]), json.loads(done.stdout.splitlines()[-1])
    assert again.returncode == 0, again.stderr
    kept = ("state", "rounds", "accuracy", "bytesUp", "bytesDown")
    assert [closing[name] for name in kept] == [before[name] for name in kept]
    assert (folder / "run/model.safetensors").read_bytes() == model


def test_the_same_seed_gives_the_same_bits_and_plain_lines_say_so(complete, tmp_path):
    folder, _ = complete
    again = muster("run", write_job(tmp_path), "--out", tmp_path / "run", "--no-baselines", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "pool a (Kubernetes, 2 clients) runs here as 2 local processes" in again.stdout
    assert "round   4/4  4/4 updates" in again.stdout
    assert "federated" in again.stdout
    ours, theirs = (load_file(run / "run/model.safetensors") for run in (folder, tmp_path))
    assert {name: values.tobytes() for name, values in ours.items()} == {n: v.tobytes() for n, v in theirs.items()}


def test_a_terminal_gets_a_picture(tmp_path):
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "muster_cli.main", "run", write_job(tmp_path, seconds=0.3), "--no-baselines"]
    terminal = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    with subprocess.Popen(command, cwd=tmp_path, stdout=theirs, stderr=theirs, env=terminal) as process:
        os.close(theirs)
        shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(chunks_of(ours)).decode())
    assert process.returncode == 0, shown
    for words in ("small · training", "Kubernetes, here as local processes", "deadline 0:", "small · finished"):
        assert words in shown


def chunks_of(descriptor):
    """All that a program writes to its terminal, until it is gone."""
    while True:
        try:
            yield os.read(descriptor, 65536)
        except OSError:  # EIO: the other end is closed
            os.close(descriptor)
            return
