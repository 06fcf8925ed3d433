"""Everything that a user can get wrong: one message that names the place and the remedy, and no traceback."""

import re

import pytest

from running import muster, write_job

POOLS_ELSEWHERE = "spec.pools=[{name: nowhere}]"


def refuse(done, code, *patterns):
    words = done.stderr + done.stdout
    assert done.returncode == code, words
    assert "Traceback" not in words
    for pattern in patterns:
        assert re.search(pattern, words), words


@pytest.mark.parametrize(
    ("arguments", "patterns"),
    [
        (["--set", "spec.rounds.totall=5"], [r"spec\.rounds\.totall", r"total\b"]),
        (["--set", "spec.rounds.total=many"], [r"spec\.rounds\.total:", "integer"]),
        (["--set", "spec.rounds.total=0"], [r"spec\.rounds\.total:"]),
        (["--set", POOLS_ELSEWHERE], [r"spec\.pools", "nowhere"]),
        (["--set", "total=5"], ["--set total=5: write it as"]),
        (["--data", "no-such-folder"], ["--data: no-such-folder can't be read .*No such file", "--data"]),
        (["--data", "job.yaml"], ["--data: job.yaml is not a directory"]),
        (["--resume"], ["no run of small to go on with; leave out --resume"]),
        (["--job", "other"], ["other", "small"]),
    ],
)
def test_a_mistake_is_told_before_anything_starts(tmp_path, arguments, patterns):
    refuse(muster("run", write_job(tmp_path).name, *arguments, cwd=tmp_path), 2, *patterns)
    assert not (tmp_path / "muster-runs").exists()


def test_a_file_that_is_not_there(tmp_path):
    refuse(muster("run", "nothing.yaml", cwd=tmp_path), 2, "nothing.yaml: can't be read: No such file")


@pytest.mark.parametrize(
    ("setting", "pattern"),
    [
        (
            "spec.task.entrypoint=small:Smal",
            r"spec\.task\.entrypoint: small has no class Smal; did you mean small:Small",
        ),
        ("spec.task.entrypoint=nothing:Task", r"spec\.task\.entrypoint: there is no module nothing"),
        (
            "spec.task.entrypoint=small:Broken",
            r"spec\.task\.entrypoint: small:Broken is not a class derived from muster.Task",
        ),
        ("spec.task.config.secnds=1", r"secnds"),
        ("spec.task.config.trouble=raise", r"train raised ValueError: no such scanner"),
        ("spec.task.config.trouble=nan", r"(?i)not finite|NaN"),
        ("spec.task.config.trouble=shape", r"(?i)shape"),
    ],
)
def test_a_task_that_does_not_work_fails_the_job_in_its_own_words(tmp_path, setting, pattern):
    quick = ["--set", "spec.rounds.maxFailedRounds=1", "--no-baselines"]
    done = muster("run", write_job(tmp_path).name, "--set", setting, *quick, cwd=tmp_path)
    refuse(done, 1, pattern)


@pytest.mark.parametrize("trouble", ["raise", "nan", "shape"])
def test_one_client_in_trouble_costs_its_update_and_no_more(tmp_path, trouble):
    settings = ["--set", f"spec.task.config={{trouble: {trouble}, victim: 3}}", "--no-baselines", "--out", "run"]
    done = muster("run", write_job(tmp_path).name, *settings, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout
    assert "b/1" in done.stdout
    assert "round   4/4  3/4 updates" in done.stdout


def test_a_corrupt_checkpoint_loses_nothing_that_is_still_there(tmp_path):
    job = write_job(tmp_path).name
    assert muster("run", job, "--out", "run", "--no-baselines", cwd=tmp_path).returncode == 0
    newest = tmp_path / "run/checkpoint/rounds/000004.json"
    newest.write_bytes(newest.read_bytes()[:-20])
    done = muster("run", job, "--out", "run", "--no-baselines", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search("000004", done.stdout + done.stderr)
    assert "round   4/4" in done.stdout
    for record in (tmp_path / "run/checkpoint/rounds").glob("*.json"):
        record.write_text("nonsense")
    refuse(muster("run", job, "--out", "run", "--resume", cwd=tmp_path), 2, "checkpoint")


def test_another_specification_cannot_go_on_with_a_run(tmp_path):
    job = write_job(tmp_path).name
    assert muster("run", job, "--out", "run", "--no-baselines", cwd=tmp_path).returncode == 0
    changed = ["--set", "spec.local.learningRate=0.2", "--resume", "--out", "run"]
    refuse(muster("run", job, *changed, cwd=tmp_path), 2, r"spec\.local\.learningRate: was 0.1, is now 0.2")


def test_a_folder_that_holds_a_run_is_not_written_over(tmp_path):
    (tmp_path / "run/checkpoint").mkdir(parents=True)
    refuse(
        muster("run", write_job(tmp_path).name, "--out", "run", cwd=tmp_path), 2, "run: already holds a run.*--resume"
    )


def test_a_worker_without_a_token_says_how_to_give_one(tmp_path):
    done = muster("worker", "--coordinator", "127.0.0.1:1", "--pool", "a", cwd=tmp_path, MUSTER_TOKEN="")
    refuse(done, 2, "MUSTER_TOKEN: not set")


def test_debug_shows_where(tmp_path):
    done = muster("run", "nothing.yaml", "--debug", cwd=tmp_path)
    assert "Traceback" in done.stderr
