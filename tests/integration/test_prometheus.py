"""A real Prometheus scrapes real coordinators: every query has data, and each alert on jobs fires when one is broken.

The operator's half is tests/cluster/test_operator_metrics.py, for which there has to be an API server.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

from attending import to_nowhere
from coordinating import TOKEN, WEIGHTS, coordinator, workers, write_job
from muster_coordinator.rehearsal import Drift, RehearsalWorker
from running import TASKS
from slurming import NoSlurm, bridging, by_stub, manifest
from slurms.stub import Stub, serving
from watching import ROOT, alerts, free_port, impatient, need, prometheus, queries

FOR_THE_CLUSTER = {"MusterOperator", "MusterApiServer", "MusterCoordinatorUnseen"}
OF_BRIDGES = "MusterSlurm"
OF_WORKERS = re.compile(r'muster_worker_|component="worker"')
JOBS_DASHBOARD = ROOT / "helm" / "muster" / "dashboards" / "job.json"


class Mute(RehearsalWorker):
    """Trains, and never hands in what it has trained."""

    async def submit(self, assignment, held):
        if held.trained.examples:
            await asyncio.sleep(3600)
        return await super().submit(assignment, held)


class NotFinite(RehearsalWorker):
    """Hands in what no model may be made of."""

    def encode(self, trained, codec):
        if trained.examples:
            trained.update.trainable[3] = np.nan
        return super().encode(trained, codec)


class Scored(Drift):
    """Knows an accuracy, as ready tasks do."""

    def evaluate(self, model):
        examples, metrics = super().evaluate(model)
        return examples, {**metrics, "accuracy": 0.5}


class Measuring(RehearsalWorker):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.learner = Scored(WEIGHTS)


@contextmanager
def scraped(tmp_path, job, shorter=None, **options):
    """A coordinator with its metrics on a port of their own, and a Prometheus that scrapes it."""
    address = f"127.0.0.1:{free_port()}"
    with (
        coordinator(tmp_path, job, arguments=["--metrics", address], **options) as running,
        prometheus(tmp_path / "prometheus", {"coordinator": address}, shorter) as watching,
    ):
        yield running, watching


ENDLESS = {"total": 100_000, "maxFailedRounds": 1000}


def test_every_query_of_the_jobs_dashboard_has_data_for_a_running_job(tmp_path):
    job = write_job(tmp_path, rounds=ENDLESS, evaluation={"federated": True})
    with (
        scraped(tmp_path, job) as (running, watching),
        workers(running.address, kinds=dict.fromkeys(range(3), Measuring)),
    ):
        running.until("committed", round=3)
        watching.until("muster_round_committed > 3")
        for title, query in queries(JOBS_DASHBOARD):
            if OF_WORKERS.search(query) is None:
                assert watching.until(impatient(meant(query, "small"))), title


def test_every_query_about_workers_has_data_while_one_is_at_work(tmp_path):
    address = f"127.0.0.1:{free_port()}"
    task = {"entrypoint": "small:Small", "source": {"type": "Path", "path": {"path": str(TASKS)}}}
    local = {"epochs": 1, "batchSize": 16, "learningRate": 0.1}
    job = write_job(tmp_path, task=task, local=local, rounds=ENDLESS)
    with (
        coordinator(tmp_path, job) as running,
        worker(running.address, "--pool", "p", "--capacity", "3", "--metrics", address),
        prometheus(tmp_path / "prometheus", {"worker": address}) as watching,
    ):
        running.until("committed", round=2)
        ours = [query for _, query in queries(JOBS_DASHBOARD) if OF_WORKERS.search(query)]
        assert len(ours) >= 4
        for query in ours:
            assert watching.until(impatient(meant(query, "small")))


@contextmanager
def worker(address, *arguments):
    """A `muster worker` process."""
    command = [sys.executable, "-m", "muster_cli.main", "worker", "--coordinator", address, *arguments]
    process = subprocess.Popen(command, env={**os.environ, "MUSTER_TOKEN": TOKEN}, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_every_metric_in_an_alert_on_jobs_is_there_and_none_fires_for_a_healthy_job(tmp_path):
    with scraped(tmp_path, write_job(tmp_path, rounds=ENDLESS)) as (running, watching), workers(running.address):
        running.until("committed", round=3)
        ours = [alert for alert in alerts() if not alert["alert"].startswith((*FOR_THE_CLUSTER, OF_BRIDGES))]
        assert len(ours) >= 8
        for alert in ours:
            for name in metrics_in(alert["expr"]):
                watching.until(name)
        watching.until("muster_round_committed > 5")
        assert not [name for name in watching.firing() if name in {alert["alert"] for alert in ours}]


@contextmanager
def bridge_scraped(tmp_path, stub, shorter=None):
    """A bridge at a stub of slurmrestd, with a relay; the Prometheus that scrapes it, and what takes the stub away."""
    address = f"127.0.0.1:{free_port()}"
    (tmp_path / "shared").mkdir()
    relay = f"relay: {{type: SharedFolder, sharedFolder: {{path: {tmp_path}/shared}}}}"
    with ExitStack() as slurmrestd:
        job = manifest(tmp_path, by_stub(slurmrestd.enter_context(serving(stub)), tmp_path), more=relay)
        with (
            bridging(NoSlurm, tmp_path, job, "--metrics", address, join=to_nowhere()) as bridge,
            prometheus(tmp_path / "prometheus", {"bridge": address}, shorter) as watching,
        ):
            bridge.until("queue", "2 running")
            yield watching, slurmrestd.close


def test_every_query_of_slurms_dashboard_has_data_while_a_bridge_drives_a_pool(tmp_path):
    with bridge_scraped(tmp_path, Stub(0)) as (watching, _):
        watching.until('muster_slurm_tasks{namespace="default", fedjob="staged", pool="hpc", state="running"} == 2')
        watching.until("muster_slurm_submissions_total == 1")
        for title, query in queries(ROOT / "helm" / "muster" / "dashboards" / "slurm.json"):
            assert watching.until(impatient(meant(query, "staged"))), title
        assert OF_BRIDGES not in {name[: len(OF_BRIDGES)] for name in watching.firing()}


def test_a_slurm_that_answers_no_more_is_noticed_by_pool(tmp_path):
    with bridge_scraped(tmp_path, Stub(0), {"MusterSlurmAway": ("> 600", "> 5")}) as (watching, take_away):
        take_away()
        watching.until('muster_slurm_calls_total{call="list", result="unreachable"} > 0')
        watching.until_fires("MusterSlurmAway", namespace="default", fedjob="staged", pool="hpc")


def meant(query, fedjob):
    """A dashboard's query as Grafana asks it, with its variables set."""
    for name, value in {"$namespace": "default", "$fedjob": fedjob, "$__rate_interval": "15s"}.items():
        query = query.replace(name, value)
    return query


