"""What people are told: phases, conditions, reasons, and which changes are worth an Event."""

from __future__ import annotations

from typing import Any

import pytest

from muster_operator.diagnosis import lacks_pods, refused_pods, trouble_of
from muster_operator.objects import Object, timestamp
from muster_operator.status import transitions, with_refused, with_taken
from operating import START, Cluster, conditions, ended, job_object, pool_object

COORDINATOR, WORKERS = "digits-coordinator", "digits-workers-cloud"
TERMINATING = (
    'configmaps "a" is forbidden: unable to create new content in namespace lab because it is being terminated'
)


def waiting(reason: str) -> Object:
    return {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": reason, "message": "why"}}}]}


def unschedulable(words: str = "0/3 nodes: no gpu") -> Object:
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": words}
    return {"phase": "Pending", "conditions": [condition]}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (waiting("ImagePullBackOff"), "ImagePullFailed"),
        (waiting("ErrImagePull"), "ImagePullFailed"),
        (waiting("InvalidImageName"), "ImagePullFailed"),
        (waiting("CreateContainerConfigError"), "ConfigurationMissing"),
        (waiting("ContainerCreating"), None),
        (unschedulable(), "Unschedulable"),
        (unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."), "UnschedulableDevice"),
        (unschedulable("0/3 nodes are available: 3 Insufficient memory."), "Unschedulable"),
        (ended(137, reason="OOMKilled"), "OutOfMemory"),
        (ended(1, "Traceback\nValueError: bad"), "PodFailed"),
        (ended(143), None),
        (ended(0), None),
        (ended(137, is_disrupted=True), "Disrupted"),
        ({"phase": "Running"}, None),
    ],
)
def test_what_keeps_a_pod_from_running(status: Object, reason: str | None) -> None:
    trouble = trouble_of({"metadata": {"name": "p"}, "status": status})
    assert (trouble.reason if trouble else None) == reason


def test_the_last_line_of_a_failed_pods_log_is_told() -> None:
    trouble = trouble_of({"metadata": {"name": "p"}, "status": ended(1, "Traceback\nValueError: bad")})
    assert trouble is not None
    assert trouble.message == "pod p ended with exit code 1: ValueError: bad"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            'pods "w-0" is forbidden: exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1',
            "QuotaExceeded",
        ),
        ('pods "w-0" is forbidden: failed quota: cpu: must specify limits.cpu for: worker', "QuotaExceeded"),
        ('pods "w-0" is forbidden: maximum cpu usage per Container is 100m, but limit is 2', "LimitRange"),
        ('pods "w-0" is forbidden: minimum memory usage per Pod is 1Gi, but request is 1Mi', "LimitRange"),
        ('pods "w-0" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot', "PodSecurityViolated"),
        ('error looking up service account lab/sa: serviceaccount "sa" not found', "ServiceAccountMissing"),
        ('pods "w-0" is forbidden: no PriorityClass with name high was found', "PriorityClassMissing"),
        ('pods "w-0" is forbidden: pod rejected: RuntimeClass "gvisor" not found', "RuntimeClassMissing"),
        (TERMINATING, "NamespaceTerminating"),
        ("admission webhook said no", "PodsRefused"),
    ],
)
def test_why_pods_are_refused(words: str, reason: str) -> None:
    assert refused_pods(words).reason == reason


@pytest.mark.parametrize(
    ("spec", "status", "pods", "lacks"),
    [
        ({"parallelism": 2}, {"active": 0}, [], True),
        ({"parallelism": 2}, {"active": 1}, [{}], True),
        ({"parallelism": 2}, {"active": 2}, [{}, {}], False),
        ({"parallelism": 2}, {"active": 1, "succeeded": 1}, [{}], False),
        ({"parallelism": 5}, {"active": 1, "failedIndexes": "0,2-4"}, [{}], False),
        ({"parallelism": 5}, {"active": 1, "failedIndexes": "0,2-3"}, [{}], True),
        ({"parallelism": 1}, {"active": 0}, [ended(1)], True),
        ({"parallelism": 1}, {"active": 0}, [{"phase": "Failed"}], True),  # never on any node
        ({"parallelism": 2}, {}, [], False),
        ({"parallelism": 2, "suspend": True}, {"active": 0}, [], False),
        ({"parallelism": 2}, {"conditions": [{"type": "Failed", "status": "True"}]}, [], False),
    ],
)
def test_which_jobs_lack_pods(spec: Object, status: Object, pods: list[Object], lacks: bool) -> None:
    assert lacks_pods({"spec": spec, "status": status}, [{"status": one} for one in pods]) is lacks


