"""Real coordinators and workers for a job in a cluster without a kubelet: they run here, as their pods would there.

They have what their pods would have: the pinned job from its ConfigMap, and the token of their service account, made by
the API server and bound by the Role that the operator gave it. What only a kubelet does, tests do (operator_runs.py).
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import coordinating
from coordinating import Coordinator, workers
from operator_runs import Lab, wait_until

TASKS = Path(__file__).parent / "integration" / "tasks"


def pinned_job(lab: Lab) -> Path:
    """The ConfigMap's file."""
    found = lab.get("configmaps", "-l", "muster.dev/job=digits")["items"]
    [text] = [one["data"]["job.json"] for one in found if "job.json" in one.get("data", {})]
    path = lab.folder / "job.json"
    path.write_text(text)
    return path


def service_account(lab: Lab) -> tuple[Path, dict[str, str]]:
    """The folder that is mounted into the coordinator's pod, and what its environment says of the API server."""
    folder = lab.folder / "account"
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(lab.tell("create", "token", "digits-coordinator"))
    config = json.loads(lab.tell("config", "view", "--raw", "-o", "json"))
    cluster = config["clusters"][0]["cluster"]
    given = cluster.get("certificate-authority-data")
    authority = base64.b64decode(given) if given else Path(cluster["certificate-authority"]).read_bytes()
    (folder / "ca.crt").write_bytes(authority)
    server = urlsplit(cluster["server"])
    environment = {"KUBERNETES_SERVICE_HOST": server.hostname or "", "KUBERNETES_SERVICE_PORT": str(server.port or 443)}
    return folder, environment


@contextmanager
def coordinator(lab: Lab) -> Iterator[Coordinator]:
    """The job's coordinator. Its storage stays in the lab, so that another one goes on where it was."""
    wait_until(lambda: "ServiceAccount/digits-coordinator" in lab.children(), "the coordinator has an account")
    wait_until(lambda: any(child.startswith("ConfigMap") for child in lab.children()), "the job is pinned")
    folder, environment = service_account(lab)
    arguments = ("--service-account", folder)
    with coordinating.coordinator(lab.folder, pinned_job(lab), arguments=arguments, environment=environment) as process:
        yield process


@contextmanager
def worker(address: str, clients: int) -> Iterator[subprocess.Popen[bytes]]:
    """A `muster worker` for some clients of the pool `cloud`, which finds the tasks of tests/integration."""
    command = [sys.executable, "-m", "muster_cli.main", "worker", "--coordinator", address]
    command += ["--pool", "cloud", "--capacity", str(clients)]
    path = os.pathsep.join(filter(None, (str(TASKS), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "MUSTER_TOKEN": coordinating.TOKEN}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def training(lab: Lab) -> dict[str, Any]:
    """What the coordinator has written."""
    found: dict[str, Any] = lab.status().get("training", {})
    return found


__all__ = ["coordinator", "pinned_job", "service_account", "training", "worker", "workers"]
