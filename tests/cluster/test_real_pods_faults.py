"""What happens when things break under a job: a test first sees that its fault has landed, then that all is well.

The faults are in tests/faults. Those that don't disturb one another run side by side: three at a time of those that
touch only their own pods, and beside them, one after the other, those that take the second node away. What the whole
cluster feels comes last, alone. At the end pytest prints what was broken, how long the job took from then on, and how
it ended.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest

from faults import clocks, namespaces, networks, nodes_lost, processes, shortages
from faults.jobs import TASK, Lab
from real_nodes import Nodes, team

Fault = Callable[[Lab], None]
Outcomes = Mapping[str, "Future[None]"]

OWN_PODS: tuple[Fault, ...] = (
    clocks.workers_certificate_expires,
    clocks.coordinators_certificate_expires,
    networks.cut_in_the_middle_of_an_upload,
    networks.slow_link,
    networks.cut_both_ways,
    networks.cut_to_the_coordinator,
    networks.cut_to_the_worker,
    clocks.clock_ahead,
    clocks.clock_behind,
    shortages.disk_full,
    shortages.no_memory,
    shortages.no_image,
    processes.coordinator_killed,
    processes.coordinator_evicted,
    processes.worker_killed,
)
SECOND_NODE: tuple[Fault, ...] = (
    nodes_lost.node_lost_with_its_coordinator,
    nodes_lost.node_lost_and_back,
    nodes_lost.node_drained,
)
WHOLE_CLUSTER: tuple[Fault, ...] = (
    processes.operator_killed,
    processes.kubelet_killed,
    processes.containerd_killed,
    processes.api_server_killed,
    processes.etcd_killed,
)
BESIDE = {fault.__name__: fault for fault in (*OWN_PODS, *SECOND_NODE)}
AT_ONCE = 3

pytestmark = pytest.mark.timeout(900, func_only=True)


@pytest.fixture(scope="module")
def lab(release: Nodes, fault_report: Callable[[str, float, str], None]) -> Iterator[Lab]:
    with team(release, "faults") as found:
        found.tell("create", "configmap", "stepping", f"--from-file={TASK}")
        found.tell("apply", "-f", "-", manifest=json.dumps(_library()))
        yield Lab(found, fault_report)


def _library() -> dict[str, object]:
    """libfaketime, which comes with scripts/system-packages, as a ConfigMap."""
    [path] = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    data = {"libfaketime.so.1": base64.b64encode(path.read_bytes()).decode()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": clocks.LIBRARY}, "binaryData": data}


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Outcomes]:
    """What becomes of the jobs that are broken side by side: of those whose tests were asked for."""
    wanted = {item.callspec.params["fault"] for item in request.session.items if _is_beside(item)}
    with ThreadPoolExecutor(AT_ONCE) as pods, ThreadPoolExecutor(1) as second_node:
        lanes = [(pods, OWN_PODS), (second_node, SECOND_NODE)]
        yield {
            fault.__name__: lane.submit(fault, lab)
            for lane, faults in lanes
            for fault in faults
            if fault.__name__ in wanted
        }


def _is_beside(item: pytest.Item) -> bool:
    return isinstance(item, pytest.Function) and item.function is test_a_job_completes_though


def test_a_namespace_goes_though_a_job_runs_in_it(outcomes: Outcomes, lab: Lab) -> None:
    """While the others' jobs are broken."""
    del outcomes
    namespaces.namespace_deleted(lab)


@pytest.mark.parametrize("fault", BESIDE)
def test_a_job_completes_though(outcomes: Outcomes, fault: str) -> None:
    outcomes[fault].result()


@pytest.mark.parametrize("fault", WHOLE_CLUSTER, ids=lambda fault: fault.__name__)
def test_a_job_completes_though_the_cluster_suffers(outcomes: Outcomes, lab: Lab, fault: Fault) -> None:
    wait(outcomes.values())
    fault(lab)
