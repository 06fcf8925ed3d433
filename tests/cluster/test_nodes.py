"""scripts/cluster up --nodes: pods run, what dies is mended with them still there, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from charting import ROOT
from real_nodes import Nodes, is_alive, wait_until

SCRIPT = ROOT / "scripts" / "cluster"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muster"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "sleeper"},
    "spec": {"containers": [{"name": "sleeper", "image": "localhost/pause:1", "imagePullPolicy": "Never"}]},
}


@pytest.fixture
def own(tmp_path: Path, nodes: Nodes) -> Iterator[dict[str, str]]:
    """An environment whose clusters are the test's own, with the programs of the session's, which goes on."""
    del nodes
    (tmp_path / "muster").mkdir()
    for shared in ("programs", "images"):
        (tmp_path / "muster" / shared).symlink_to(CACHE / shared)
    dropped = ("KUBECONFIG", "KUBEBUILDER_ASSETS")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    yield environment
    subprocess.run([SCRIPT, "--name", "beside", "down"], env=environment, capture_output=True, check=True)


def script(environment: dict[str, str], *arguments: str) -> str:
    command = [SCRIPT, "--name", "beside", *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def kubectl(environment: dict[str, str], *arguments: str, given: str | None = None) -> str:
    [program] = (CACHE / "programs").glob("*/kubectl")
    config = f"{environment['XDG_CACHE_HOME']}/muster/clusters/beside/kubeconfig"
    command = [program, f"--kubeconfig={config}", *arguments]
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout


def pids(environment: dict[str, str]) -> dict[str, int]:
    return {name: int(pid) for name, _, pid in map(str.split, script(environment, "status").splitlines())}


def traces() -> dict[str, set[str]]:
    """What a cluster may leave on a machine, but for its folder."""
    links = json.loads(subprocess.run(["ip", "-j", "link"], capture_output=True, text=True, check=True).stdout)
    rules = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    places = (
        "/run/containerd",
        "/run/netns",
        "/var/lib/kubelet",
        "/var/lib/containerd",
        "/var/log/pods",
        "/opt/containerd",
    )
    settings = [f"{name}={Path('/proc/sys', name).read_text()}" for name in ("kernel/panic", "vm/overcommit_memory")]
    return {
        "links": {one["ifname"] for one in links},
        "rules": set(rules.splitlines()),
        "mounts": set(Path("/proc/mounts").read_text().splitlines()),
        "groups": {str(path) for path in Path("/sys/fs/cgroup").glob("**/muster-beside-*")},
        "places": {place for place in places if Path(place).exists()},
        "settings": set(settings),
    }


def test_a_cluster_with_a_node_mends_itself_and_goes_without_a_trace(own: dict[str, str]) -> None:
    before = traces()
    script(own, "up", "--nodes", "1")
    kubectl(own, "create", "-f", "-", given=json.dumps(POD))
    kubectl(own, "wait", "--for=condition=Ready", "pod/sleeper", "--timeout=60s")

    started = pids(own)
    for part in ("n1/kubelet", "n1/containerd"):
        os.kill(started[part], signal.SIGKILL)
        wait_until(lambda part=part: not is_alive(started[part]), f"{part} is gone")  # type: ignore[misc]
    script(own, "up")
    kubectl(own, "wait", "--for=condition=Ready", "node/n1", "--timeout=60s")
    [status] = json.loads(kubectl(own, "get", "pod", "sleeper", "-o", "json"))["status"]["containerStatuses"]
    assert (status["ready"], status["restartCount"]) == (True, 0)

    mended = pids(own)
    assert traces()["groups"] > before["groups"]
    script(own, "down")
    assert [name for name, pid in mended.items() if is_alive(pid)] == []
    assert traces() == before


def test_nodes_are_asked_for_when_a_cluster_is_made(own: dict[str, str]) -> None:
    script(own, "up")
    command = [SCRIPT, "--name", "beside", "up", "--nodes", "1"]
    refused = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "The cluster is up with 0 nodes. Take it down first" in refused.stderr