def test_refused_pods_are_told_of_and_looked_at_again() -> None:
    cluster = started()
    for name in (COORDINATOR, WORKERS):
        cluster.say(name, active=0)
        cluster.refusals[cluster.child("Job", name)["metadata"]["uid"]] = "exceeded quota: small"
    planned = cluster.settle()
    assert planned.status is not None
    assert planned.status["reason"] == "CoordinatorQuotaExceeded"
    assert planned.status["pools"][0]["reason"] == "QuotaExceeded"
    assert planned.wake_at == START + 5


def started() -> Cluster:
    cluster = Cluster(job_object(), pool_object(clients=2))
    cluster.settle()
    return cluster


def status_of(cluster: Cluster) -> Object:
    status = cluster.settle().status
    assert status is not None
    return status


def test_a_job_is_pending_then_starting_then_running() -> None:
    cluster = started()
    assert (status_of(cluster)["phase"], conditions(status_of(cluster))) == ("Pending", {"Reconciling": "Creating"})
    pod = cluster.start_pod(COORDINATOR, status={"phase": "Pending"})
    assert status_of(cluster)["reason"] == "CoordinatorStarting"
    pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    assert (status_of(cluster)["phase"], status_of(cluster)["reason"]) == ("Starting", "WorkersStarting")
    cluster.say(WORKERS, ready=1)
    assert conditions(status_of(cluster)) == {"Running": "Running"}
    assert status_of(cluster)["message"] == "1 of 2 workers are ready"


def test_a_job_that_is_done_is_not_pending_until_its_verdict() -> None:
    cluster = started()
    cluster.start_pod(COORDINATOR, status=ended(0))
    assert (status_of(cluster)["phase"], conditions(status_of(cluster))) == ("Running", {"Running": "Finishing"})


def test_a_worker_in_trouble_is_told_of_while_the_others_run() -> None:
    cluster = started()
    cluster.start_pod(COORDINATOR)
    cluster.start_pod(WORKERS, index=0)
    cluster.start_pod(WORKERS, index=1, status=unschedulable())
    cluster.say(WORKERS, ready=1)
    status = status_of(cluster)
    assert (status["phase"], status["reason"]) == ("Running", "Unschedulable")
    assert "no gpu" in status["message"]


def test_trouble_that_a_newer_pod_has_overcome_is_history() -> None:
    cluster = started()
    cluster.start_pod(COORDINATOR)
    cluster.start_pod(WORKERS, index=0, status=ended(137, reason="OOMKilled"))
    cluster.start_pod(WORKERS, index=0)
    cluster.start_pod(WORKERS, index=1)
    cluster.say(WORKERS, ready=2)
    assert status_of(cluster)["reason"] == "Running"


def test_a_coordinator_in_trouble_is_told_of() -> None:
    cluster = started()
    cluster.start_pod(COORDINATOR, status=waiting("ImagePullBackOff"))
    assert status_of(cluster)["reason"] == "CoordinatorImagePullFailed"


def test_what_the_coordinator_waits_for_is_told() -> None:
    cluster = started()
    cluster.job["status"]["training"] = {"reason": "NoQuorum", "message": "1 of at least 2 clients are here"}
    cluster.run()
    status = status_of(cluster)
    assert (status["phase"], status["reason"]) == ("Running", "NoQuorum")
    assert status["message"] == "1 of at least 2 clients are here"


def test_starts_of_the_coordinator_are_counted() -> None:
    cluster = started()
    cluster.start_pod(COORDINATOR, status=ended(70))
    cluster.start_pod(COORDINATOR)
    assert status_of(cluster)["restarts"] == 1


def test_a_condition_keeps_its_time_until_it_changes() -> None:
    cluster = started()
    cluster.settle()
    cluster.now += 60
    cluster.run()
    times = {one["type"]: one["lastTransitionTime"] for one in cluster.job["status"]["conditions"]}
    assert times == {"Running": timestamp(START + 60), "Suspended": timestamp(START)}


def test_the_generation_that_was_seen_is_told() -> None:
    cluster = started()
    cluster.job["metadata"]["generation"] = 4
    status = status_of(cluster)
    assert {status["observedGeneration"]} == {4} == {one["observedGeneration"] for one in status["conditions"]}


