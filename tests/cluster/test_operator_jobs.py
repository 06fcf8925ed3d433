"""The operator against a real API server and the real job controller: whole lives of jobs.

There is no kubelet here, so the status of pods is written by the tests where they say so (`run_all`, `end_pod`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from operator_runs import MANIFEST, SLURM, Kubectl, Lab, wait_until

PARTS = {
    "Job/digits-coordinator",
    "Job/digits-workers-cloud",
    "Service/digits-coordinator",
    "Secret/digits-authority",
    "Secret/digits-server",
    "Secret/digits-join-cloud",
    "ServiceAccount/digits-coordinator",
    "Role/digits-coordinator",
    "RoleBinding/digits-coordinator",
    "NetworkPolicy/digits-coordinator",
    "NetworkPolicy/digits-worker",
}


@pytest.fixture
def lab(crds: Kubectl, namespace: str, tmp_path: Path) -> Lab:
    crds.tell("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    return Lab(crds, namespace, tmp_path)


@pytest.fixture
def started(lab: Lab) -> Iterator[Lab]:
    """A lab with a running operator, a job and its children."""
    with lab.operator():
        lab.apply()
        wait_until(lambda: lab.children() >= PARTS, "all parts are there")
        yield lab


def named(lab: Lab) -> set[str]:
    """The children whose names are not made from digests."""
    return {child for child in lab.children() if not child.startswith(("ConfigMap", "PersistentVolumeClaim"))}


def test_apply_brings_all_parts_and_pods_that_a_restricted_namespace_admits(started: Lab) -> None:
    started.settle()
    assert named(started) == PARTS
    wait_until(lambda: len(started.pods("worker")) == 2, "workers are created")
    assert len(started.pods("coordinator")) == 1
    [config] = [child for child in started.children() if child.startswith("ConfigMap")]
    assert started.get(config)["immutable"] is True


def test_a_slurm_pool_gets_a_bridge_whose_pod_is_admitted(lab: Lab) -> None:
    with lab.operator():
        lab.tell("create", "secret", "generic", "slurm", "--from-literal=token=t")
        lab.apply(SLURM)
        wait_until(lambda: len(lab.pods("worker")) == 1, "the bridge's pod is made")
        assert PARTS - {"Job/digits-workers-cloud"} | {"Job/digits-bridge-cloud"} <= lab.children()
        assert lab.get("service/digits-coordinator")["spec"]["type"] == "NodePort"


@pytest.fixture
def hybrid(lab: Lab) -> Iterator[Lab]:
    """A job with a SLURM pool, whose bridge's pod runs."""
    with lab.operator():
        lab.tell("create", "secret", "generic", "slurm", "--from-literal=token=t")
        lab.apply(SLURM)
        wait_until(lambda: len(lab.pods("worker")) == 1, "the bridge's pod is made")
        [bridge] = lab.pods("worker")
        lab.run_pod(bridge)
        assert lab.get("fedjob/digits")["metadata"]["finalizers"] == ["muster.dev/slurm"]
        yield lab


def command_of(lab: Lab) -> list[str]:
    """What the one pod that speaks to SLURM was started with; nothing while there isn't one."""
    names = lab.pods("worker")
    found: list[str] = lab.get("pod", names[0])["spec"]["containers"][0]["command"] if len(names) == 1 else []
    return found


def is_gone(lab: Lab) -> bool:
    return not lab.tell("get", "fedjobs", "-o", "name")


def events(lab: Lab) -> set[str]:
    return {event["reason"] for event in lab.get("events")["items"]}


def end_the_canceller(lab: Lab, code: int) -> None:
    wait_until(lambda: "muster_slurm.cancel" in command_of(lab), "a canceller is made")
    [pod] = lab.pods("worker")
    assert not is_gone(lab)
    lab.end_pod(pod, code)
    wait_until(lambda: is_gone(lab), "the job goes", within_s=60)


def test_a_job_is_deleted_when_its_bridge_has_gone_and_a_canceller_has_looked(hybrid: Lab) -> None:
    [bridge] = hybrid.pods("worker")
    binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": bridge}, "target": {"name": "a-node"}}
    path = f"/api/v1/namespaces/{hybrid.namespace}/pods/{bridge}/binding"
    hybrid.tell("create", "--raw", path, "-f", "-", manifest=json.dumps(binding))  # only what has a node gets its grace
    hybrid.tell("delete", "fedjob/digits", "--wait=false")
    wait_until(lambda: "deletionTimestamp" in hybrid.get("pod", bridge)["metadata"], "the bridge is told to end")
    wait_until(lambda: not hybrid.pods("coordinator"), "the coordinator goes at once")
    assert not is_gone(hybrid)
    hybrid.end_pod(bridge, 143)
    hybrid.tell("delete", "pod", bridge, "--grace-period=0", "--force", "--ignore-not-found")
    end_the_canceller(hybrid, 0)
    assert "SlurmNotCancelled" not in events(hybrid)
    wait_until(lambda: not named(hybrid) and not hybrid.pods("worker"), "its parts go with it")


