"""Which processes a job needs on this machine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from muster_cli.job import load_job
from muster_cli.plan import PRELOAD, WORKERS_AT_LEAST, modules_to_preload, plan_run, share_limit

MANIFEST = """
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {name: small}
spec:
  task: {entrypoint: "muster.tasks.digits:Digits"}
  rounds: {cohort: 3}
  pools:
    - {name: cloud, inline: {type: Kubernetes, clients: 6, data: {path: /data}}}
    - {name: hpc, inline: {type: Slurm, clients: 4, workers: {clientsPerWorker: 2}, slurm: {command: {type: Local}}}}
"""


@pytest.fixture
def job(tmp_path):
    (tmp_path / "job.yaml").write_text(MANIFEST)
    return lambda *overrides: load_job([tmp_path / "job.yaml"], None, overrides)


def test_every_client_has_exactly_one_worker(job):
    plan = plan_run(job(), cores=2, data=None)
    assert sorted(plan.clients) == sorted([f"cloud/{i}" for i in range(6)] + [f"hpc/{i}" for i in range(4)])


def test_workers_follow_clients_per_worker(job):
    workers = plan_run(job(), cores=2, data=None).workers
    assert [worker.id for worker in workers] == [*(f"cloud-{i}" for i in range(6)), "hpc-0", "hpc-1"]
    assert [worker.indices for worker in workers[-2:]] == [(0, 2), (1, 3)]


def test_no_more_workers_than_the_pool_allows(job):
    plan = plan_run(job("spec.pools.0.inline.workers.max=2"), cores=2, data=None)
    assert sum(worker.pool == "cloud" for worker in plan.workers) == 2


def test_a_big_job_is_scaled_to_the_machine_and_says_so(job):
    plan = plan_run(job("spec.pools.0.inline.clients=300"), cores=2, data=None)
    assert len(plan.workers) <= WORKERS_AT_LEAST
    assert len(plan.clients) == len(set(plan.clients)) == 304
    assert plan.notes[-1] == "fewer worker processes than the manifest asks for, to suit this machine: cloud, hpc"


@pytest.mark.parametrize(("cores", "cohort", "threads"), [(2, 3, 1), (16, 3, 5), (16, 10, 2), (1, 1, 1)])
def test_cores_are_shared_by_those_who_train_at_once(job, cores, cohort, threads):
    plan = plan_run(job(f"spec.rounds.cohort={cohort}"), cores, None)
    assert {worker.threads for worker in plan.workers} == {threads}


@pytest.mark.parametrize(("data", "cloud", "hpc"), [(None, "/data", None), ("/here", "/here", "/here")])
def test_the_command_lines_data_takes_the_place_of_the_manifests(job, data, cloud, hpc):
    places = {worker.pool: set(worker.data) for worker in plan_run(job(), 2, data).workers}
    assert places == {"cloud": {cloud}, "hpc": {hpc}}


@pytest.mark.parametrize(("data", "expected"), [(None, ["/a", "/data", "/c"]), ("/here", ["/here"] * 3)])
def test_each_client_may_have_its_data_in_a_place_of_its_own(job, data, expected):
    own = "spec.pools.0.inline.data.perClient=[{path: /a}, {}, {path: /c}]"
    workers = plan_run(job("spec.pools.0.inline.clients=3", own), 2, data).workers
    cloud = {
        index: place
        for one in workers
        if one.pool == "cloud"
        for index, place in zip(one.indices, one.data, strict=True)
    }
    assert [cloud[index] for index in range(3)] == expected


def test_the_display_says_that_pools_run_here(job):
    assert plan_run(job(), 2, None).notes == (
        "pool cloud (Kubernetes, 6 clients) runs here as 6 local processes",
        "pool hpc (Slurm, 4 clients) runs here as 2 local processes",
    )


def test_only_ready_tasks_are_imported_before_the_fork():
    assert "muster.tasks.digits" in modules_to_preload("muster.tasks.digits:Digits")
    assert modules_to_preload("mine:Task") == PRELOAD


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=20), st.integers(20, 200))
def test_sharing_a_limit_leaves_every_pool_a_worker(wanted, limit):
    shared = share_limit(wanted, limit)
    assert all(1 <= count <= wish for count, wish in zip(shared, wanted, strict=True))
    assert sum(shared) <= limit + len(wanted)
