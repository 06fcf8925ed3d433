"""Clusters that scripts/cluster brings up, or that are there: what tests and benchmarks talk to them with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from charting import ROOT
from real_nodes import Nodes

SCRIPT = ROOT / "scripts" / "cluster"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster to talk to: the environment that kubectl needs."""

    environment: Mapping[str, str]

    def kubectl(self, *arguments: str, manifest: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl, whatever it answers."""
        kubectl = shutil.which("kubectl", path=self.environment["PATH"]) or "kubectl"
        return subprocess.run(
            [kubectl, *arguments], env=self.environment, input=manifest, capture_output=True, text=True, check=False
        )

    def tell(self, *arguments: str, manifest: str | None = None) -> str:
        """Run kubectl, which has to succeed; what it printed."""
        result = self.kubectl(*arguments, manifest=manifest)
        assert result.returncode == 0, f"kubectl {' '.join(arguments)}: {result.stderr}"
        return result.stdout


def run_script(*arguments: str, environment: Mapping[str, str] = os.environ) -> subprocess.CompletedProcess[str]:
    """Run scripts/cluster, whatever it answers."""
    return subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)


def environment_of(name: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a shell after `eval "$(scripts/cluster env)"`."""
    command = f'eval "$("{SCRIPT}" --name {name} env)" && env -0'
    output = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=True).stdout
    return dict(entry.split("=", 1) for entry in output.split("\0") if entry)


@contextmanager
def own_nodes(given: str, otherwise: str) -> Iterator[Nodes | subprocess.CompletedProcess[str]]:
    """A cluster with two nodes: the one that is given by name, else one that is called so, and taken down afterwards.
    What scripts/cluster said instead, where this machine can't have one.

    KUBECONFIG's cluster is not asked: what is done to these nodes is done to nobody else's.
    """
    own = {name: value for name, value in os.environ.items() if name not in {"KUBECONFIG", "KUBEBUILDER_ASSETS"}}
    name, owner = (given, ()) if given else (otherwise, ("--owner", str(os.getpid())))
    brought_up = run_script("--name", name, "up", "--nodes", "2", *owner, environment=own)
    if brought_up.returncode:
        yield brought_up
        return
    try:
        yield Nodes(Cluster(environment_of(name, own)), name)
    finally:
        if not given:
            assert run_script("--name", name, "down").returncode == 0


# --- a control plane that is nobody else's ----------------------------------------------------------------------------

CANNOT = 3  # the exit code of scripts/cluster for a machine with nothing to make a cluster of


@dataclass(frozen=True, slots=True)
class ControlPlane(Cluster):
    """One whose parts may be killed, and in which what holds for the whole cluster disturbs no other test."""

    name: str

    def kill(self, part: str) -> None:
        folder = Path(self.environment["KUBECONFIG"]).parent
        process = json.loads((folder / "state.json").read_text())["processes"][part]
        os.kill(process["pid"], signal.SIGKILL)

    def up(self) -> None:
        """Start what doesn't run."""
        assert _bring_up(self.name).returncode == 0


@contextmanager
def own_control_plane(name: str) -> Iterator[ControlPlane]:
    """With crds/ in it; taken down afterwards. Skips where this machine can't have one."""
    brought_up = _bring_up(name)
    if brought_up.returncode == CANNOT and "cluster" not in os.environ.get("MUSTER_REQUIRE", "").split(","):
        pytest.skip(brought_up.stderr)
    assert brought_up.returncode == 0, brought_up.stderr
    try:
        cluster = ControlPlane(environment_of(name, _without_kubeconfig()), name)
        cluster.tell("apply", "--server-side", "-f", str(ROOT / "crds"))
        deadline = time.monotonic() + 30
        while cluster.kubectl("get", "fedjobs,clientpools").returncode:
            assert time.monotonic() < deadline, "the resources were never served"
            time.sleep(0.2)
        yield cluster
    finally:
        assert run_script("--name", name, "down", environment=_without_kubeconfig()).returncode == 0


def _bring_up(name: str) -> subprocess.CompletedProcess[str]:
    return run_script("--name", name, "up", "--owner", str(os.getpid()), environment=_without_kubeconfig())


def _without_kubeconfig() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "KUBECONFIG"}
