"""The corpus of good and bad manifests. tests/cluster holds the same files against a real API server.

A bad file says in its first lines which fields an API server names, and which only `muster validate` does. Those in
ours/ are not for the server: kubectl takes a key twice, and applies to one namespace at a time.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from muster_spec import Category, Problem, check

CORPUS = Path(__file__).parent / "manifests"
GOOD = sorted(CORPUS.glob("good/*.yaml"))
BAD = sorted([*CORPUS.glob("bad/*.yaml"), *CORPUS.glob("ours/*.yaml")])
CHANGES = sorted(CORPUS.glob("changes/*.new.yaml"))
OURS = {Category.REFERENCE, Category.UNSUPPORTED}


def announced(file: Path, who: str) -> list[str]:
    found = re.search(rf"^# {who}: (.*)$", file.read_text(), re.MULTILINE)
    return sorted(found[1].split(", ")) if found else []


def paths(problems: tuple[Problem, ...], *, ours: bool) -> list[str]:
    return sorted({problem.path for problem in problems if problem.path and (problem.category in OURS) == ours})


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_good_manifests_have_no_problem(file: Path) -> None:
    manifest = check([file])
    assert not manifest.problems
    assert len(manifest.jobs) == 1


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_bad_manifests_name_their_fields(file: Path) -> None:
    problems = check([file]).problems
    assert problems
    assert paths(problems, ours=False) == announced(file, "the API server names")
    assert set(announced(file, "only validate names")) <= set(paths(problems, ours=True))


@pytest.mark.parametrize("file", BAD, ids=lambda file: file.stem)
def test_every_problem_says_where_and_what_would_be_right(file: Path) -> None:
    for problem in check([file]).problems:
        assert problem.file == str(file)
        assert problem.line > 0
        assert problem.message
        assert problem.remedy or problem.category is Category.SYNTAX


@pytest.mark.parametrize("file", CHANGES, ids=lambda file: file.stem)
def test_changes_are_judged_against_the_old_manifest(file: Path) -> None:
    old = file.with_name(file.name.replace(".new.", ".old."))
    problems = check([file], against=[old]).problems
    found = [problem for problem in problems if problem.category is Category.TRANSITION]
    assert sorted(problem.path for problem in found) == announced(file, "the API server names")
    assert not check([old], against=[old]).problems
