"""A run whose workers are SLURM's: where nodes dial, what is planned here, and which fields count."""

import pytest

from muster_cli.errors import BadInput
from muster_cli.folder import RunFolder
from muster_cli.job import fields_without_effect, load_job
from muster_cli.plan import plan_away
from muster_cli.site import Site, address_of, check_pools

MANIFEST = """
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {name: small}
spec:
  task: {entrypoint: "muster.tasks.digits:Digits"}
  pools:
    - name: hpc
      inline:
        type: Slurm
        clients: 4
        workers: {clientsPerWorker: 2}
        state: {type: Path, path: {path: /scratch}}
        slurm: {command: {type: Local}}
"""
MORE = "    - {name: cloud, inline: {type: Kubernetes, clients: 1, template: {image: x}}}\n"


def load(tmp_path, text):
    (tmp_path / "job.yaml").write_text(text)
    return load_job([tmp_path / "job.yaml"], None, ())


def test_nothing_but_the_coordinator_is_planned_here(tmp_path):
    plan = plan_away(load(tmp_path, MANIFEST))
    assert (plan.workers, plan.preload) == ((), ())
    assert plan.clients == ("hpc/0", "hpc/1", "hpc/2", "hpc/3")
    assert "pool hpc (4 clients) runs under SLURM as 2 workers" in plan.notes


def test_only_slurm_pools_can_be_driven_from_here(tmp_path):
    check_pools(load(tmp_path, MANIFEST))
    with pytest.raises(BadInput, match="cloud \\(Kubernetes\\)"):
        check_pools(load(tmp_path, MANIFEST + MORE))


@pytest.mark.parametrize(
    ("before", "asked", "found"),
    [
        (None, "login:8443", "login:8443"),
        ("login:4711", None, "login:4711"),
        ("login:4711", "login:0", "login:4711"),  # jobs in the queue know this port
        ("login:4711", "login:8443", "login:8443"),
        ("login:4711", "other:0", "other:0"),
    ],
)
def test_a_run_that_goes_on_keeps_its_port(tmp_path, before, asked, found):
    (tmp_path / "trust").mkdir()
    if before:
        (tmp_path / "trust" / "address").write_text(before)
    assert address_of(RunFolder(tmp_path), asked) == found


def test_without_an_address_it_is_this_host_and_any_port(tmp_path):
    assert address_of(RunFolder(tmp_path), None).endswith(":0")


def test_what_slurms_jobs_take_from_the_manifest_is_not_said_to_have_no_effect(tmp_path):
    load(tmp_path, MANIFEST + MORE)
    files = [tmp_path / "job.yaml"]
    assert {field.path for field in fields_without_effect(files, drives_slurm=True)} == {
        "spec.pools[1].inline.template"
    }
    assert "spec.pools[0].inline.slurm" in {field.path for field in fields_without_effect(files)}


def test_keys_are_private_and_stay_the_same(tmp_path):
    job = load(tmp_path, MANIFEST)
    site = Site(job, RunFolder(tmp_path), "login:0", None, None)
    options = site.prepare()
    before = (tmp_path / "trust" / "ca.key").read_bytes()
    assert site.prepare() == options
    assert (tmp_path / "trust" / "ca.key").read_bytes() == before
    assert {path.stat().st_mode & 0o77 for path in (tmp_path / "trust").iterdir()} == {0}
    assert (site.listen, site.host) == ("0.0.0.0:0", "login")
