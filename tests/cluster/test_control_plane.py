"""scripts/cluster itself: it comes up, mends itself, leaves nothing behind, and says plainly what is wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "cluster"
PROGRAMS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "muster" / "programs"
ALL = ("etcd", "kube-apiserver", "kube-scheduler", "kube-controller-manager")


def test_it_stands_and_mends_itself_with_its_data(own_cache: dict[str, str]) -> None:
    assert script(own_cache, "up").returncode == 0
    assert set(parts(own_cache).values()) == {"running"}
    assert list(parts(own_cache)) == list(ALL)
    kubectl(own_cache, "create", "configmap", "kept")
    os.kill(pids(own_cache)["etcd"], signal.SIGKILL)
    os.kill(pids(own_cache)["kube-apiserver"], signal.SIGKILL)
    wait_until(lambda: parts(own_cache)["kube-apiserver"] == "gone")
    assert script(own_cache, "status").returncode == 1
    assert script(own_cache, "up").returncode == 0
    assert kubectl(own_cache, "get", "configmap", "kept", "-o", "name") == "configmap/kept\n"


def test_rbac_is_on_and_tokens_are_signed(own_cache: dict[str, str]) -> None:
    assert script(own_cache, "up").returncode == 0
    token = kubectl(own_cache, "create", "token", "default").strip()
    config = own_cache | {"KUBECONFIG": os.devnull}
    kubeconfig = json.loads(folder(own_cache).joinpath("kubeconfig").read_text())
    server = kubeconfig["clusters"][0]["cluster"]["server"]
    authority = folder(own_cache) / "keys" / "ca.crt"
    asked = run(
        config,
        "kubectl",
        f"--server={server}",
        f"--certificate-authority={authority}",
        f"--token={token}",
        "get",
        "pods",
    )
    assert 'User "system:serviceaccount:default:default" cannot list resource "pods"' in asked.stderr


def test_down_leaves_no_process_and_no_folder(own_cache: dict[str, str]) -> None:
    assert script(own_cache, "up").returncode == 0
    started = pids(own_cache)
    assert script(own_cache, "down").returncode == 0
    assert [name for name, pid in started.items() if is_alive(pid)] == []
    assert not folder(own_cache).exists()
    assert "Nothing to take down" in script(own_cache, "down").stderr


def test_down_spares_a_stranger_who_got_the_process_id(own_cache: dict[str, str]) -> None:
    assert script(own_cache, "up").returncode == 0
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        path = folder(own_cache) / "state.json"
        state = json.loads(path.read_text())
        scheduler = state["processes"]["kube-scheduler"]
        path.write_text(
            json.dumps(state | {"processes": state["processes"] | {"a": scheduler | {"pid": stranger.pid}}})
        )
        assert script(own_cache, "down").returncode == 0
        assert stranger.poll() is None
    finally:
        stranger.communicate(b"\n")


def test_an_interrupted_up_leaves_no_process(own_cache: dict[str, str]) -> None:
    bringing_up = subprocess.Popen([SCRIPT, "up"], env=own_cache, stderr=subprocess.DEVNULL)
    wait_until(lambda: "kube-apiserver" in pids(own_cache))
    started = pids(own_cache)
    bringing_up.terminate()
    assert bringing_up.wait(60) == 143
    assert [name for name, pid in started.items() if is_alive(pid)] == []


def test_a_cluster_whose_owner_died_is_taken_down_by_the_next_up(own_cache: dict[str, str]) -> None:
    owner = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert script(own_cache, "--name", "abandoned", "up", "--owner", str(owner.pid)).returncode == 0
    abandoned = pids(own_cache, "abandoned")
    owner.communicate(b"\n")
    assert script(own_cache, "up").returncode == 0
    assert [name for name, pid in abandoned.items() if is_alive(pid)] == []
    assert not folder(own_cache, "abandoned").exists()


def test_given_binaries_are_used_and_the_missing_ones_named(own_cache: dict[str, str], tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    assets.mkdir()
    environment = own_cache | {"KUBEBUILDER_ASSETS": str(assets)}
    refused = script(environment, "up")
    assert refused.returncode == 1
    assert "has no etcd, kube-apiserver, kubectl" in refused.stderr
    for program in PROGRAMS.glob("*/*"):
        if program.name in ("etcd", "kube-apiserver", "kubectl"):
            (assets / program.name).symlink_to(program)
    brought_up = script(environment, "up")
    assert brought_up.returncode == 0
    assert "Without kube-controller-manager and kube-scheduler" in brought_up.stderr
    assert list(parts(environment)) == ["etcd", "kube-apiserver"]


def test_an_existing_cluster_is_used_and_left_alone(own_cache: dict[str, str]) -> None:
    assert script(own_cache, "up").returncode == 0
    environment = own_cache | {"KUBECONFIG": str(folder(own_cache) / "kubeconfig")}
    used = script(environment, "--name", "other", "up")
    assert used.returncode == 0
    assert "Using the cluster of KUBECONFIG" in used.stderr
    assert "Nothing to take down" in script(environment, "--name", "other", "down").stderr
    assert environment["KUBECONFIG"] in script(environment, "--name", "other", "env").stdout
    assert set(parts(own_cache).values()) == {"running"}


def test_an_existing_cluster_that_is_silent_is_named(own_cache: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text('{"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}]}')
    answer = script(own_cache | {"KUBECONFIG": str(config)}, "up")
    assert answer.returncode == 1
    assert f"The cluster of KUBECONFIG={config} doesn't answer" in answer.stderr
    assert "unset KUBECONFIG" in answer.stderr


def test_a_machine_without_go_hears_what_would_help(own_cache: dict[str, str], tmp_path: Path) -> None:
    answer = script(own_cache | {"XDG_CACHE_HOME": str(tmp_path / "empty"), "PATH": path_without_go(tmp_path)}, "up")
    assert answer.returncode == 3
    assert "Install Go" in answer.stderr
    assert "KUBECONFIG" in answer.stderr


# --- How the tests look at it -----------------------------------------------------------------------------------------


@pytest.fixture
def own_cache(tmp_path: Path, cluster: object) -> Iterator[dict[str, str]]:
    """An environment whose clusters are the test's own, with the programs that the session's cluster was made of."""
    del cluster
    if not PROGRAMS.is_dir():
        pytest.skip("the session's cluster wasn't built here")
    (tmp_path / "muster").mkdir()
    (tmp_path / "muster" / "programs").symlink_to(PROGRAMS)
    dropped = ("KUBECONFIG", "KUBEBUILDER_ASSETS")
    environment = {name: value for name, value in os.environ.items() if name not in dropped}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    yield environment
    for state in (tmp_path / "muster" / "clusters").glob("*/state.json"):
        script(environment, "--name", state.parent.name, "down")


def script(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)


def folder(environment: dict[str, str], name: str = "default") -> Path:
    return Path(environment["XDG_CACHE_HOME"]) / "muster" / "clusters" / name


def parts(environment: dict[str, str]) -> dict[str, str]:
    lines = script(environment, "status").stdout.splitlines()
    return {name: word for name, word, _ in (line.split() for line in lines)}


def pids(environment: dict[str, str], name: str = "default") -> dict[str, int]:
    path = folder(environment, name) / "state.json"
    processes = json.loads(path.read_text())["processes"] if path.exists() else {}
    return {program: process["pid"] for program, process in processes.items()}


def run(environment: dict[str, str], program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    [path] = PROGRAMS.glob(f"*/{program}")
    return subprocess.run([path, *arguments], env=environment, capture_output=True, text=True, check=False)


def kubectl(environment: dict[str, str], *arguments: str) -> str:
    result = run(environment | {"KUBECONFIG": str(folder(environment) / "kubeconfig")}, "kubectl", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


def is_alive(pid: int) -> bool:
    """Not merely waiting to be reaped by whatever runs as process 1 here."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def path_without_go(tmp_path: Path) -> str:
    """A PATH with the few tools that the script needs."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "dirname", "readlink"):
        (tools / tool).symlink_to(shutil.which(tool) or tool)
    return str(tools)


def wait_until(is_so: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, "it didn't happen"
        time.sleep(0.05)
