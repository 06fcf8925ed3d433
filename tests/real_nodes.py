"""Real nodes for tests: pods run here, so nothing is played. How tests look into them, and how they break them.

Each node is a network namespace with its own containerd and kubelet (scripts/cluster_parts/nodes.py), so a test that
kills one, cuts its cable or fills its disk does it to a real one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from charting import ROOT, Kubectl, tell_helm

SCRIPT = ROOT / "scripts" / "cluster"
SYSTEM = "muster-system"
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Nodes:
    """A cluster with nodes, which scripts/cluster calls `name`."""

    cluster: Kubectl
    name: str

    @property
    def host(self) -> str:
        """This machine, as pods reach it: at the address of the API server."""
        server = self.cluster.tell("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}")
        return str(urlsplit(server).hostname)

    def script(self, *arguments: str) -> str:
        """scripts/cluster, which has to succeed; what it printed."""
        own = {name: value for name, value in os.environ.items() if name not in {"KUBECONFIG", "KUBEBUILDER_ASSETS"}}
        command = [SCRIPT, "--name", self.name, *arguments]
        result = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"scripts/cluster {' '.join(arguments)}: {result.stderr}"
        return result.stdout

    def on(self, node: str, *command: str) -> str:
        """Run a command in a node's namespaces."""
        return self.script("on", node, *command)

    def inside(self, node: str, path: str) -> Path:
        """A path as the node sees it, which has mounts of its own."""
        return Path(f"/proc/{self.pid(f'{node}/anchor')}/root{path}")

    def pid(self, part: str) -> int:
        """The process of one part, such as etcd or n1/kubelet."""
        return {name: int(pid) for name, _, pid in map(str.split, self.script("status").splitlines())}[part]

    def processes_of(self, pod: Object) -> list[int]:
        """The processes of a pod, as this machine sees them, without the one that only holds its namespaces."""
        groups = Path("/sys/fs/cgroup").glob(f"**/muster-{self.name}-n*/**/pod{pod['metadata']['uid']}/*/cgroup.procs")
        found = {int(pid) for group in groups for pid in group.read_text().split()}
        return sorted(pid for pid in found if Path(f"/proc/{pid}/comm").read_text() != "pause\n")

    def kill_pod(self, pod: Object) -> None:
        """kill -9 of everything in a pod, and it has to be gone."""
        pids = self.processes_of(pod)
        assert pids, f"{pod['metadata']['name']} has no process"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, pids)), "the pod's processes are gone")

    def kill(self, part: str) -> None:
        """kill -9, and it has to be gone."""
        pid = self.pid(part)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid), f"{part} is gone")


