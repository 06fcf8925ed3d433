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
        (["--set", "spec.rounds.total=many"], [r"spec\.rounds\.total:", "not a whole number"]),
        (["--set", "spec.rounds.total=0"], [r"spec\.rounds\.total:"]),
        (["--set", POOLS_ELSEWHERE], [r"spec\.pools", "nowhere"]),
        (["--set", "total=5"], [r"spec\.total: there is no such field"]),
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
        ("spec.task.config.secnds=1", r"secnds"),
        ("spec.task.config.everybody=raise", r"train raised ValueError: no such scanner"),
    ],
)
def test_a_task_that_does_not_work_fails_the_job_in_its_own_words(tmp_path, setting, pattern):
    quick = ["--set", "spec.rounds.maxFailedRounds=1", "--no-baselines"]
    done = muster("run", write_job(tmp_path).name, "--set", setting, *quick, cwd=tmp_path)
    refuse(done, 1, pattern)


def test_clients_in_trouble_cost_their_updates_and_no_more(tmp_path):
    job = write_job(tmp_path, trouble={"0": "raise", "1": "nan", "2": "shape"}).name
    bigger = ["--set", "spec.pools.1.inline.clients=5", "--no-baselines"]
    done = muster("run", job, *bigger, cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    words = done.stdout + done.stderr
    assert "Traceback" not in words
    assert re.search(r"a/0: train raised ValueError: no such scanner", words)
    assert re.search(r"(?i)a/1: .*(not finite|NaN)", words)
    assert re.search(r"b/0: the coordinator's model is not the one this task builds: it has weight \[2, 4\]", words)
    assert "round   4/4  4/7 updates" in words


def test_a_corrupt_checkpoint_loses_nothing_that_is_still_there(tmp_path):
    job = write_job(tmp_path).name
    again = ("run", job, "--out", "run", "--no-baselines", "--resume")
    assert muster(*again[:-1], cwd=tmp_path).returncode == 0
    newest = tmp_path / "run/checkpoint/rounds/000004.json"
    newest.write_bytes(newest.read_bytes()[:-20])
    done = muster(*again, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search("000004.json: .*kept as 000004.json.corrupt", done.stdout)
    assert re.findall(r"round   (\d)/4  4/4 updates", done.stdout) == ["4"]
    (tmp_path / "run/checkpoint/job.json").write_text("nonsense")
    refuse(muster(*again, cwd=tmp_path), 2, r"job\.json")


def test_another_specification_cannot_go_on_with_a_run(tmp_path):
    job, short = write_job(tmp_path).name, ("--set", "spec.rounds.total=1", "--out", "run", "--no-baselines")
    assert muster("run", job, *short, cwd=tmp_path).returncode == 0
    changed = ["--set", "spec.local.learningRate=0.2", "--resume"]
    refuse(muster("run", job, *short, *changed, cwd=tmp_path), 2, r"spec\.local\.learningRate: was 0.1, is now 0.2")


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
