"""scripts/retest: who fails few tests gets a second go, and both are told of."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "retest"

TESTS = """
from pathlib import Path
import pytest

def counted(name):
    mark = Path(__file__).parent / name
    goes = int(mark.read_text()) if mark.exists() else 0
    mark.write_text(str(goes + 1))
    return goes

def test_that_holds():
    counted("holds")

@pytest.mark.parametrize("number", range({chances}))
def test_of_chance(number):
    assert counted(f"chance{{number}}") > 0

@pytest.mark.parametrize("number", range({bugs}))
def test_that_is_right(number):
    assert counted(f"bug{{number}}") < 0
"""


@pytest.fixture
def retest(tmp_path):
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    pytest_here = tmp_path / "pytest"
    pytest_here.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pytest "$@"\n')
    pytest_here.chmod(0o755)

    def run(chances=0, bugs=0):
        (tmp_path / "test_chance.py").write_text(TESTS.format(chances=chances, bugs=bugs))
        done = subprocess.run(
            [tmp_path / "scripts" / "retest", "trial", "-q", "test_chance.py"],
            env={**os.environ, "PYTEST": str(pytest_here)},
            capture_output=True,
            text=True,
            check=False,
        )
        return done, lambda name: int((tmp_path / name).read_text())

    return run


def test_what_passes_is_run_once(retest):
    done, goes = retest()
    assert (done.returncode, goes("holds")) == (0, 1)
    assert "second go" not in done.stdout


def test_chance_gets_a_second_go_alone_and_both_are_told_of(retest):
    done, goes = retest(chances=2)
    assert (done.returncode, goes("holds"), goes("chance0"), goes("chance1")) == (0, 1, 2, 2), done.stdout
    assert "2 failed, 1 passed" in done.stdout
    told = done.stdout.partition("failed at the first go and passed at the second:\n")[2]
    assert told.split() == ["test_chance.py::test_of_chance[0]", "test_chance.py::test_of_chance[1]"]


def test_what_fails_twice_has_failed(retest):
    done, goes = retest(chances=1, bugs=1)
    assert (done.returncode, goes("bug0"), goes("holds")) == (1, 2, 1)
    assert "passed at the second" not in done.stdout


def test_many_that_fail_are_no_chance(retest):
    done, goes = retest(chances=4)
    assert (done.returncode, goes("chance3")) == (1, 1)
    assert "second go" not in done.stdout
