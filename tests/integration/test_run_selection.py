"""Policies of selection and deadlines with real processes: what a job asks for is what its events and records say."""

import json

import pytest

from running import muster, write_job

RULES = (
    "spec.rounds.cohort=3",
    "spec.rounds.minUpdates=2",
    "spec.rounds.deadlineControl={type: Adaptive, adaptive: {minSeconds: 5}}",
    "spec.rounds.inclusionCorrection={maxFactor: 2}",
    "spec.rounds.stragglers={type: Partial}",
    "spec.selection={type: Adaptive, memory: {path: known}}",
)


def run(folder, out):
    changes = [word for rule in RULES for word in ("--set", rule)]
    done = muster("run", "job.yaml", "--json", "--no-baselines", "--out", out, *changes, cwd=folder)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def carried(folder, out):
    (file,) = (folder / out).rglob("carried.json")
    return json.loads(file.read_text())["record"]["clients"]


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Two jobs on the same pools, one after the other."""
    folder = tmp_path_factory.mktemp("selection")
    write_job(folder)
    return folder, run(folder, "first"), run(folder, "second")


def test_every_choice_has_its_reason_and_every_deadline_too(jobs):
    _, first, _ = jobs
    planned = [event for event in first if event["event"] == "planned" and event["round"]]
    assert len(planned) == 4
    for event in planned:
        assert len(event["cohort"]) == 3
        assert set(event["reasons"]) == set(event["cohort"])
        assert all(reason.startswith("adaptive: among the best of ") for reason in event["reasons"].values())
        assert event["deadlineReason"]
    assert planned[0]["deadlineSeconds"] == 20
    assert planned[-1]["deadlineSeconds"] == 5  # they take a moment, and this is the least


def test_the_records_say_how_long_each_update_took(jobs):
    folder, _, _ = jobs
    commits = [json.loads(file.read_text())["record"] for file in sorted((folder / "first").rglob("rounds/*.json"))]
    used = [update for commit in commits[1:] for update in commit["used"]]
    assert used
    assert all(0 < update["elapsedS"] < 20 and update["norm"] > 0 and update["sizeBytes"] > 0 for update in used)


def test_the_second_job_begins_with_what_the_first_one_left(jobs):
    folder, first, _ = jobs
    assert carried(folder, "first") == {}
    known = carried(folder, "second")
    committed = sum(event["used"] for event in first if event["event"] == "committed" and event["round"])
    assert sum(client["used"] for client in known.values()) == committed
    assert all(client["pace"] > 0 for client in known.values())
    assert {file.name for file in (folder / "known").iterdir()} == {"a.json", "b.json"}