def test_a_job_whose_bridge_has_crashed_is_deleted_when_a_canceller_has_looked(hybrid: Lab) -> None:
    [bridge] = hybrid.pods("worker")
    hybrid.end_pod(bridge, 1)
    hybrid.tell("delete", "fedjob/digits", "--wait=false")
    end_the_canceller(hybrid, 0)
    assert "CancellingSlurm" in events(hybrid)
    assert "SlurmNotCancelled" not in events(hybrid)
    wait_until(lambda: not named(hybrid) and not hybrid.pods("worker"), "its parts go with it")


def test_a_canceller_that_cant_is_no_reason_to_stay(hybrid: Lab) -> None:
    [bridge] = hybrid.pods("worker")
    hybrid.end_pod(bridge, 1)
    hybrid.tell("delete", "fedjob/digits", "--wait=false")
    end_the_canceller(hybrid, 2)
    assert "SlurmNotCancelled" in events(hybrid)


def test_the_user_may_abandon_what_slurm_has(hybrid: Lab) -> None:
    [bridge] = hybrid.pods("worker")
    hybrid.end_pod(bridge, 1)
    hybrid.tell("delete", "fedjob/digits", "--wait=false")
    wait_until(lambda: "muster_slurm.cancel" in command_of(hybrid), "a canceller is made")
    hybrid.tell("annotate", "fedjob/digits", "muster.dev/abandon-slurm=true")
    wait_until(lambda: is_gone(hybrid), "the job goes")
    assert "SlurmAbandoned" in events(hybrid)