def metrics_in(expression):
    """The names of the metrics that an expression looks at."""
    words = expression.replace("(", " ").replace("{", " ").replace("[", " ").replace(")", " ").split()
    return {word for word in words if word.startswith(("muster_", "process_"))}


def test_a_job_whose_clients_never_answer_stalls_and_its_rounds_fail(tmp_path):
    job = write_job(tmp_path, rounds={**ENDLESS, "deadlineSeconds": 2})
    with scraped(tmp_path, job) as (running, watching), workers(running.address, kinds=dict.fromkeys(range(3), Mute)):
        watching.until_fires("MusterRoundsFailing", fedjob="small", namespace="default")
        watching.until_fires("MusterJobStalled", fedjob="small", namespace="default")


def test_a_job_with_too_few_clients_waits_for_a_quorum(tmp_path):
    job = write_job(tmp_path, rounds=ENDLESS)
    with scraped(tmp_path, job) as (running, watching), workers(running.address, 1):
        watching.until_fires("MusterJobNoQuorum", fedjob="small")
        assert "MusterJobStalled" not in watching.firing()


def test_updates_that_are_rejected_are_noticed_by_pool(tmp_path):
    job = write_job(tmp_path, rounds=ENDLESS)
    with scraped(tmp_path, job) as (running, watching), workers(running.address, kinds={2: NotFinite}):
        watching.until_fires("MusterUpdatesRejected", fedjob="small", pool="p")


def test_clients_that_are_too_slow_are_noticed_by_pool(tmp_path):
    job = write_job(tmp_path, rounds={**ENDLESS, "minUpdates": 1})
    with scraped(tmp_path, job) as (running, watching), workers(running.address, kinds={1: Mute, 2: Mute}):
        watching.until_fires("MusterStragglers", fedjob="small", pool="p")


def test_a_coordinator_that_starts_again_and_again_is_noticed(tmp_path):
    job, address = write_job(tmp_path, rounds=ENDLESS), f"127.0.0.1:{free_port()}"
    shorter = {"MusterCoordinatorRestarting": ("[30m:30s]", "[300s:1s]")}
    with prometheus(tmp_path / "prometheus", {"coordinator": address}, shorter) as watching, ExitStack() as keep:
        for _ in range(4):
            running = keep.enter_context(coordinator(tmp_path, job, arguments=["--metrics", address]))
            watching.until('up{job="coordinator"} == 1 and timestamp(up) > time() - 2')
            watching.until("timestamp(muster_rounds_target) > time() - 2")
            running.process.kill()
            running.process.wait()
            watching.until('up{job="coordinator"} == 0')
        keep.enter_context(coordinator(tmp_path, job, arguments=["--metrics", address]))
        watching.until_fires("MusterCoordinatorRestarting", fedjob="small")


def test_a_slow_disk_is_noticed(tmp_path):
    job = write_job(tmp_path, rounds=ENDLESS)
    shorter = {"MusterCheckpointSlow": ("> 30", "> 0")}  # no disk here is that slow; promtool has the 30 s
    with scraped(tmp_path, job, shorter) as (running, watching), workers(running.address):
        watching.until_fires("MusterCheckpointSlow", fedjob="small")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file system to fill")
def test_a_full_volume_is_noticed(tmp_path):
    storage = tmp_path / "storage"
    storage.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", storage], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be made to fill: {mounted.stderr.strip()}")
    try:
        with scraped(tmp_path, write_job(tmp_path)) as (_, watching):
            watching.until("muster_storage_free_bytes")
            assert "MusterStorageFull" not in watching.firing()
            (storage / "in-the-way").write_bytes(bytes(3_900_000))
            watching.until_fires("MusterStorageFull", fedjob="small")
    finally:
        subprocess.run(["umount", storage], check=True)


def test_the_rules_fire_when_they_should_and_not_before(tmp_path):
    """promtool, with the rules as they are and time passing as fast as it can."""
    promtool = need("promtool")
    rules = shutil.copytree(ROOT / "helm" / "muster" / "rules", tmp_path / "rules")
    shutil.copy(ROOT / "tests" / "integration" / "prometheus_rules.yaml", rules / "test.yaml")
    checked = subprocess.run(
        [promtool, "test", "rules", "test.yaml"], cwd=rules, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
