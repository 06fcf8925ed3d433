"""The selector, fastest-K and the codecs, each switched off in the coordinator: its tests fail, and the simulation's.

So the simulation runs what production runs, and has no policy of its own. Each mutant is a copy of the packages with
one line changed; both sides' tests are run against it.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("operator", "worker", "protos")
TESTS_FAILED = 1


@dataclass(frozen=True)
class Mutant:
    """`off` takes the place of `on` in a module of the coordinator; the tests whose business that is, on both sides."""

    module: str
    on: str
    off: str
    coordinator: str
    simulation: str


MUTANTS = {
    "selector": Mutant(
        "planning.py",
        "choices = config.selector(request)\n    number",
        'choices = tuple(Choice(client, "the first") for client in request.eligible[: request.wanted])\n    number',
        "tests/unit/coordinator/test_engine_runs.py",
        "tests/unit/cli/test_simulations.py::test_the_selector_of_the_job_chooses",
    ),
    "fastest-K": Mutant(
        "planning.py",
        'return Number(config.min_updates or config.cohort, "")',
        'return Number(config.cohort, "")',
        "tests/unit/coordinator/test_engine_runs.py",
        "tests/unit/cli/test_simulations.py::test_fastest_k_waits_for_as_many_as_it_says_and_no_more",
    ),
    "codec": Mutant(
        "compression.py",
        "preset = PRESETS[compression.preset]",
        'preset = PRESETS["none"]',
        "tests/unit/coordinator/test_compression.py",
        "tests/unit/cli/test_simulations.py::test_what_a_codec_saves_is_saved_time",
    ),
}


@pytest.fixture(params=MUTANTS)
def mutant(request, tmp_path):
    """One of them, and where its packages are."""
    made = MUTANTS[request.param]
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "crds", tmp_path / "crds")
    path = tmp_path / "operator" / "muster_coordinator" / made.module
    text = path.read_text()
    assert text.count(made.on) == 1, f"{made.module} has changed: say again where {request.param} is switched off"
    path.write_text(text.replace(made.on, made.off))
    return made, tmp_path


@pytest.mark.parametrize("side", ["coordinator", "simulation"])
def test_switching_it_off_fails(mutant, side):
    made, packages = mutant
    path = os.pathsep.join(str(packages / package) for package in PACKAGES)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", getattr(made, side)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == TESTS_FAILED, done.stdout[-2000:]
    assert "AssertionError" in done.stdout or "assert " in done.stdout, done.stdout[-2000:]