def is_alive(pid: int) -> bool:
    """Not gone, and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(is_so: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"it never came about that {what}"
        time.sleep(0.25)


@dataclass(frozen=True, slots=True)
class Team:
    """A namespace of somebody who trains."""

    nodes: Nodes
    namespace: str

    def tell(self, *arguments: str, manifest: str | None = None) -> str:
        return self.nodes.cluster.tell("-n", self.namespace, *arguments, manifest=manifest)

    def get(self, *what: str) -> Any:
        return json.loads(self.tell("get", *what, "-o", "json"))

    def status(self, job: str) -> Object:
        found: Object = self.get("fedjob", job).get("status", {})
        return found

    def training(self, job: str) -> Object:
        found: Object = self.status(job).get("training", {})
        return found

    def pods(self, job: str, component: str) -> list[Object]:
        """Those that run."""
        labels = f"muster.dev/job={job},app.kubernetes.io/component={component}"
        found = self.get("pods", "-l", labels)["items"]
        return [
            one
            for one in found
            if one["status"].get("phase") == "Running" and "deletionTimestamp" not in one["metadata"]
        ]

    def evict(self, pod: Object) -> None:
        """As a drain does it: the API server is asked, and says yes."""
        name = pod["metadata"]["name"]
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/eviction"
        self.tell("create", "--raw", path, "-f", "-", manifest=json.dumps(eviction))

    def wait(self, job: str, condition: str = "Complete", within_s: int = 240) -> None:
        """As a user waits."""
        try:
            self.tell("wait", f"--for=condition={condition}", f"fedjob/{job}", f"--timeout={within_s}s")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story(job)}") from error

    def wait_for_round(self, job: str, number: int, within_s: float = 120) -> None:
        """Until so many rounds are committed."""
        deadline = time.monotonic() + within_s
        while self.training(job).get("round", 0) < number:
            assert time.monotonic() < deadline, f"round {number} wasn't reached\n{self.story(job)}"
            time.sleep(0.25)

    def story(self, job: str) -> str:
        """What somebody would want to see of a job that goes wrong."""
        kubectl = self.nodes.cluster.kubectl
        commands = (
            ("get", f"fedjob/{job}", "-o", "yaml"),
            ("get", "pods", "-o", "wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", f"-lmuster.dev/job={job}", "--tail=15", "--prefix", "--ignore-errors"),
        )
        return "\n".join(kubectl("-n", self.namespace, *command).stdout[-6000:] for command in commands)


@dataclass(frozen=True)
class Shell:
    """A user's shell in a checkout: kubectl's namespace is theirs, and `muster` is installed."""

    folder: Path
    environment: dict[str, str]

    @classmethod
    def of(cls, team: Team, folder: Path, **environment: str) -> Shell:
        (folder / "examples").symlink_to(ROOT / "examples")
        shutil.copytree(ROOT / "helm", folder / "helm")
        (folder / "kubeconfig").write_text(team.tell("config", "view", "--raw"))
        given = {**team.nodes.cluster.environment, **environment}
        path = f"{Path(sys.executable).parent}:{ROOT / 'scripts'}:{given['PATH']}"
        found = cls(folder, {**given, "KUBECONFIG": str(folder / "kubeconfig"), "PATH": path})
        found.run(f"kubectl config set-context --current --namespace={team.namespace}")
        return found

    def run(self, line: str) -> None:
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


def laptops_accuracy(manifest: Path, folder: Path) -> float:
    """What `muster run` makes of a manifest, with all its pools as processes of this machine."""
    command = [sys.executable, "-m", "muster_cli.main", "run", str(manifest), "--no-baselines", "--json"]
    done = subprocess.run([*command, "--out", str(folder / "run")], capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return float([one for one in events if one["event"] == "evaluated"][-1]["central"]["accuracy"])


@contextmanager
def team(nodes: Nodes, name: str) -> Iterator[Team]:
    """A namespace where nothing but restricted pods is admitted; removed, and waited for, at the end."""
    nodes.cluster.tell("create", "namespace", name)
    nodes.cluster.tell("label", "namespace", name, RESTRICTED)
    try:
        yield Team(nodes, name)
    finally:
        nodes.cluster.tell("delete", "namespace", name, "--timeout=120s", "--ignore-not-found")


@contextmanager
def release(nodes: Nodes, values: Mapping[str, Any] | None = None) -> Iterator[None]:
    """The chart, as a user installs it, with the images that were built."""
    cluster = nodes.cluster
    cluster.tell("create", "namespace", SYSTEM)
    cluster.tell("label", "namespace", SYSTEM, RESTRICTED)
    given = [part for name, value in (values or {}).items() for part in ("--set-json", f"{name}={json.dumps(value)}")]
    try:
        tell_helm(
            "-n",
            SYSTEM,
            "install",
            "muster",
            str(ROOT / "helm/muster"),
            "--wait",
            "--timeout=180s",
            *given,
            environment=cluster.environment,
        )
        yield
    finally:
        tell_helm("-n", SYSTEM, "uninstall", "muster", "--ignore-not-found", environment=cluster.environment)
        cluster.tell("delete", "namespace", SYSTEM, "--timeout=120s")
        cluster.tell("delete", "crd", "--ignore-not-found", "federatedjobs.muster.dev", "clientpools.muster.dev")
