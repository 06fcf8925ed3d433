"""An operator process against a real API server, and how tests look at what it does.

It runs with the rights that the chart gives it in its namespace, and with no others.

There is no kubelet: pods stay Pending, so the tests write the status of pods (and thereby let the real job controller
judge Jobs) where a kubelet would. Everything else is real.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charting import Kubectl, Rights, credentials

SCRIPT = Path(__file__).parent / "recorded_operator.py"
CHILDREN = "jobs,services,configmaps,secrets,serviceaccounts,persistentvolumeclaims,roles,rolebindings,networkpolicies"
OURS = "app.kubernetes.io/managed-by=muster-operator"

MANIFEST = """
apiVersion: muster.dev/v1alpha1
kind: ClientPool
metadata: {name: cloud}
spec: {type: Kubernetes, clients: 2}
---
apiVersion: muster.dev/v1alpha1
kind: FederatedJob
metadata: {name: digits}
spec:
  task: {entrypoint: "a:B"}
  pools: [{name: cloud}]
  rounds: {total: 3}
"""
_SITE = '{url: "https://slurm.example.org:6820", auth: {user: fl, tokenSecret: {name: slurm, key: token}}}'
SLURM = (
    MANIFEST.replace("{type: Kubernetes, clients: 2}", f"{{type: Slurm, clients: 2, slurm: {_SITE}}}")
    + '  coordinator: {service: {type: NodePort, address: "node.example.org:30443"}}\n'
)


@dataclass
class Lab:
    """One namespace of a cluster."""

    cluster: Kubectl
    namespace: str
    folder: Path
    lobby: str = ""  # where sites dial it, in a release that has one
    account: tuple[str, str] | None = (
        None  # namespace and name, of an operator that was installed for the whole cluster
    )

    def __post_init__(self) -> None:
        """The operator's rights: its ServiceAccount is called after the namespace, since the release is."""
        if self.account:
            self.kubeconfig = credentials(self.cluster, *self.account, self.folder)
            return
        rights = Rights(self.cluster, release=self.namespace, namespace=self.namespace)
        lobby = {"lobby.enabled": True, "lobby.address": self.lobby} if self.lobby else {}
        rights.give(**{"watch.namespaces": [self.namespace]} | lobby)
        self.kubeconfig = rights.credentials(self.folder)

    @property
    def log(self) -> Path:
        return self.folder / "requests"

    def apply(self, manifest: str = MANIFEST) -> None:
        self.cluster.tell("apply", "-n", self.namespace, "-f", "-", manifest=manifest)

    def tell(self, *arguments: str, manifest: str | None = None) -> str:
        return self.cluster.tell("-n", self.namespace, *arguments, manifest=manifest)

    def get(self, *what: str) -> Any:
        return json.loads(self.tell("get", *what, "-o", "json"))

    def status(self, job: str = "digits") -> dict[str, Any]:
        found: dict[str, Any] = self.get("fedjob", job).get("status", {})
        return found

    def patch(self, body: Any, what: str = "fedjob/digits") -> None:
        self.tell("patch", what, "--type=merge", "-p", json.dumps(body))

    def children(self, job: str = "") -> set[str]:
        """Everything that is labelled as ours, or as one job's, and not on its way out."""
        items = self.get(CHILDREN, "-l", f"{OURS},muster.dev/job={job}" if job else OURS)["items"]
        alive = [one for one in items if "deletionTimestamp" not in one["metadata"]]
        return {f"{one['kind']}/{one['metadata']['name']}" for one in alive}

    def everything(self) -> set[str]:
        """All that is in the namespace, of every kind that the API server knows, but for Events and the lease."""
        kinds = self.tell("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
        wanted = [kind for kind in kinds if not kind.startswith(("events", "leases"))]
        return set(self.tell("get", ",".join(wanted), "-o", "name", "--ignore-not-found").split())

    def requests(self) -> list[str]:
        """The mutating requests so far, as `METHOD path`."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def doom(self, how_often: str, moment: str, stage: str) -> None:
        """A mortal operator is to die from now on, as recorded_operator.py says."""
        ready = self.folder / "doom.new"
        ready.write_text(f"{how_often} {moment} {stage}")
        ready.rename(self.folder / "doom")

    def pardon(self) -> None:
        """It may live."""
        (self.folder / "doom").unlink(missing_ok=True)

    def deaths(self, moment: str, stage: str) -> list[str]:
        """The calls at which it has killed itself, as `METHOD resource/name`."""
        path, head = self.folder / "deaths", f"{moment} {stage} "
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix(head).rpartition(" ")[0] for line in lines if line.startswith(head)]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **self.cluster.environment, "KUBECONFIG": str(self.kubeconfig)}
        with (self.folder / "operator.log").open("ab") as out:
            lobby = ["--lobby", self.lobby] if self.lobby else []
            command = [sys.executable, str(SCRIPT), self.namespace, str(self.log), *lobby, *arguments]
            return subprocess.Popen(command, env=environment, stdout=out, stderr=out)

    @contextmanager
    def operator(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """A running operator; stopped as a kubelet stops it, which has to take it no more than a few seconds."""
        before = self._leads()
        process = self.start(*arguments)
        try:
            wait_until(lambda: self._leads() > before, "the operator is up")
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(15)
            finally:
                process.kill()
            assert code == 0, (self.folder / "operator.log").read_text()

    def _leads(self) -> int:
        """How often an operator of this lab has come to hold the lease."""
        log = self.folder / "operator.log"
        return log.read_text().count("holds the lease") if log.exists() else 0

    def settle(self, quiet_s: float = 1.5) -> None:
        """Until no mutating request has been made for a while."""
        seen, since = len(self.requests()), time.monotonic()
        deadline = since + 40
        while time.monotonic() - since < quiet_s:
            assert time.monotonic() < deadline, self.requests()[-20:]
            time.sleep(0.1)
            if len(self.requests()) != seen:
                seen, since = len(self.requests()), time.monotonic()

    # --- as a kubelet would -------------------------------------------------------------------------------------------

    def pods(self, component: str) -> list[str]:
        """Names of pods that have not ended."""
        items = self.get("pods", "-l", f"{OURS},app.kubernetes.io/component={component}")["items"]
        return [
            one["metadata"]["name"]
            for one in items
            if one["status"].get("phase") in {"Pending", "Running"} and "deletionTimestamp" not in one["metadata"]
        ]

    def run_pod(self, name: str) -> None:
        ready = {"type": "Ready", "status": "True"}
        self._pod_status(name, {"phase": "Running", "conditions": [ready], "containerStatuses": []})

    def end_pod(self, name: str, code: int, message: str = "") -> None:
        container = self.get("pod", name)["spec"]["containers"][0]["name"]
        terminated = {"exitCode": code, "reason": "Completed" if code == 0 else "Error", "message": message}
        status = {"name": container, "image": "", "imageID": "", "ready": False, "restartCount": 0}
        state = status | {"state": {"terminated": terminated}}
        phase = "Succeeded" if code == 0 else "Failed"
        self._pod_status(name, {"phase": phase, "conditions": [], "containerStatuses": [state]})

    def _pod_status(self, name: str, status: dict[str, Any]) -> None:
        body = json.dumps({"status": status})
        self.tell("patch", f"pod/{name}", "--subresource=status", "--type=merge", "-p", body)

    def run_all(self) -> None:
        """Every pod is up."""
        wait_until(lambda: len(self.pods("coordinator")) == 1 and len(self.pods("worker")) == 2, "there are pods")
        for name in (*self.pods("coordinator"), *self.pods("worker")):
            self.run_pod(name)
        wait_until(lambda: self.status().get("phase") == "Running", "the job runs")


def wait_until(is_so: Callable[[], bool], what: str, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"it never came about that {what}"
        time.sleep(0.1)


# --- the operator of an installation ----------------------------------------------------------------------------------


@contextmanager
def as_deployed(whole: Any, namespace: str, lab: Lab, *, is_ready: bool = True) -> Iterator[int]:
    """The operator that a container of a Deployment in that namespace describes, with the lab's credentials, until it
    is stopped as a kubelet stops it. The port of its probes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    given = {one["name"]: namespace if "valueFrom" in one else one.get("value", "") for one in whole["env"]}
    own = {"KUBECONFIG": str(lab.kubeconfig), "MUSTER_PROBE_PORT": str(port)}
    command = [sys.executable if part == "python" else part for part in whole["command"]]
    with (lab.folder / "deployed.log").open("ab") as out:
        process = subprocess.Popen(command, env={**os.environ, **given, **own}, stdout=out, stderr=out)
    try:
        wait_until(lambda: answer(port, whole["livenessProbe"]) == 200, "it lives")
        wait_until(lambda: answer(port, whole["readinessProbe"]) == (200 if is_ready else 503), "it is ready, or not")
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(whole.get("terminationGracePeriodSeconds", 30)) == 0


def answer(port: int, probe: Any) -> int:
    """What a kubelet would be told."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{probe['httpGet']['path']}", timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
