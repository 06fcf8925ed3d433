"""Every command that the documentation shows is run, as it stands, unless a comment before it says why not.

A fenced ``sh`` block is run line by line in a folder that looks like the root of the repository. The comment before
it may be ``<!-- not run: why -->``, or ``<!-- run with: ARGUMENTS -->`` to make each `muster run` in it shorter. What
says ``<!-- not run here: … -->`` is run by tests/cluster/test_real_pods.py.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from documented import PAGES, ROOT, blocks
from muster.policy import read_policy


def in_text(name):
    """A file of an example as the README shows it: its comments left out."""
    lines = (ROOT / "examples/your-own-model" / name).read_text().splitlines()
    return "\n".join(line for line in lines if not line.startswith("#")).strip()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("root")
    shutil.copytree(ROOT / "examples", folder / "examples")
    write_hospitals(folder / "heart")
    return folder


def write_hospitals(folder):
    """Four files in UCI's format, of invented patients."""
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name in ("cleveland", "hungarian", "switzerland", "va"):
        sick = rng.integers(0, 2, 60)
        rows = [
            f"{50 + 9 * s + rng.integers(9)}.0,{rng.integers(2)}.0,{1 + i % 4}.0,130.0,240.0,0.0,{i % 3}.0,"
            f"{160 - 20 * s}.0,{s}.0,{rng.random():.1f},?,?,?,{s}"
            for i, s in enumerate(sick)
        ]
        (folder / f"processed.{name}.data").write_text("\n".join(rows) + "\n")


@pytest.mark.parametrize("block", [b for b in blocks() if b.is_run_anywhere], ids=lambda b: b.page)
def test_commands_do_what_they_say(block, root):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for line in block.lines():
        done = subprocess.run(
            ["sh", "-c", line], cwd=root, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def manifests():
    """The manifests that pages show whole."""
    for page in PAGES:
        for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)):
            if text.startswith("apiVersion: muster.dev/"):
                yield pytest.param(text, id=f"{page.relative_to(ROOT)}-{number}")


@pytest.mark.parametrize("text", list(manifests()))
def test_a_manifest_that_is_shown_is_valid(text, tmp_path):
    (tmp_path / "shown.yaml").write_text(text)
    if "\nkind: SitePolicy\n" in text:  # a site's own file, which no cluster sees
        assert read_policy(tmp_path / "shown.yaml").jobs
        return
    command = [sys.executable, "-m", "muster_cli.main", "validate", str(tmp_path / "shown.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_blocks_are_found_at_all():
    assert {block.page for block in blocks()} >= {"README.md", "examples/heart/README.md"}


@pytest.mark.parametrize("name", ["model.py", "job.yaml"])
def test_the_readme_shows_the_example_as_it_is(name):
    assert in_text(name) in (ROOT / "README.md").read_text()


def test_your_own_model_is_twenty_lines():
    code = [line for line in in_text("model.py").splitlines() if line.strip() and '"""' not in line]
    assert len(code) <= 20


def test_the_examples_link_to_what_is_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} names {target}"
