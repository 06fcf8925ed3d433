import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from muster_cli.validate import validate

POOL = """
apiVersion: muster.dev/v1alpha1
kind: ClientPool
metadata: {name: cloud}
spec: {type: Kubernetes, clients: 6, template: {image: mine}}
"""
JOB = """
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {name: digits}
spec:
  task: {entrypoint: "a:B"}
  pools: [{name: cloud}]
  rounds: {total: 60}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(f"{POOL}---{JOB}")
    return path


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(validate, [str(argument) for argument in arguments])


def test_a_good_manifest(manifest: Path) -> None:
    result = run(manifest)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "Valid: 1 ClientPool, 1 FederatedJob.",
        "ClientPool/cloud: these take effect on a cluster: spec.template",
    ]


def test_every_problem_at_once_with_its_place_and_remedy(manifest: Path) -> None:
    text = manifest.read_text().replace("total: 60", "totl: 5, cohort: 7, minUpdates: 8").replace('"a:B"', '"a.B"')
    manifest.write_text(text.replace("clients: 6", "clients: none"))
    result = run(manifest)
    assert result.exit_code == 1
    head = [line for line in result.output.splitlines() if line and not line.startswith(" ")]
    assert [line.split(": ")[0:2] for line in head[:-1]] == [
        [f"{manifest}:5, document 1, ClientPool/cloud", "spec.clients"],
        [f"{manifest}:11, document 2, FederatedJob/digits", "spec.task.entrypoint"],
        [f"{manifest}:13, document 2, FederatedJob/digits", "spec.rounds.totl"],
        [f"{manifest}:13, document 2, FederatedJob/digits", "spec.rounds.minUpdates"],
    ]
    assert head[-1] == f"4 problems in {manifest}."
    assert "    → did you mean total?" in result.output


@pytest.mark.parametrize("content", [None, "a: [", "a: 1\na: 2"])
def test_what_can_not_be_read_is_another_exit_code(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "job.yaml"
    if content:
        path.write_text(content)
    result = run(path)
    assert result.exit_code == 2
    assert str(path) in result.output
    assert "Traceback" not in result.output


def test_explain_prints_what_could_be_applied_with_defaults_marked(manifest: Path, tmp_path: Path) -> None:
    result = run(manifest, "--explain", "--set", "rounds.target={value: 0.9}")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    for line in ("    total: 60", "      value: 0.9", "      metric: accuracy  # default", "    epochs: 1  # default"):
        assert line in lines
    again = tmp_path / "again.yaml"
    again.write_text(result.output)
    assert run(again).exit_code == 0
    assert [one["kind"] for one in yaml.safe_load_all(result.output)] == ["ClientPool", "FederatedJob"]


def test_explain_needs_to_know_which_job(manifest: Path) -> None:
    manifest.write_text(manifest.read_text() + "---" + JOB.replace("digits", "heart"))
    result = run(manifest, "--explain")
    assert result.exit_code == 1
    assert "say which with --job (digits, heart)" in result.output
    assert "name: heart" in run(manifest, "--explain", "--job", "heart").output


def test_against_tells_what_may_not_change(manifest: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.yaml"
    new.write_text(manifest.read_text().replace("total: 60", "total: 50"))
    assert run(new).exit_code == 0
    result = run(new, "--against", manifest)
    assert result.exit_code == 1
    assert "spec.rounds.total: the number of rounds may only grow" in result.output
    assert run(manifest, "--against", new).exit_code == 0


def test_json_is_one_object(manifest: Path) -> None:
    good = json.loads(run(manifest, "--json").output)
    assert (good["valid"], good["problems"]) == (True, [])
    bad = json.loads(run(manifest, "--json", "--set", "rounds.total=0").output)
    assert bad["valid"] is False
    assert [(one["path"], one["category"], one["kind"]) for one in bad["problems"]] == [
        ("spec.rounds.total", "schema", "FederatedJob")
    ]
