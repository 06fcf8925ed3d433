"""The cluster that these tests run against.

KUBECONFIG's if it is set, else the one that `scripts/cluster up` left running, else one brought up for the session and
taken down after it, whatever happens. A machine that can't have one skips, with the reason; where MUSTER_REQUIRE
contains "cluster" that is a failure instead.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from building import Ahead, Images, build_images
from charting import ROOT, own_namespace
from clusters import CANNOT, Cluster, environment_of, own_nodes, run_script
from faults.jobs import Reports
from real_nodes import Nodes
from real_nodes import release as installed
from slurming import Slurm, own_slurm

CRD_NAMES = ("federatedjobs.muster.dev", "clientpools.muster.dev")
# The second node is taken away by some tests, so the operator is on the first. Certificates of a minute: nearly every
# job here outlives those of its workers.
RELEASE = {"nodeSelector": {"kubernetes.io/hostname": "n1"}, "certificates.workerMinutes": 1}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test may take five minutes unless it says otherwise; building a cluster for the first takes what it takes.

    Those that wait for images come late, when these have been built; what looks for traces that something left on this
    machine comes last, since builds leave traces as long as they run. All of these are marked `nodes`.
    """
    here = Path(__file__).parent
    ours = [item for item in items if here in item.path.parents]
    for item in ours:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(300, func_only=True))
        if _turn(item):
            item.add_marker(pytest.mark.nodes)
    items[:] = [item for item in items if item not in set(ours)] + sorted(ours, key=_turn)


def _turn(item: pytest.Item) -> int:
    needs = item.fixturenames if isinstance(item, pytest.Function) else []
    if "nodes" in needs:
        return 2 if "release" in needs else 3
    return 1 if "images" in needs else 0


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


def skip_or_fail(asked: subprocess.CompletedProcess[str], what: str = "cluster") -> NoReturn:
    """Where a machine can't have it, that is a reason to skip, unless MUSTER_REQUIRE names it, or the whole cluster."""
    reason, required = asked.stderr.strip(), os.environ.get("MUSTER_REQUIRE", "").split(",")
    if asked.returncode != CANNOT or {what, "cluster"} & {*required}:
        pytest.fail(f"no {what} to test against: {reason}", pytrace=False)
    pytest.skip(reason)


# --- Real nodes -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """A cluster with two nodes: the one that MUSTER_NODES names, else one brought up for the session.

    KUBECONFIG's cluster is not asked: what is done to these nodes is done to nobody else's.
    """
    given = os.environ.get("MUSTER_NODES", "")
    with own_nodes(given, f"nodes-{os.getpid()}") as found:
        if not isinstance(found, Nodes):
            skip_or_fail(found, "nodes")
        yield found


@pytest.fixture(scope="session", autouse=True)
def ahead(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ahead | None]:
    """Builds the images from the first test on, if they'll be wanted on nodes."""
    wanted = {name for item in request.session.items if isinstance(item, pytest.Function) for name in item.fixturenames}
    if "release" not in wanted or os.environ.get("MUSTER_NODES"):
        yield None
        return
    building = Ahead(tmp_path_factory.mktemp("ahead"))
    yield building
    building.stop()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, ahead: Ahead | None) -> Images:
    """What the operator's image is made of. Its archives are the tests' own."""
    found = ahead.images() if ahead else build_images(tmp_path_factory.mktemp("base"))
    if not isinstance(found, Images):
        skip_or_fail(found, "nodes")
    return Images(tmp_path_factory.mktemp("images"), found.base)


@pytest.fixture(scope="session")
def release(nodes: Nodes, images: Images, ahead: Ahead | None) -> Iterator[Nodes]:
    """The nodes, with the images and the operator on them, installed from the chart."""
    del images  # where there can be none, nodes are of no use
    if ahead:
        ahead.load(nodes)
    with installed(nodes, RELEASE):
        yield nodes


@pytest.fixture
def slurm(private_slurm: Slurm) -> Iterator[Slurm]:
    """It, without what a test has left."""
    yield private_slurm
    private_slurm.tell("scancel", "--user=root")
    private_slurm.until(lambda: not private_slurm.queue())


@pytest.fixture(scope="session")
def private_slurm() -> Iterator[Slurm]:
    """A private SLURM beside the cluster."""
    with own_slurm(f"cluster-{os.getpid()}") as found:
        if not isinstance(found, Slurm):
            skip_or_fail(found, "slurm")
        yield found


_FAULTS = pytest.StashKey[list[tuple[str, float, str]]]()


@pytest.fixture(scope="session")
def fault_report(request: pytest.FixtureRequest) -> Reports:
    """Takes what was broken, how long the job took from then on, and how it ended. pytest prints it as a table."""
    return Reports(request.config.stash.setdefault(_FAULTS, []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_FAULTS, [])
    if rows:
        terminalreporter.section("faults: from the fault to the end of the job")
    for fault, seconds, result in rows:
        terminalreporter.line(f"{fault:<55}{seconds:>7.1f} s  {result}")
