"""A SLURM pool in a cluster: one pod that submits its jobs, and what it is shown and told."""

from __future__ import annotations

from typing import Any

import pytest

from muster_operator.actions import Issue, JoinBundle
from muster_operator.objects import Object
from muster_slurm.process import STOPPED
from operating import Cluster, job_object, pool_object

BRIDGE = "digits-bridge-hpc"
SLURM = {
    "url": "https://slurm:6820",
    "auth": {"user": "fl", "tokenSecret": {"name": "site", "key": "token"}},
    "caSecret": {"name": "site", "key": "ca"},
    "environment": [{"name": "KEY", "secret": {"name": "own", "key": "key"}}, {"name": "PLAIN", "value": "x"}],
}
SSH = {
    "host": "login.example.org",
    "user": "fl",
    "keySecret": {"name": "site", "key": "id"},
    "knownHostsSecret": {"name": "hosts", "key": "login"},
}
BY_SSH = {"command": {"type": "Ssh", "ssh": SSH}}


def cluster_of(slurm: Any = SLURM, **job: Any) -> Cluster:
    return Cluster(job_object(pools=("hpc",), **job), pool_object("hpc", type="Slurm", clients=4, slurm=slurm))


def reached(address: str) -> Any:
    return {"service": {"address": address}}


@pytest.fixture
def cluster() -> Cluster:
    found = cluster_of(coordinator=reached("fl.example.org:8443"))
    found.settle()
    return found


def bundle_of(cluster: Cluster) -> JoinBundle:
    issued = []
    for _ in range(4):
        issued += [action for action in cluster.step().actions if isinstance(action, Issue)]
    [bundle] = [action.content for action in issued if isinstance(action.content, JoinBundle)]
    return bundle


def bridge(cluster: Cluster) -> Object:
    found: Object = cluster.child("Job", BRIDGE)["spec"]["template"]["spec"]
    return found


def test_a_slurm_pool_is_one_bridge_and_no_workers(cluster: Cluster) -> None:
    assert cluster.keys("Job") == [BRIDGE, "digits-coordinator"]
    assert cluster.child("Job", BRIDGE)["spec"]["completions"] == 1
    assert "backoffLimitPerIndex" not in cluster.child("Job", BRIDGE)["spec"]  # see build/bridge.py


def test_what_ends_the_bridge_is_told_of_its_own_container(cluster: Cluster) -> None:
    [container] = bridge(cluster)["containers"]
    policy = cluster.child("Job", BRIDGE)["spec"]["podFailurePolicy"]
    named = {rule["onExitCodes"]["containerName"] for rule in policy["rules"] if "onExitCodes" in rule}
    assert named == {container["name"]}


def test_a_bridge_that_was_told_to_go_has_neither_done_its_work_nor_failed(cluster: Cluster) -> None:
    rules = cluster.child("Job", BRIDGE)["spec"]["podFailurePolicy"]["rules"]
    ignored = [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "Ignore" and "onExitCodes" in rule]
    assert ignored == [[STOPPED]]


def test_the_bridge_is_told_what_a_pod_can_be_told(cluster: Cluster) -> None:
    command = bridge(cluster)["containers"][0]["command"]
    assert command[:4] == ["python", "-m", "muster_slurm", "--alone"]
    options = dict(zip(command[4::2], command[5::2], strict=True))
    assert (options["--pool"], options["--workers"]) == ("hpc", "4")
    assert options["--secrets"] == "/etc/muster/secrets"


def test_it_is_shown_the_secrets_that_the_pool_names_and_no_others(cluster: Cluster) -> None:
    volumes = {
        one["secret"]["secretName"]: one["secret"].get("items") for one in bridge(cluster)["volumes"] if "secret" in one
    }
    assert {each["key"] for each in volumes["site"]} == {"token", "ca"}
    assert {each["key"] for each in volumes["own"]} == {"key"}
    mounts = {one["mountPath"] for one in bridge(cluster)["containers"][0]["volumeMounts"]}
    assert {"/etc/muster/secrets/site", "/etc/muster/secrets/own"} <= mounts


def test_it_has_the_time_to_cancel_what_it_has_in_slurm(cluster: Cluster) -> None:
    assert bridge(cluster)["terminationGracePeriodSeconds"] >= 60


def test_its_workers_dial_from_outside() -> None:
    bundle = bundle_of(cluster_of(coordinator=reached("fl.example.org:8443")))
    assert bundle.address == "fl.example.org:8443"
    assert bundle.bridge == "digits-coordinator.lab.svc:443"  # the bridge itself is inside


def ingress(cluster: Cluster) -> Object:
    """The rule for the coordinator's port."""
    cluster.settle()
    rule: Object = cluster.child("NetworkPolicy", "digits-coordinator")["spec"]["ingress"][0]
    return rule


def test_the_users_own_gateway_may_pass_them_on_to_the_coordinator() -> None:
    cluster = cluster_of(coordinator=reached("fl.example.org:8443"))
    assert "from" not in ingress(cluster)
    assert cluster.child("Service", "digits-coordinator")["spec"]["type"] == "ClusterIP"


@pytest.mark.parametrize("job", [{}, {"coordinator": reached("fl.example.org:8443")}], ids=["plain", "with an address"])
def test_a_coordinator_is_closed_to_the_outside_where_the_bridge_relays(job: Any) -> None:
    rule = ingress(cluster_of(BY_SSH | {"relay": {"type": "Ssh"}}, **job))
    assert rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "worker"


def test_workers_that_the_bridge_relays_for_need_no_way_from_outside() -> None:
    bundle = bundle_of(cluster_of(BY_SSH | {"relay": {"type": "Ssh"}}))
    assert bundle.address == bundle.bridge == "digits-coordinator.lab.svc:443"


def test_a_bridge_by_ssh_is_shown_its_key_and_whom_to_trust() -> None:
    cluster = cluster_of(BY_SSH | {"relay": {"type": "Ssh"}})
    cluster.settle()
    volumes = {one["secret"]["secretName"]: one["secret"] for one in bridge(cluster)["volumes"] if "secret" in one}
    assert [item["key"] for item in volumes["site"]["items"]] == ["id"]
    assert [item["key"] for item in volumes["hosts"]["items"]] == ["login"]


def test_the_status_counts_the_bridge(cluster: Cluster) -> None:
    status = cluster.plan().status
    assert status is not None
    assert [(pool["workersWanted"], pool["workersReady"]) for pool in status["pools"]] == [(1, 0)]
