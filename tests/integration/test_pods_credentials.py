"""The processes of a job's pods, started with the commands and the credentials that the operator makes for them.

No cluster: the objects are in memory, and what a kubelet would show a pod is shown in folders (mounted.py). What is
signed, served, enrolled and trained is real.
"""

import os
import socket
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from cryptography import x509

from coordinating import Coordinator
from mounted import Kubelet
from muster_operator.credentials import CREDENTIAL_S
from muster_wire.trust.bundle import read_bundle
from operating import Cluster, job_object, pool_object
from running import TASKS

COORDINATOR, WORKERS = "digits-coordinator", "digits-workers-cloud"


@pytest.fixture
def cluster():
    """A job whose credentials are as old as they ever get: they are due now."""
    job = job_object(
        task={"entrypoint": "small:Small", "config": {"seconds": 0.5}},
        rounds={"total": 4, "deadlineSeconds": 30},
        coordinator={"service": {"address": "127.0.0.1"}},
    )
    found = Cluster(job, pool_object(clients=2, workers={"max": 1}))
    found.now = time.time() - CREDENTIAL_S * 2 / 3
    found.settle()
    return found


def start(stack, command, folder, name, stdout=subprocess.DEVNULL):
    """A pod's container, with the task's code in its image."""
    program = {"python": [sys.executable], "muster": [sys.executable, "-m", "muster_cli.main"]}[command[0]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(TASKS)])}
    with (folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [*program, *command[1:]], env=environment, stdout=stdout, stderr=log, stdin=subprocess.DEVNULL
        )
    stack.enter_context(process)
    stack.callback(process.kill)
    return process


def start_coordinator(stack, kubelet, folder):
    command = kubelet.command(COORDINATOR)
    command[command.index("--listen") + 1] = "127.0.0.1:0"
    without(command, "--service-account")  # there is no API server to report to
    without(command, "--metrics")
    running = Coordinator(start(stack, command, folder, "coordinator", subprocess.PIPE))
    return running, running.address


def without(command, option):
    if option in command:
        del command[command.index(option) : command.index(option) + 2]


def start_worker(stack, kubelet, folder, address):
    command = kubelet.command(WORKERS)
    command[command.index("--coordinator") + 1] = address
    without(command, "--metrics")
    return start(stack, command, folder, "worker")


def greeting(address, kubelet):
    """The serial of the certificate that new connections are greeted with."""
    bundle = kubelet.folder(WORKERS, "trust") / "bundle.json"
    host, _, port = address.rpartition(":")
    context = ssl.create_default_context(cadata=read_bundle(bundle.read_text()).ca)
    with socket.create_connection((host, int(port))) as raw, context.wrap_socket(raw, server_hostname=host) as secure:
        return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True)).serial_number


def test_a_renewal_is_picked_up_by_running_pods_and_drops_no_work(tmp_path, cluster):
    kubelet = Kubelet(cluster, tmp_path / "pods")
    with ExitStack() as stack:
        running, address = start_coordinator(stack, kubelet, tmp_path)
        first = start_worker(stack, kubelet, tmp_path, address)
        running.until("committed", 60, round=1)
        before = greeting(address, kubelet)
        jobs = [cluster.child("Job", name) for name in (COORDINATOR, WORKERS)]
        cluster.now = time.time()
        assert [type(action).__name__ for action in cluster.step().actions] == ["Issue", "Issue"]
        assert [cluster.child("Job", name) for name in (COORDINATOR, WORKERS)] == jobs
        for job in (COORDINATOR, WORKERS):
            kubelet.show(job)
        assert greeting(address, kubelet) != before
        first.kill()
        first.wait()
        second = start_worker(stack, kubelet, tmp_path, address)
        assert second.wait(60) == 0, (tmp_path / "worker.log").read_text()
        assert running.wait(60) == 0, (tmp_path / "coordinator.log").read_text()
    committed = [(event["round"], event["used"]) for event in running.of("committed") if event["round"]]
    assert committed == [(number, 2) for number in range(1, 5)]


def test_nobody_joins_with_the_bundle_of_another_job(tmp_path, cluster):
    other = Cluster(job_object(), pool_object(clients=2, workers={"max": 1}))
    other.now = time.time()
    other.settle()
    kubelet, stranger = Kubelet(cluster, tmp_path / "pods"), Kubelet(other, tmp_path / "others")
    cluster.now = time.time()
    cluster.settle()
    with ExitStack() as stack:
        running, address = start_coordinator(stack, kubelet, tmp_path)
        worker = start_worker(stack, stranger, tmp_path, address)
        log = tmp_path / "worker.log"
        deadline = time.monotonic() + 30
        while "another authority made its certificate" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        assert worker.poll() is None
        assert running.of("joined") == []
