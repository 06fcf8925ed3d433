"""When a run's folder may be used."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from muster_cli.errors import BadInput
from muster_cli.folder import RunFolder, check_data, choose_folder, lock_folder, make_folder

NOW = datetime(2026, 1, 31, 9, 15, tzinfo=UTC)


@pytest.fixture(autouse=True)
def here(tmp_path):
    before = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(before)


def make_run(path):
    folder = RunFolder(Path(path))
    make_folder(folder)
    return folder


def test_a_fresh_run_is_named_by_job_and_time():
    assert choose_folder("digits", None, False, NOW).path == Path("muster-runs/digits/2026-01-31T09-15-00Z")


def test_a_folder_that_holds_a_run_is_refused_with_both_remedies():
    make_run("mine")
    with pytest.raises(BadInput, match=r"mine: already holds a run.*--resume.*--out"):
        choose_folder("digits", Path("mine"), False, NOW)


def test_a_folder_that_only_exists_is_fine(here):
    (here / "mine").mkdir()
    assert choose_folder("digits", Path("mine"), False, NOW).path == Path("mine")


def test_resume_takes_the_newest_run_of_the_job():
    for name in ("digits/2026-01-30T00-00-00Z", "digits/2026-01-31T00-00-00Z", "heart/2026-02-01T00-00-00Z"):
        make_run(f"muster-runs/{name}")
    (Path("muster-runs/digits/2026-02-02T00-00-00Z")).mkdir()
    assert choose_folder("digits", None, True, NOW).path == Path("muster-runs/digits/2026-01-31T00-00-00Z")


@pytest.mark.parametrize("out", [None, Path("nothing-here")])
def test_resume_without_a_run_says_where_it_looked(out):
    with pytest.raises(BadInput, match=r"(muster-runs/digits|nothing-here).*no run"):
        choose_folder("digits", out, True, NOW)


def test_only_one_runner_at_a_time():
    folder = make_run("mine")
    held = lock_folder(folder)
    with pytest.raises(BadInput, match="another `muster run`"):
        lock_folder(folder)
    os.close(held)
    os.close(lock_folder(folder))


def test_a_folder_that_cannot_be_made_is_said_so(here):
    (here / "file").write_text("")
    with pytest.raises(BadInput, match=r"file/run: can't be made .*--out"):
        make_folder(RunFolder(Path("file/run")))


def test_data_must_be_a_readable_directory(here):
    (here / "file").write_text("")
    check_data("--data", str(here))
    with pytest.raises(BadInput, match="--data: file is not a directory"):
        check_data("--data", "file")
    with pytest.raises(BadInput, match=r"pool cloud: spec.data.path: /nowhere can't be read .*No such file.*--data"):
        check_data("pool cloud: spec.data.path", "/nowhere")