def test_all_that_the_status_of_a_job_says() -> None:
    cluster = started()
    cluster.start_pod(COORDINATOR, status=ended(70))
    pod = cluster.start_pod(COORDINATOR)
    cluster.start_pod(WORKERS, index=0)
    waits = cluster.start_pod(WORKERS, index=1, status=unschedulable())["metadata"]["name"]
    cluster.say(WORKERS, ready=1)
    cluster.now += 60
    status = status_of(cluster)
    trouble = {"reason": "Unschedulable", "message": f"pod {waits}: 0/3 nodes: no gpu"}
    told = trouble | {"message": f"pool cloud: {trouble['message']}"}
    always = {"observedGeneration": 1, **told}
    [config] = cluster.keys("ConfigMap")
    assert status == {
        "observedGeneration": 1,
        "phase": "Running",
        **told,
        "startTime": timestamp(START),
        "specDigest": cluster.child("ConfigMap", config)["metadata"]["annotations"]["muster.dev/spec-digest"],
        "restarts": 1,
        "coordinator": {
            "endpoint": "digits-coordinator.lab.svc:443",
            "checkpointLocation": f"pvc/{cluster.keys('PersistentVolumeClaim')[0]}",
            "podName": pod["metadata"]["name"],
        },
        "pools": [
            {
                "name": "cloud",
                "type": "Kubernetes",
                "clients": 2,
                "workersWanted": 2,
                "workersReady": 1,
                **trouble,
            }
        ],
        "conditions": [
            {"type": "Running", "status": "True", "lastTransitionTime": timestamp(START + 60), **always},
            {"type": "Suspended", "status": "False", "lastTransitionTime": timestamp(START), **always},
        ],
    }


def test_a_job_that_has_ended_says_when() -> None:
    cluster = started()
    cluster.run()
    cluster.now += 90
    cluster.say(COORDINATOR, conditions=[{"type": "Complete", "status": "True"}])
    status = status_of(cluster)
    assert (status["phase"], status["completionTime"]) == ("Complete", timestamp(START + 90))
    assert "completionTime" not in status_of(started())


# --- events -----------------------------------------------------------------------------------------------------------


def standing(phase: str, reason: str, **pools: str) -> dict[str, Any]:
    entries = [{"name": name, "reason": reason, "message": "m"} for name, reason in pools.items()]
    return {"phase": phase, "reason": reason, "message": "m", "conditions": [], "pools": entries}


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({}, standing("Pending", "Creating"), [("Creating", False)]),
        (standing("Running", "Running"), standing("Running", "Running"), []),
        (standing("Starting", "WorkersStarting"), standing("Running", "Running"), [("Running", False)]),
        (standing("Running", "Running"), standing("Running", "Unschedulable"), [("Unschedulable", True)]),
        (
            standing("Running", "Running"),
            standing("Running", "Unschedulable", cloud="Unschedulable"),
            [("Unschedulable", True)],
        ),
        (standing("Running", "Running"), standing("Running", "Running", cloud="SpecDrift"), [("SpecDrift", True)]),
        (standing("Running", "Running", cloud="SpecDrift"), standing("Running", "Running", cloud="SpecDrift"), []),
    ],
)
def test_events_tell_of_changes_only(before: Object, after: Object, told: list[tuple[str, bool]]) -> None:
    assert [(one.reason, one.is_warning) for one in transitions(before, after)] == told


def test_what_the_api_server_refused_is_the_reason() -> None:
    status = status_of(started())
    refused = with_refused(status, ["Service/a: exceeded quota"])
    assert refused["reason"] == "QuotaExceeded"
    assert "exceeded quota" in refused["message"]
    assert {one["reason"] for one in refused["conditions"]} == {"QuotaExceeded"}
    assert with_refused(status, ["Job/a: no"])["reason"] == "Refused"
    assert with_refused(status, []) == status
    denied = (
        "denied request: the operator changes what carries its label app.kubernetes.io/managed-by, and nothing else"
    )
    assert with_refused(status, [f"ConfigMap/a: {denied}"])["reason"] == "NameTaken"


def test_names_that_others_have_are_named() -> None:
    status = status_of(started())
    taken = with_taken(status, ["Secret/a", "Job/b"])
    assert (taken["phase"], taken["reason"]) == (status["phase"], "NameTaken")
    assert taken["message"].startswith("Secret/a, Job/b: there already")
    assert {one["reason"] for one in taken["conditions"]} == {"NameTaken"}
    assert with_taken(status, []) == status
