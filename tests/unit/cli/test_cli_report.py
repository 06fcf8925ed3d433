"""What a run says last."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from muster_cli.errors import BadInput
from muster_cli.folder import RunFolder
from muster_cli.processes import last_words
from muster_cli.report import done_event, how_to_go_on, refused_event, summary
from muster_cli.session import Ending
from muster_cli.view import View

FOLDER = RunFolder(Path("muster-runs/digits/x"))
VIEW = View(
    job="digits",
    folder="muster-runs/digits/x",
    committed=60,
    measured=60,
    central={"accuracy": 0.97, "loss": 0.1},
    baselines={"pooled": 0.98, "localOnly": 0.3},
    bytes_up=1_000_000,
    bytes_down=2_000_000,
    compression="up int4",
    bytes_saved=0.912,
    first_planned=100.0,
    finished={"time": 120.0},
)
COMPLETE = Ending("Complete", "RoundsCompleted: all 60 rounds are done", 0)


def test_the_closing_event_is_json_with_every_field():
    assert json.loads(json.dumps(done_event(VIEW, COMPLETE, now=130.0, began=90.0))) == {
        "event": "done",
        "time": 130.0,
        "state": "Complete",
        "message": "RoundsCompleted: all 60 rounds are done",
        "rounds": 60,
        "accuracy": 0.97,
        "baselines": {"pooled": 0.98, "localOnly": 0.3},
        "bytesUp": 1_000_000,
        "bytesDown": 2_000_000,
        "compression": "up int4",
        "bytesSaved": 0.912,
        "seconds": 20.0,
        "totalSeconds": 40.0,
        "folder": "muster-runs/digits/x",
    }


def test_a_run_that_could_not_start_closes_with_the_same_fields():
    refused = refused_event(BadInput("job.yaml: no such file"), now=130.0, began=129.5)
    assert refused.keys() == done_event(VIEW, COMPLETE, now=130.0, began=90.0).keys()
    assert (refused["state"], refused["message"], refused["rounds"]) == ("Failed", "job.yaml: no such file", 0)
    assert refused["baselines"] == {"pooled": None, "localOnly": None}


def test_what_was_not_measured_is_null():
    event = done_event(View(), Ending("Failed", "", 1), now=2.0, began=1.0)
    assert (event["accuracy"], event["baselines"]) == (None, {"pooled": None, "localOnly": None})


def test_what_compression_saved_is_said_where_it_saved_anything():
    assert "91.2 % fewer bytes than float32: up int4" in summary(VIEW, COMPLETE, FOLDER, now=130.0)
    plain = replace(VIEW, bytes_saved=-0.001)
    assert not any("fewer" in line for line in summary(plain, COMPLETE, FOLDER, now=130.0))


def test_a_complete_run_shows_its_result_and_its_model():
    text = "\n".join(summary(VIEW, COMPLETE, FOLDER, now=130.0))
    for words in ("digits: Complete", "60 rounds in 0:20", "97.0 %", "98.0 %", "30.0 %", "x/model.safetensors"):
        assert words in text


@pytest.mark.parametrize(("state", "words"), [("Suspended", "Nothing is lost"), ("Failed", "What was learnt is kept")])
def test_a_run_that_did_not_complete_says_how_to_go_on(state, words):
    line = how_to_go_on(Ending(state, "", 1), "muster run job.yaml --resume")
    assert line.startswith(words)
    assert line.endswith("muster run job.yaml --resume")


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("2026-01-31 10:00:00,123 ERROR leaving: no such pool\n\n", "leaving: no such pool"),
        ("10:00:00 ERROR no\n10:00:01 WARNING the port is in use\n", "the port is in use"),
        ("--listen 1.2.3.4:5: not an address of this machine\n", "--listen 1.2.3.4:5: not an address of this machine"),
        ("", ""),
    ],
)
def test_the_last_words_of_a_process(tmp_path, log, words):
    (tmp_path / "x.log").write_text(log)
    assert last_words(tmp_path / "x.log") == words
