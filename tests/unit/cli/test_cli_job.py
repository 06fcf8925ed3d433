"""From files to the job that runs, and to its manifest in the run's folder."""

import msgspec
import pytest

from muster_cli.errors import BadInput
from muster_cli.folder import RunFolder, make_folder
from muster_cli.job import fields_without_effect, identify, load_job, storage_of, store_of, write_job
from muster_spec.types import ResolvedJob

MANIFEST = """
apiVersion: muster.dev/v1alpha1
kind: ClientPool
metadata: {name: cloud}
spec: {type: Kubernetes, clients: 3, template: {image: "muster-worker:0.1"}, data: {path: shares}}
---
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {name: small}
spec:
  task: {entrypoint: "muster.tasks.digits:Digits"}
  pools: [{name: cloud}, {name: here, inline: {type: External, clients: 2, trusted: true}}]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "job.yaml"
    path.write_text(MANIFEST)
    return path


def folder_in(tmp_path):
    folder = RunFolder(tmp_path / "run")
    make_folder(folder)
    return folder


def test_pools_are_looked_up_and_overrides_made(file, tmp_path):
    job = load_job([file], None, ["spec.rounds.total=7", "ClientPool/cloud.spec.clients=4"])
    assert (job.spec.rounds.total, job.clients_total) == (7, 6)
    assert job.pools[0].spec.data is not None
    assert job.pools[0].spec.data.path == str(tmp_path / "shares")


def test_what_only_a_cluster_can_do_is_refused_with_the_remedy(file):
    source = "spec.task.source={type: ConfigMap, configMap: {name: my-code}}"
    with pytest.raises(BadInput, match=r"spec.task.source.type: ConfigMap is for clusters; .* use type Path"):
        load_job([file], None, [source])


def test_all_mistakes_are_told_at_once(file):
    with pytest.raises(BadInput) as error:
        load_job([file], None, ["spec.rounds.totall=7", "spec.seed=many"])
    assert "spec.rounds.totall" in str(error.value)
    assert "spec.seed" in str(error.value)


def test_a_suspended_job_is_not_run(file):
    with pytest.raises(BadInput, match=r"spec.suspend is true.*--set spec.suspend=false"):
        load_job([file], None, ["spec.suspend=true"])


def test_the_manifest_in_the_folder_gives_the_same_job_again(file, tmp_path):
    folder = folder_in(tmp_path)
    job = identify(load_job([file], None, ["spec.rounds.total=7"]), folder)
    write_job(job, folder)
    again = identify(load_job([folder.manifest], None, []), folder)
    assert again == job
    assert msgspec.json.decode(folder.job.read_bytes(), type=ResolvedJob) == job


def test_each_run_has_a_uid_of_its_own_and_keeps_it(file, tmp_path):
    job, folder = load_job([file], None, []), folder_in(tmp_path)
    first = identify(job, folder)
    assert first.uid != identify(job, folder).uid
    write_job(first, folder)
    assert identify(job, folder).uid == first.uid


def test_a_folder_whose_job_cannot_be_read_is_refused(file, tmp_path):
    folder = folder_in(tmp_path)
    folder.job.write_text("{")
    with pytest.raises(BadInput, match=r"job.json: can't be read .*--out"):
        identify(load_job([file], None, []), folder)


def test_history_is_kept_where_the_job_says(file, tmp_path):
    folder = folder_in(tmp_path)
    assert storage_of(load_job([file], None, []), folder) == folder.checkpoint
    elsewhere = load_job([file], None, ["spec.checkpoint.storage={type: Path, path: {path: history}}"])
    assert storage_of(elsewhere, folder) == tmp_path / "history"
    assert store_of(elsewhere) == ""
    there = load_job([file], None, ["spec.checkpoint.storage={type: Url, url: {url: 's3://bucket/run'}}"])
    assert (store_of(there), storage_of(there, folder)) == ("s3://bucket/run", folder.checkpoint)


def test_fields_for_clusters_are_named(file):
    assert [str(field) for field in fields_without_effect([file])] == [
        "ClientPool/cloud spec.template: takes effect on a cluster only (worker pods)"
    ]
