"""The command: what it takes, what it refuses, and what it leaves behind."""

import json
import sys

import pytest
from click.testing import CliRunner

from muster_cli.errors import BadInput
from muster_cli.job import load_job
from muster_cli.simulate import settings_of_clients, shared_out, simulate
from simulating import job_of

POOLS = """
apiVersion: muster.dev/v1alpha1
kind: ClientPool
metadata: {name: cloud}
spec: {type: Kubernetes, clients: 3}
---
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {name: small}
spec:
  task: {entrypoint: "muster.tasks.digits:Digits"}
  pools: [{name: cloud}, {name: here, inline: {type: External, clients: 1, trusted: true}}]
  rounds: {total: 2, deadlineSeconds: 60}
"""


def test_clients_are_shared_out_as_the_pools_say(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(POOLS)
    settings = [*settings_of_clients([path], None, 60), "spec.rounds.cohort=50"]
    job = load_job([path], None, settings)
    assert [pool.spec.clients for pool in job.pools] == [45, 15]
    assert shared_out({"a": 1, "b": 1000}, 3) == {"a": 2, "b": 1}
    with pytest.raises(BadInput, match="2 pools"):
        settings_of_clients([path], None, 1)
    assert settings_of_clients([tmp_path / "gone.yaml"], None, 5) == []


def test_pools_whose_clients_have_their_own_data_keep_their_number(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(POOLS.replace("clients: 3}", "clients: 1, data: {perClient: [{path: /data/one}]}}"))
    with pytest.raises(BadInput, match="perClient"):
        settings_of_clients([path], None, 5)


def run(tmp_path, *arguments):
    return CliRunner().invoke(simulate, [str(tmp_path / "simulated.yaml"), "--out", str(tmp_path / "out"), *arguments])


def test_it_leaves_results_and_a_report_that_speak_of_simulated_time(tmp_path):
    job_of(tmp_path)
    done = run(tmp_path, "--profile", "tiers", "--clients", "8", "--set", "spec.rounds.cohort=6", "--surrogate")
    assert done.exit_code == 0, done.output
    assert "simulated time" in done.output
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert lines[0]["clock"] == "simulated time"
    assert len(lines[0]["clients"]) == 8
    assert lines[-1]["event"] == "summary"
    assert lines[-1]["clock"] == "simulated time"
    assert lines[-1]["updatesPerRound"] == 6
    assert all("simulatedSeconds" in line for line in lines[1:-1])
    report = (tmp_path / "out" / "report.txt").read_text()
    assert report in done.output
    assert "seconds" not in report.replace("simulated", "")


def test_a_slower_step_is_a_longer_round(tmp_path):
    job_of(tmp_path)
    times = []
    for step in ("0.1", "0.2"):
        assert run(tmp_path, "--profile", "even", "--surrogate", "--step-seconds", step).exit_code == 0
        times.append(
            json.loads((tmp_path / "out" / "results.jsonl").read_text().splitlines()[-1])["roundSeconds"]["mean"]
        )
    assert times[1] / times[0] == pytest.approx(2, rel=0.01)


def test_a_job_that_fails_has_an_exit_code(tmp_path):
    job_of(tmp_path, rounds={"total": 2, "deadlineSeconds": 1, "maxFailedRounds": 1})
    assert run(tmp_path, "--profile", "even", "--surrogate").exit_code == 1


def test_what_is_wrong_is_said_before_anything_is_done(tmp_path):
    job_of(tmp_path)
    done = run(tmp_path, "--profile", "nothing")
    assert isinstance(done.exception, BadInput)
    assert not (tmp_path / "out").exists()


def test_help_needs_no_torch():
    """The list of profiles is read, and nothing is imported that trains."""
    import subprocess

    code = "import sys; from muster_cli.simulate import simulate; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
