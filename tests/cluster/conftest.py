"""The cluster that these tests run against.

KUBECONFIG's if it is set, else the one that `scripts/cluster up` left running, else one brought up for the session and
taken down after it, whatever happens. A machine that can't have one skips, with the reason; where MUSTER_REQUIRE
contains "cluster" that is a failure instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from building import Images, build_images
from charting import own_namespace
from real_nodes import Nodes
from real_nodes import release as installed

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "cluster"
CRD_NAMES = ("federatedjobs.muster.dev", "clientpools.muster.dev")
CANNOT = 3  # the exit code of scripts/cluster for a machine with nothing to make a cluster of


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test may take five minutes unless it says otherwise; building a cluster for the first takes what it takes."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300, func_only=True))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    is_mine = "KUBECONFIG" not in os.environ and run_script("status").returncode != 0
    name, owner = (f"tests-{os.getpid()}", ("--owner", str(os.getpid()))) if is_mine else ("default", ())
    brought_up = run_script("--name", name, "up", *owner)
    if brought_up.returncode:
        skip_or_fail(brought_up)
    try:
        yield Cluster(environment_of(name))
    finally:
        if is_mine:
            assert run_script("--name", name, "down").returncode == 0


@pytest.fixture(scope="session")
def crds(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with crds/ installed; removed afterwards, unless they were there before."""
    before = cluster.kubectl("get", "crd", *CRD_NAMES).returncode == 0
    cluster.tell("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "crds"))
    try:
        wait_until_served(cluster)
        yield cluster
    finally:
        if not before:
            cluster.tell("delete", "crd", *CRD_NAMES)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of the test's own."""
    with own_namespace(cluster) as name:
        yield name


def wait_until_served(cluster: Cluster, within_s: float = 30.0) -> None:
    """Until both kinds can be listed. `kubectl wait` fails on a CRD that is too new to have conditions at all."""
    deadline = time.monotonic() + within_s
    while (listed := cluster.kubectl("get", ",".join(CRD_NAMES))).returncode:
        assert time.monotonic() < deadline, listed.stderr
        time.sleep(0.2)


def run_script(*arguments: str, environment: Mapping[str, str] = os.environ) -> subprocess.CompletedProcess[str]:
    """Run scripts/cluster, whatever it answers."""
    return subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)


def environment_of(name: str, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of a shell after `eval "$(scripts/cluster env)"`."""
    command = f'eval "$("{SCRIPT}" --name {name} env)" && env -0'
    output = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=True).stdout
    return dict(entry.split("=", 1) for entry in output.split("\0") if entry)


def skip_or_fail(asked: subprocess.CompletedProcess[str], what: str = "cluster") -> NoReturn:
    """Where a machine can't have it, that is a reason to skip, unless MUSTER_REQUIRE names it."""
    reason = asked.stderr.strip()
    if asked.returncode != CANNOT or what in os.environ.get("MUSTER_REQUIRE", "").split(","):
        pytest.fail(f"no {what} to test against: {reason}", pytrace=False)
    pytest.skip(reason)


# --- Real nodes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """A cluster with two nodes: the one that MUSTER_NODES names, else one brought up for the session.

    KUBECONFIG's cluster is not asked: what is done to these nodes is done to nobody else's.
    """
    own = {name: value for name, value in os.environ.items() if name not in {"KUBECONFIG", "KUBEBUILDER_ASSETS"}}
    given = os.environ.get("MUSTER_NODES", "")
    name, owner = (given, ()) if given else (f"nodes-{os.getpid()}", ("--owner", str(os.getpid())))
    brought_up = run_script("--name", name, "up", "--nodes", "2", *owner, environment=own)
    if brought_up.returncode:
        skip_or_fail(brought_up, "nodes")
    try:
        yield Nodes(Cluster(environment_of(name, own)), name)
    finally:
        if not given:
            assert run_script("--name", name, "down").returncode == 0


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """What the operator's image is made of, and how to bring the images to nodes."""
    found = build_images(tmp_path_factory.mktemp("images"))
    return found if isinstance(found, Images) else skip_or_fail(found, "nodes")


@pytest.fixture(scope="session")
def release(nodes: Nodes, images: Images) -> Iterator[Nodes]:
    """The nodes, with the images and the operator on them, installed from the chart."""
    if not os.environ.get("MUSTER_NODES"):
        images.load(nodes)
    with installed(nodes):
        yield nodes


_FAULTS = pytest.StashKey[list[tuple[str, float, str]]]()


@pytest.fixture(scope="session")
def fault_report(request: pytest.FixtureRequest) -> Callable[[str, float, str], None]:
    """Takes what was broken, how long the job took from then on, and how it ended. pytest prints it as a table."""
    rows = request.config.stash.setdefault(_FAULTS, [])
    return lambda fault, seconds, result: rows.append((fault, seconds, result))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_FAULTS, [])
    if rows:
        terminalreporter.section("faults: from the fault to the end of the job")
    for fault, seconds, result in rows:
        terminalreporter.line(f"{fault:<55}{seconds:>7.1f} s  {result}")
