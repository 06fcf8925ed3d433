import json
from pathlib import Path

import msgspec
import pytest

from muster_spec import ManifestError, load, resolve
from muster_spec.paths import dig
from muster_spec.resolving import JobChoiceError

POOL = """
apiVersion: muster.dev/v1alpha1
kind: ClientPool
metadata: {name: cloud}
spec: {type: Kubernetes, clients: 6, data: {path: data}}
"""
JOB = """
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {name: %s}
spec:
  task: {entrypoint: "a:B", source: {type: Path, path: {path: code}}, initialModel: {type: File, file: {path: /first}}}
  pools: [{name: cloud}, {name: own, inline: {type: External, clients: 2, data: {path: /abs}}}]
  strategy: {type: FedProx}
  checkpoint: {storage: {type: Path, path: {path: ../kept}}}
"""


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    pools, jobs = tmp_path / "pools" / "pools.yaml", tmp_path / "jobs.yaml"
    pools.parent.mkdir()
    pools.write_text(POOL)
    jobs.write_text(JOB % "one" + "---" + JOB % "two")
    return [jobs, pools]


def test_pools_are_looked_up_by_name(files: list[Path]) -> None:
    job = resolve(load(files), "two", uid="u")
    assert (job.name, job.namespace, job.uid) == ("two", "default", "u")
    assert [(pool.name, pool.spec.clients, pool.spec.is_trusted) for pool in job.pools] == [
        ("cloud", 6, True),
        ("own", 2, False),
    ]
    assert job.clients_total == 8


def test_every_default_and_the_choices_parameters_are_there(files: list[Path]) -> None:
    spec = resolve(load(files), "one").spec
    assert spec.rounds.total == 100
    assert spec.strategy.fed_prox is not None
    assert spec.strategy.fed_prox.mu == 0.01


def test_relative_paths_start_where_their_file_is(files: list[Path], tmp_path: Path) -> None:
    job = json.loads(msgspec.json.encode(resolve(load(files), "one")))
    assert [pool["spec"]["data"]["path"] for pool in job["pools"]] == [str(tmp_path / "pools" / "data"), "/abs"]
    assert dig(job, "spec", "task", "source", "path", "path") == str(tmp_path / "code")
    assert dig(job, "spec", "task", "initialModel", "file", "path") == "/first"
    assert dig(job, "spec", "checkpoint", "storage", "path", "path") == str(tmp_path.parent / "kept")


def test_the_job_has_to_be_clear(files: list[Path]) -> None:
    manifest = load(files)
    with pytest.raises(JobChoiceError, match=r"several jobs: say which with --job \(one, two\)"):
        resolve(manifest)
    with pytest.raises(JobChoiceError, match="no job three: there are one, two"):
        resolve(manifest, "three")
    with pytest.raises(JobChoiceError, match="no FederatedJob in these files"):
        resolve(load(files[1:]))


def test_overrides_are_made_before_anything_is_checked(files: list[Path]) -> None:
    job = resolve(load(files, overrides=["rounds.total=3", "ClientPool/cloud.spec.clients=1"], job="two"), "two")
    assert (job.spec.rounds.total, job.clients_total) == (3, 3)
    with pytest.raises(ManifestError, match=r"FederatedJob/two spec\.rounds\.total: 0 is too small") as error:
        load(files, overrides=["rounds.total=0"], job="two")
    assert [problem.path for problem in error.value.problems] == ["spec.rounds.total"]


def test_every_file_is_looked_at_even_when_one_is_missing(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ManifestError) as error:
        load([tmp_path / "none.yaml", files[0]])
    assert [problem.path for problem in error.value.problems] == ["", "spec.pools[0].name", "spec.pools[0].name"]