def test_without_an_operator_the_finalizer_is_taken_off_by_hand(lab: Lab) -> None:
    """As helm/muster/README.md says."""
    with lab.operator():
        lab.apply(SLURM)
        wait_until(lambda: "Job/digits-bridge-cloud" in lab.children(), "there is a bridge")
    lab.tell("delete", "fedjob/digits", "--wait=false")
    assert not is_gone(lab)
    lab.tell("patch", "fedjob", "digits", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    wait_until(lambda: is_gone(lab) and not named(lab), "the job goes, with its parts")


def test_a_look_at_an_unchanged_job_changes_nothing(started: Lab) -> None:
    started.run_all()
    started.settle()
    before = len(started.requests())
    started.tell("annotate", "fedjob/digits", "look=again")
    started.tell("annotate", "service/digits-coordinator", "look=again")
    started.settle()
    assert started.requests()[before:] == []


def test_a_new_operator_finds_nothing_to_do(lab: Lab) -> None:
    with lab.operator():
        lab.apply()
        wait_until(lambda: lab.children() >= PARTS, "all parts are there")
        lab.settle()
    before = len(lab.requests())
    with lab.operator():
        lab.settle(4)
    assert lab.requests()[before:] == []


def test_it_starts_beside_more_objects_than_anybody_counted(lab: Lab) -> None:
    pool = MANIFEST.partition("---")[0]
    lab.apply("---".join(pool.replace("cloud", f"pool-{number}") for number in range(120)))
    with lab.operator():
        lab.apply()
        wait_until(lambda: lab.children() >= PARTS, "all parts are there", within_s=60)


def test_any_child_comes_back(started: Lab) -> None:
    started.settle()
    before = started.children()
    for child in sorted(before - {one for one in before if one.startswith("PersistentVolumeClaim")}):
        old = started.get(child)["metadata"]["uid"]
        started.tell("delete", child, "--wait=false")
        wait_until(lambda child=child, old=old: is_back(started, child, old), f"{child} is back")  # type: ignore[misc]
    started.settle()
    assert started.children() == before


def test_a_certificate_that_is_due_is_renewed_in_place(started: Lab) -> None:
    started.run_all()
    started.settle()
    secrets = ("secret/digits-server", "secret/digits-join-cloud")
    before, jobs = [started.get(name) for name in secrets], started.get("jobs")["items"]
    long_ago = {"metadata": {"annotations": {"operator.muster.dev/issued": "2020-01-01T00:00:00Z"}}}
    for name in secrets:
        started.patch(long_ago, name)
        wait_until(lambda name=name: "2020" not in str(started.get(name)), f"{name} is renewed")  # type: ignore[misc]
    started.settle()
    after = [started.get(name) for name in secrets]
    for old, new in zip(before, after, strict=True):
        assert old["metadata"]["uid"] == new["metadata"]["uid"]
        assert old["data"].keys() == new["data"].keys()
        assert not old["data"].items() & new["data"].items()
    assert [job["metadata"]["generation"] for job in started.get("jobs")["items"]] == [
        job["metadata"]["generation"] for job in jobs
    ]


def is_back(lab: Lab, child: str, old: str) -> bool:
    found = lab.cluster.kubectl("-n", lab.namespace, "get", child, "-o", "jsonpath={.metadata.uid}")
    return found.returncode == 0 and found.stdout not in {"", old}


@pytest.mark.parametrize(("policy", "left"), [("Retain", 1), ("Delete", 0)])
def test_deleting_the_job_leaves_only_what_is_to_be_kept(lab: Lab, policy: str, left: int) -> None:
    lab.apply(MANIFEST.partition("---")[0])
    before = lab.everything()
    with lab.operator():
        lab.apply(f"{MANIFEST}  checkpoint: {{whenDeleted: {policy}}}\n")
        wait_until(lambda: lab.children() >= PARTS, "all parts are there")
        lab.settle()
        lab.tell("delete", "fedjob/digits")
        wait_until(lambda: not named(lab) and not lab.pods("worker"), "the parts are gone")
        lab.settle()
        wait_until(lambda: len(lab.everything() - before) == left, f"only {left} object is left", within_s=60)
    assert all(one.startswith("persistentvolumeclaim/digits-checkpoint-") for one in lab.everything() - before)


def test_suspend_frees_the_pods_and_resume_brings_them_back(started: Lab) -> None:
    started.run_all()
    started.patch({"spec": {"suspend": True}})
    wait_until(lambda: started.status().get("reason") == "Suspending", "the round that is open may end")
    [coordinator] = started.pods("coordinator")
    assert len(started.pods("worker")) == 2
    started.end_pod(coordinator, 143)
    wait_until(lambda: not started.pods("worker") and not started.pods("coordinator"), "no pod is left")
    started.tell("wait", "--for=condition=Suspended", "fedjob/digits", "--timeout=10s")
    started.patch({"spec": {"suspend": False}})
    started.run_all()


def test_kubectl_waits_for_a_job_that_completes(started: Lab) -> None:
    started.run_all()
    assert columns(started)["STATE"] == "Running"
    [coordinator] = started.pods("coordinator")
    started.end_pod(coordinator, 0, '{"event":"finished","reason":"Completed","message":"all 3 rounds are done"}')
    started.tell("wait", "--for=condition=Complete", "fedjob/digits", "--timeout=20s")
    assert started.status()["message"] == "all 3 rounds are done"
    wait_until(lambda: not started.pods("worker"), "the workers are stopped")


def columns(lab: Lab) -> dict[str, str]:
    head, row = lab.tell("get", "fedjobs").splitlines()
    starts = [index for index, letter in enumerate(head) if letter != " " and (index == 0 or head[index - 1] == " ")]
    ends = [*starts[1:], None]
    return {head[a:b].strip(): row[a:b].strip() for a, b in zip(starts, ends, strict=True)}


def test_kubectl_get_and_describe_tell_the_story(started: Lab) -> None:
    wait_until(lambda: started.status().get("reason") == "CoordinatorUnschedulable", "it is told that no node fits")
    assert columns(started).keys() == {"NAME", "STATE", "ROUND", "TOTAL", "CLIENTS", "ACCURACY", "AGE"}
    assert columns(started)["TOTAL"] == "3"
    wide = started.tell("get", "fedjobs", "-o", "wide")
    assert "digits-coordinator." in wide
    assert "CoordinatorUnschedulable" in wide
    wait_until(lambda: "no nodes available" in started.tell("describe", "fedjob/digits"), "describe says it")
    assert "Events:" in started.tell("describe", "fedjob/digits")


def test_a_failure_is_typed_and_stays(started: Lab) -> None:
    started.run_all()
    [coordinator] = started.pods("coordinator")
    said = {"event": "finished", "outcome": "Failed", "reason": "TooManyFailedRounds", "message": "3 in a row"}
    started.end_pod(coordinator, 1, json.dumps(said))
    started.tell("wait", "--for=condition=Failed", "fedjob/digits", "--timeout=20s")
    started.settle()
    assert (started.status()["reason"], started.status()["message"]) == ("TooManyFailedRounds", "3 in a row")
    assert not started.pods("coordinator")


def test_the_coordinators_part_of_the_status_is_not_touched(started: Lab) -> None:
    training = json.dumps({"status": {"training": {"round": 2, "clients": {"summary": "2/2"}}}})
    started.tell("patch", "fedjob/digits", "--subresource=status", "--type=merge", "-p", training)
    started.run_all()
    started.settle()
    assert started.status()["training"]["round"] == 2
    assert (columns(started)["ROUND"], columns(started)["CLIENTS"]) == ("2", "2/2")


def test_a_pool_that_comes_later_starts_the_job(lab: Lab) -> None:
    pool, _, job = MANIFEST.partition("---")
    with lab.operator():
        lab.apply(job)
        wait_until(lambda: lab.status().get("reason") == "PoolNotFound", "the pool is missed")
        lab.apply(pool)
        wait_until(lambda: lab.children() >= PARTS, "all parts are there")


LIMITS = """
apiVersion: v1
kind: LimitRange
metadata: {name: small}
spec: {limits: [{type: Container, max: {cpu: 100m}}]}
"""
WORKERS_QUOTA = """
apiVersion: v1
kind: ResourceQuota
metadata: {name: one-pod}
spec: {hard: {pods: "1"}}
"""


@pytest.mark.parametrize(
    ("limit", "reason", "words"),
    [(LIMITS, "LimitRange", "per Container is 100m"), (WORKERS_QUOTA, "QuotaExceeded", "exceeded quota: one-pod")],
)
def test_pods_that_the_api_server_refuses_are_told_of(lab: Lab, limit: str, reason: str, words: str) -> None:
    lab.tell("apply", "-f", "-", manifest=limit)
    with lab.operator():
        lab.apply(MANIFEST.replace("clients: 2", 'clients: 2, template: {resources: {limits: {cpu: "2"}}}'))
        wait_until(lambda: pool_reason(lab) == reason, "it is told at the pool", within_s=60)
        assert words in lab.status()["pools"][0]["message"]
        wait_until(lambda: reason in lab.tell("get", "events", "-o", "jsonpath={..reason}"), "an Event says it")
        lab.tell("delete", "limitrange,quota", "--all")


def pool_reason(lab: Lab) -> str | None:
    pools = lab.status().get("pools") or [{}]
    reason: str | None = pools[0].get("reason")
    return reason


def test_code_from_a_config_map_is_copied_and_a_change_is_told_of(lab: Lab) -> None:
    source = "source: {type: ConfigMap, configMap: {name: my-code}}"
    with lab.operator():
        lab.apply(MANIFEST.replace('"a:B"', f"a:B, {source}"))
        wait_until(lambda: lab.status().get("reason") == "SourceNotFound", "the code is missed")
        lab.tell("create", "configmap", "my-code", "--from-literal=a.py=import muster")
        lab.tell("annotate", "fedjob/digits", "look=again")  # nobody watches what isn't ours
        wait_until(lambda: lab.children() >= PARTS, "all parts are there")
        [copy] = [one for one in lab.children() if one.startswith("ConfigMap/digits-code-")]
        assert lab.get(copy)["data"] == {"a.py": "import muster"}
        lab.run_all()
        lab.tell("delete", "configmap", "my-code")
        lab.tell("delete", copy)
        wait_until(lambda: copy in lab.children(), "the copy is back")
        wait_until(lambda: "SpecDrift" in str(lab.status().get("pools")), "it is told that the original is gone")


def test_a_pool_that_changes_is_told_of_and_changes_nothing(started: Lab) -> None:
    started.run_all()
    started.settle()
    before = started.get("job/digits-workers-cloud")["metadata"]["uid"]
    started.patch({"spec": {"template": {"image": "worker:2"}}}, "clientpool/cloud")
    wait_until(lambda: pool_reason(started) == "SpecDrift", "it is told at the pool")
    wait_until(lambda: "SpecDrift" in started.tell("get", "events", "-o", "jsonpath={..reason}"), "an Event says it")
    assert started.status()["phase"] == "Running"
    assert started.get("job/digits-workers-cloud")["metadata"]["uid"] == before


def test_a_quota_is_told_of(lab: Lab) -> None:
    with lab.operator():
        lab.tell("create", "quota", "small", "--hard=count/services=0")
        lab.apply()
        wait_until(lambda: lab.status().get("reason") == "QuotaExceeded", "it is told")
        assert "exceeded quota: small" in lab.status()["message"]
        lab.tell("delete", "quota", "small")
        wait_until(lambda: lab.children() >= PARTS, "all parts are there", within_s=60)
