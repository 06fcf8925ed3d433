"""A real Prometheus scrapes a real operator: the fleet's queries have data, and each alert fires when that is broken.

The jobs' half is tests/integration/test_prometheus.py.
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from charting import Kubectl
from coordinating import coordinator, workers, write_job
from meddling import Meddler, meddler
from operator_runs import MANIFEST, Lab, wait_until
from watching import ROOT, Prometheus, alerts, free_port, impatient, prometheus, queries

HEALTHY_S = 80  # a live watch is heard of every minute


@pytest.fixture
def lab(crds: Kubectl, namespace: str, tmp_path: Path) -> Lab:
    return Lab(crds, namespace, tmp_path)


@dataclass
class Scene:
    """What a test of an alert works with."""

    lab: Lab
    meddler: Meddler
    watching: Prometheus
    operator: subprocess.Popen[bytes]

    def add_jobs(self, *names: str) -> None:
        for name in names:
            self.lab.apply(MANIFEST.replace("name: digits", f"name: {name}"))


@contextmanager
def scene(
    lab: Lab, shorter: Mapping[str, tuple[str, str]] | None = None, targets: Mapping[str, str] | None = None
) -> Iterator[Scene]:
    """An operator behind a meddler, and a Prometheus that scrapes it."""
    port = free_port()
    with meddler(lab.kubeconfig) as (between, lab.kubeconfig):
        operator = lab.start("--probes", str(port))
        try:
            everything = {"operator": f"127.0.0.1:{port}", **(targets or {})}
            with prometheus(lab.folder / "prometheus", everything, shorter) as watching:
                watching.until("muster_operator_leading == 1")
                yield Scene(lab, between, watching, operator)
        finally:
            operator.send_signal(signal.SIGKILL)
            operator.wait()


def test_every_query_of_the_fleet_has_data_and_nothing_alarms_while_all_is_well(lab: Lab, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    job = write_job(tmp_path, rounds={"total": 100_000})
    with (
        coordinator(tmp_path, job, arguments=["--metrics", address]) as running,
        workers(running.address),
        scene(lab, targets={"coordinator": address}) as now,
    ):
        now.add_jobs("digits")
        running.until("committed", round=2)
        now.watching.until('muster_job_phase{fedjob="digits"}')
        for title, query in queries(ROOT / "helm" / "muster" / "dashboards" / "fleet.json"):
            assert now.watching.until(impatient(query.replace("$__rate_interval", "15s"))), title
        assert not now.watching.firing()
        lab.tell("delete", "fedjob", "digits")
        wait_until(lambda: not now.watching.query('muster_job_phase{fedjob="digits"}'), "its series is gone")


def test_requests_that_fail_are_noticed(lab: Lab) -> None:
    with scene(lab) as now:
        now.meddler.fails = True
        now.add_jobs("digits", "other")
        now.watching.until_fires("MusterApiServerTrouble")
        now.watching.until_fires("MusterOperatorReconcileErrors", kind="FederatedJob")


def test_an_operator_that_is_behind_is_noticed(lab: Lab) -> None:
    with scene(lab, {"MusterOperatorBehind": ("> 60", "> 3")}) as now:
        now.meddler.delay_s = 4.0
        now.add_jobs(*(f"job-{number}" for number in range(8)))
        now.watching.until_fires("MusterOperatorBehind")


def test_a_watch_that_has_died_is_noticed(lab: Lab) -> None:
    with scene(lab, {"MusterOperatorWatchStalled": ("> 180", f"> {HEALTHY_S}")}) as now:
        now.add_jobs("digits")
        now.watching.until('muster_operator_watch_silence_seconds{kind="FederatedJob"} < 60')
        now.meddler.is_silent = True
        now.watching.until_fires("MusterOperatorWatchStalled", within_s=HEALTHY_S + 60, kind="FederatedJob")
        now.meddler.is_silent = False
        now.watching.until(f"max(muster_operator_watch_silence_seconds) < {HEALTHY_S}", within_s=120)


def test_a_job_that_runs_unseen_and_an_operator_that_is_gone_are_noticed(lab: Lab) -> None:
    with scene(lab) as now:
        now.add_jobs("digits")
        lab.run_all()
        now.watching.until_fires("MusterCoordinatorUnseen", fedjob="digits", namespace=lab.namespace)
        assert "MusterOperatorDown" not in now.watching.firing()
        now.operator.kill()
        now.watching.until_fires("MusterOperatorDown")


def test_every_alert_is_broken_somewhere() -> None:
    """Each alert's name stands in a test that makes it fire."""
    tests = [ROOT / "tests" / "integration" / "test_prometheus.py", Path(__file__)]
    text = "\n".join(path.read_text() for path in tests)
    assert not [one["alert"] for one in alerts() if f'until_fires("{one["alert"]}"' not in text]
