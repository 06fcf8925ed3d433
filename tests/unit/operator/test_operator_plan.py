"""What the plan decides, from what is observed and the time. Whole lives of jobs, with no cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from muster_operator.actions import Apply, Create, CreateAuthority, Delete, Issue, Patch
from muster_operator.credentials import renewal_of
from muster_operator.objects import Key, Object, annotation_of, is_controlled_by, timestamp
from operating import START, Cluster, conditions, ended, job_object, pool_object

RELAY = {"type": "SharedFolder", "sharedFolder": {"path": "/shared"}}
SSH = {
    "host": "login",
    "user": "fl",
    "keySecret": {"name": "s", "key": "k"},
    "knownHostsSecret": {"name": "s", "key": "h"},
}
COORDINATOR, WORKERS = "digits-coordinator", "digits-workers-cloud"


def cluster_of(**spec: Any) -> Cluster:
    return Cluster(job_object(**spec), pool_object())


def running(**spec: Any) -> Cluster:
    cluster = cluster_of(**spec)
    cluster.run()
    return cluster


# --- children ---------------------------------------------------------------------------------------------------------


def test_a_job_gets_its_children_and_then_rests() -> None:
    cluster = cluster_of()
    cluster.settle()
    assert cluster.keys("Job") == [COORDINATOR, WORKERS]
    assert cluster.keys("Secret") == ["digits-authority", "digits-join-cloud", "digits-server"]
    assert cluster.keys("Service") == cluster.keys("Role") == cluster.keys("RoleBinding") == [COORDINATOR]
    assert cluster.keys("NetworkPolicy") == [COORDINATOR, "digits-worker"]
    assert cluster.plan().actions == ()


def test_no_job_is_made_before_its_authority_and_none_before_its_credentials() -> None:
    cluster = cluster_of()
    cluster.step()
    assert (cluster.keys("Secret"), cluster.keys("Job")) == (["digits-authority"], [])
    kinds = [type(action) for action in cluster.plan().actions]
    assert kinds == [Issue, Issue, Create, Create]


CHILDREN = sorted(key for key in running().objects if key.kind != "Pod")


@pytest.mark.parametrize("is_suspended", [False, True])
@pytest.mark.parametrize("key", CHILDREN, ids=str)
def test_any_child_that_is_deleted_comes_back_at_any_time(key: Key, is_suspended: bool) -> None:
    """While a job starts, while it runs or is suspended, and again while it comes back."""
    cluster = cluster_of()
    for _ in range(3):
        cluster.step()
        if key in cluster.objects:
            cluster.remove(key)
    cluster.run()
    if is_suspended:
        cluster.suspend()
    cluster.remove(key)
    cluster.step()
    if key in cluster.objects:
        cluster.remove(key)
    cluster.settle()
    assert set(CHILDREN) <= set(cluster.objects)
    if key.kind == "Job":
        assert bool(cluster.objects[key]["spec"].get("suspend")) is is_suspended


@pytest.mark.parametrize("key", CHILDREN, ids=str)
def test_of_a_job_that_is_over_only_its_memory_comes_back(key: Key) -> None:
    cluster = running()
    cluster.say(COORDINATOR, conditions=[{"type": "Complete", "status": "True"}])
    cluster.settle()
    before = {one for one in cluster.objects if one.kind != "Pod"}
    cluster.remove(key)
    cluster.settle()
    gone = set() if key.kind in {"ConfigMap", "ServiceAccount"} else {key}
    assert {one for one in cluster.objects if one.kind != "Pod"} == before - gone
    assert cluster.job["status"]["phase"] == "Complete"


def test_a_new_authority_means_new_credentials_and_new_processes() -> None:
    cluster = running()
    before = {name: cluster.child("Job", name)["metadata"]["uid"] for name in cluster.keys("Job")}
    cluster.remove(Key("Secret", "digits-authority"))
    cluster.step()
    assert {name: cluster.child("Job", name)["metadata"]["uid"] for name in cluster.keys("Job")} == before
    assert [type(action) for action in cluster.plan().actions][:2] == [Issue, Issue]
    cluster.settle()
    assert all(cluster.child("Job", name)["metadata"]["uid"] != uid for name, uid in before.items())


def test_a_field_that_somebody_changed_is_put_right() -> None:
    cluster = running()
    cluster.child("Service", COORDINATOR)["spec"]["ports"][0]["targetPort"] = 1
    cluster.settle()
    assert cluster.child("Service", COORDINATOR)["spec"]["ports"][0]["targetPort"] == 8443


def test_what_others_add_is_left_alone() -> None:
    cluster = running()
    cluster.child("Service", COORDINATOR)["metadata"]["labels"]["team"] = "ours"
    cluster.child("Service", COORDINATOR)["spec"]["clusterIP"] = "10.0.0.1"
    cluster.child("Job", WORKERS)["spec"]["template"]["spec"]["nodeSelector"] = {"injected": "by a queue"}
    assert cluster.plan().actions == ()


def test_leftovers_of_an_older_job_are_waited_for() -> None:
    old = Cluster(job_object() | {"metadata": job_object()["metadata"] | {"uid": "old"}}, pool_object())
    old.run()
    cluster = cluster_of()
    cluster.objects = {key: value for key, value in old.objects.items() if key.kind != "PersistentVolumeClaim"}
    planned = cluster.plan()
    assert not [one for one in planned.actions if isinstance(one, (Delete, Patch))]
    assert planned.status is not None
    assert planned.status["reason"] == "NameTaken"


def test_a_job_on_its_way_out_is_left_to_the_garbage_collector() -> None:
    cluster = running()
    cluster.job["metadata"]["deletionTimestamp"] = timestamp(START)
    assert cluster.plan().actions == ()
    assert cluster.plan().status is None


# --- what is pinned ---------------------------------------------------------------------------------------------------


def test_a_running_job_goes_on_with_the_pool_that_it_started_with() -> None:
    cluster = running()
    cluster.pools = [pool_object(clients=9, template={"image": "newer:2"})]
    planned = cluster.settle()
    assert cluster.child("Job", WORKERS)["spec"]["template"]["spec"]["containers"][0]["image"] == "worker:1"
    assert planned.status is not None
    assert planned.status["pools"][0]["reason"] == "SpecDrift"
    assert "clients, template" in planned.status["pools"][0]["message"]


def test_workers_follow_the_pool_while_a_job_runs() -> None:
    cluster = Cluster(job_object(), pool_object(workers={"min": 3, "max": 3, "clientsPerWorker": 2}))
    cluster.run()
    before = cluster.child("Job", WORKERS)["metadata"]["uid"]
    cluster.pools = [pool_object(clients=6, workers={"min": 4, "max": 4, "clientsPerWorker": 2})]
    cluster.settle()
    after = cluster.child("Job", WORKERS)
    assert (after["spec"]["completions"], after["spec"]["parallelism"]) == (4, 4)
    assert after["metadata"]["uid"] == before


def test_a_total_that_grew_is_pinned_anew() -> None:
    cluster = running(rounds={"total": 5})
    [before] = cluster.keys("ConfigMap")
    cluster.job["spec"]["rounds"]["total"] = 9
    cluster.settle()
    [after] = cluster.keys("ConfigMap")
    assert before != after
    assert json.loads(cluster.child("ConfigMap", after)["data"]["job.json"])["spec"]["rounds"]["total"] == 9
    assert annotation_of(cluster.child("ConfigMap", after), "operator.muster.dev/started") == timestamp(START)


def test_a_newer_operator_leaves_running_jobs_alone() -> None:
    cluster = running()
    config = cluster.child("ConfigMap", cluster.keys("ConfigMap")[0])
    spaced = json.dumps(json.loads(config["data"]["job.json"]), indent=1)
    config["data"]["job.json"] = spaced  # as another version would have written it
    [copied] = cluster.step().actions
    assert isinstance(copied, Apply)
    assert copied.manifest["kind"] == "ServiceAccount"  # with the copy of it
    assert cluster.plan().actions == ()


# --- what can't start -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "pools", "reason"),
    [
        ({}, [], "PoolNotFound"),
        ({}, [pool_object(type="External")], "NoLobby"),
        ({}, [pool_object(type="Slurm", slurm={"command": {"type": "Local"}})], "SlurmPoolNotSupported"),
        ({}, [pool_object(type="Slurm", slurm={"command": {"type": "Ssh", "ssh": SSH}})], "NoOutsideAddress"),
        ({}, [pool_object(type="Slurm", slurm={"url": "https://s:1", "relay": RELAY})], "SlurmPoolNotSupported"),
        ({}, [pool_object(type="Slurm", slurm={"url": "https://s:6820"})], "NoOutsideAddress"),
        (
            {"checkpoint": {"storage": {"type": "Path", "path": {"path": "/x"}}}},
            [pool_object()],
            "CheckpointNotDurable",
        ),
        (
            {
                "checkpoint": {"storage": {"type": "Url", "url": {"url": "s3://b/f"}}},
                "selection": {"memory": {"path": "/checkpoint/known"}},
            },
            [pool_object()],
            "MemoryNotDurable",
        ),
        ({"privacy": {"differentialPrivacy": {"clipNorm": 1, "noiseMultiplier": 1}}}, [pool_object()], "NotSupported"),
        ({"rounds": {"cohort": 7}}, [pool_object()], "InvalidSpec"),
    ],
)
def test_a_job_that_cant_run_says_why_and_starts_nothing(spec: Any, pools: list[Object], reason: str) -> None:
    cluster = Cluster(job_object(**spec), *pools)
    planned = cluster.settle()
    assert planned.status is not None
    assert (planned.status["phase"], planned.status["reason"]) == ("Pending", reason)
    assert conditions(planned.status) == {"Stalled": reason}
    assert cluster.objects == {}


def test_a_job_starts_once_its_pool_is_there() -> None:
    cluster = Cluster(job_object())
    cluster.settle()
    cluster.pools.append(pool_object())
    cluster.settle()
    assert cluster.keys("Job") == [COORDINATOR, WORKERS]


# --- suspend and resume -----------------------------------------------------------------------------------------------


def test_a_job_that_is_made_suspended_starts_nothing() -> None:
    cluster = cluster_of(suspend=True)
    planned = cluster.settle()
    assert planned.status is not None
    assert conditions(planned.status) == {"Suspended": "Suspended"}
    assert cluster.objects == {}


def test_suspend_waits_for_the_coordinator_then_stops_all_jobs_and_resume_starts_them_again() -> None:
    cluster = running()
    cluster.job["spec"]["suspend"] = True
    planned = cluster.settle()
    assert planned.status is not None
    assert (planned.status["phase"], planned.status["reason"]) == ("Running", "Suspending")
    assert not any(cluster.child("Job", name)["spec"].get("suspend") for name in (COORDINATOR, WORKERS))
    cluster.job["status"]["training"] = {"round": 7}
    planned = cluster.suspend()
    assert planned.status is not None
    assert planned.status["phase"] == "Suspended"
    assert planned.status["message"] == "spec.suspend is true: 7 rounds of 100 done; the checkpoint is kept"
    assert planned.status["pools"][0]["workersWanted"] == 0
    assert all(cluster.child("Job", name)["spec"]["suspend"] for name in (COORDINATOR, WORKERS))
    cluster.job["spec"]["suspend"] = False
    cluster.settle()
    assert not any(cluster.child("Job", name)["spec"]["suspend"] for name in (COORDINATOR, WORKERS))


def queued_cluster(**spec: Any) -> Cluster:
    """A job for a queue that has admitted all its Jobs."""
    cluster = cluster_of(**spec)
    cluster.job["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "gpus"}
    cluster.run()
    return cluster


def test_of_a_suspended_job_a_queue_finds_nothing_that_it_could_start_again() -> None:
    cluster = queued_cluster()
    before = {name: cluster.child("Job", name)["metadata"]["uid"] for name in (COORDINATOR, WORKERS)}
    cluster.suspend()
    assert (cluster.keys("Job"), cluster.job["status"]["phase"]) == ([], "Suspended")
    cluster.settle()
    assert cluster.keys("Job") == []
    cluster.job["spec"]["suspend"] = False
    cluster.settle()
    for name in (COORDINATOR, WORKERS):
        job = cluster.child("Job", name)
        assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "gpus"
        assert job["metadata"]["uid"] != before[name]
        assert not job["spec"].get("suspend"), "that is the queue's to say"


def test_of_a_job_that_has_ended_a_queue_finds_nothing_either() -> None:
    cluster = queued_cluster()
    cluster.say(COORDINATOR, conditions=[{"type": "Complete", "status": "True"}])
    cluster.settle()
    assert cluster.job["status"]["phase"] == "Complete"
    assert cluster.keys("Job") == [COORDINATOR], "the workers would have been started again"


def test_a_coordinator_that_does_not_hear_is_stopped_in_the_end() -> None:
    cluster = running(rounds={"deadlineSeconds": 100}, evaluation={"timeoutSeconds": 40})
    cluster.job["spec"]["suspend"] = True
    assert cluster.settle().wake_at == START + 200
    cluster.now += 199
    cluster.settle()
    assert not cluster.child("Job", COORDINATOR)["spec"].get("suspend")
    cluster.now += 1
    cluster.settle()
    assert cluster.child("Job", COORDINATOR)["spec"]["suspend"]


def test_a_wish_that_is_taken_back_stops_nothing() -> None:
    cluster = running(rounds={"deadlineSeconds": 100})
    cluster.job["spec"]["suspend"] = True
    cluster.settle()
    cluster.job["spec"]["suspend"] = False
    assert cluster.settle().wake_at == renewal_of(cluster.child("Secret", "digits-server"))
    cluster.now += 1000
    assert cluster.settle().status == cluster.job["status"]
    assert cluster.job["status"]["phase"] == "Running"


def test_a_coordinator_that_is_not_up_is_not_waited_for() -> None:
    cluster = cluster_of()
    cluster.settle()
    cluster.start_pod(COORDINATOR, status={"phase": "Pending"})
    cluster.job["spec"]["suspend"] = True
    cluster.settle()
    assert cluster.child("Job", COORDINATOR)["spec"]["suspend"]


def test_a_child_lost_while_suspended_comes_back_suspended() -> None:
    cluster = running()
    cluster.suspend()
    cluster.remove(Key("Job", WORKERS))
    cluster.settle()
    assert cluster.child("Job", WORKERS)["spec"]["suspend"]


def test_a_queue_that_holds_a_job_back_is_respected() -> None:
    cluster = cluster_of()
    cluster.settle()
    cluster.child("Job", WORKERS)["spec"]["suspend"] = True
    cluster.start_pod(COORDINATOR)
    planned = cluster.settle()
    assert cluster.child("Job", WORKERS)["spec"]["suspend"]
    assert planned.status is not None
    assert planned.status["pools"][0]["reason"] == "Queued"


# --- how it ends ------------------------------------------------------------------------------------------------------

SAID = '{"event":"joined"}\n{"event":"finished","reason":"TooManyFailedRounds","message":"3 rounds in a row failed"}'


def test_a_coordinator_that_is_done_completes_the_job() -> None:
    cluster = running()
    cluster.say(COORDINATOR, conditions=[{"type": "Complete", "status": "True"}])
    planned = cluster.settle()
    assert planned.status is not None
    assert conditions(planned.status) == {"Complete": "Completed"}
    assert planned.status["completionTime"] == timestamp(START)


@pytest.mark.parametrize(
    ("pods", "reason"),
    [
        ([ended(1, SAID)], "TooManyFailedRounds"),
        ([ended(1, "no event")], "TrainingFailed"),
        ([ended(2, "coordinator: --job: not a job")], "CoordinatorRefused"),
        ([ended(70), ended(137, reason="OOMKilled"), ended(70)], "BackoffLimitExceeded"),
        ([ended(70), ended(70)], None),
        ([ended(143), ended(143), ended(143), ended(143)], None),
        ([ended(3), ended(3), ended(3), ended(3)], None),
        ([ended(137, is_disrupted=True)] * 4, None),
        ([ended(1, is_disrupted=True)], None),
    ],
)
def test_how_the_coordinator_ends_decides(pods: list[Object], reason: str | None) -> None:
    cluster = cluster_of(runPolicy={"backoffLimit": 2})
    cluster.settle()
    for status in pods:
        cluster.start_pod(COORDINATOR, status=status)
    planned = cluster.settle()
    assert planned.status is not None
    assert conditions(planned.status).get("Failed") == reason


def test_what_the_coordinator_said_is_the_message() -> None:
    cluster = cluster_of()
    cluster.settle()
    cluster.start_pod(COORDINATOR, status=ended(1, SAID))
    planned = cluster.settle()
    assert planned.status is not None
    assert planned.status["message"] == "3 rounds in a row failed"


def test_the_time_limit_does_not_count_suspended_time() -> None:
    cluster = running(runPolicy={"activeDeadlineSeconds": 100})
    cluster.now += 60
    cluster.suspend()
    cluster.now += 1000
    cluster.job["spec"]["suspend"] = False
    cluster.start_pod(COORDINATOR)
    assert cluster.settle().wake_at == cluster.now + 40
    cluster.now += 39
    cluster.settle()
    assert cluster.job["status"]["phase"] != "Failed"
    cluster.now += 1
    cluster.settle()
    assert conditions(cluster.job["status"])["Failed"] == "DeadlineExceeded"
    assert cluster.child("Job", COORDINATOR)["spec"]["suspend"]


def test_a_coordinator_that_cant_start_fails_the_job_in_time() -> None:
    cluster = cluster_of(runPolicy={"preRunningDeadlineSeconds": 100})
    cluster.settle()
    cluster.start_pod(COORDINATOR, status={"phase": "Pending"})
    assert cluster.settle().wake_at == START + 100
    cluster.now += 100
    cluster.settle()
    assert conditions(cluster.job["status"])["Failed"] == "NotStarted"


def test_a_coordinator_that_has_begun_counts_by_itself() -> None:
    cluster = running(runPolicy={"preRunningDeadlineSeconds": 100})
    cluster.now += 100
    planned = cluster.settle()
    assert cluster.job["status"]["phase"] == "Running"
    assert planned.wake_at == renewal_of(cluster.child("Secret", "digits-server"))


def drain(cluster: Cluster) -> None:
    """The coordinator's pod goes with its node; the next one waits for another."""
    for name in cluster.keys("Pod"):
        if name.startswith(COORDINATOR):
            cluster.remove(Key("Pod", name))
    cluster.start_pod(COORDINATOR, status={"phase": "Pending"})


def lose_the_job(cluster: Cluster) -> None:
    cluster.remove(Key("Job", COORDINATOR))


def let_the_total_grow(cluster: Cluster) -> None:
    cluster.job["spec"]["rounds"]["total"] += 1


@pytest.mark.parametrize("happens", [drain, lose_the_job, let_the_total_grow])
def test_a_coordinator_that_starts_again_has_begun_long_ago(happens: Callable[[Cluster], None]) -> None:
    cluster = running(runPolicy={"preRunningDeadlineSeconds": 100})
    cluster.now += 1000
    happens(cluster)
    planned = cluster.settle()
    assert planned.status is not None
    assert "Failed" not in conditions(planned.status)
    cluster.now += 1000
    cluster.settle()
    assert "Failed" not in conditions(cluster.job["status"])
    assert not cluster.child("Job", COORDINATOR)["spec"].get("suspend")


def test_a_coordinator_that_ran_while_nobody_looked_has_begun() -> None:
    cluster = cluster_of(runPolicy={"preRunningDeadlineSeconds": 100})
    cluster.settle()
    cluster.now += 1000
    cluster.job["status"]["training"] = {"round": 7}
    cluster.start_pod(COORDINATOR, status={"phase": "Pending"})
    cluster.settle()
    assert "Failed" not in conditions(cluster.job["status"])


def test_workers_that_all_gave_up_fail_the_job() -> None:
    cluster = running()
    cluster.say(WORKERS, conditions=[{"type": "Failed", "status": "True", "message": "FailedIndexes"}])
    cluster.settle()
    assert conditions(cluster.job["status"])["Failed"] == "WorkersFailed"


def test_one_pool_of_two_that_gave_up_does_not() -> None:
    cluster = Cluster(job_object(pools=("cloud", "lab")), pool_object(), pool_object("lab"))
    cluster.run()
    cluster.say(WORKERS, conditions=[{"type": "Failed", "status": "True", "message": "FailedIndexes"}])
    planned = cluster.settle()
    assert planned.status is not None
    assert "Failed" not in conditions(planned.status)
    assert planned.status["pools"][0]["reason"] == "WorkersFailed"


@pytest.mark.parametrize(
    ("policy", "left", "stopped"),
    [
        ("Running", [COORDINATOR, WORKERS], [WORKERS]),
        ("None", [COORDINATOR, WORKERS], []),
        ("All", [], []),
    ],
)
def test_which_pods_stay_when_a_job_ends(policy: str, left: list[str], stopped: list[str]) -> None:
    cluster = running(runPolicy={"cleanPodPolicy": policy})
    cluster.say(COORDINATOR, conditions=[{"type": "Complete", "status": "True"}])
    cluster.settle()
    assert cluster.keys("Job") == left
    assert [name for name in left if cluster.child("Job", name)["spec"].get("suspend")] == stopped
    assert cluster.job["status"]["phase"] == "Complete"


def test_a_failed_job_leaves_no_coordinator_training() -> None:
    cluster = running(runPolicy={"cleanPodPolicy": "None", "activeDeadlineSeconds": 1})
    cluster.now += 1
    cluster.settle()
    assert cluster.child("Job", COORDINATOR)["spec"]["suspend"]
    assert not cluster.child("Job", WORKERS)["spec"].get("suspend")


def test_a_verdict_stays_whatever_becomes_of_the_children_and_of_the_status() -> None:
    cluster = running()
    cluster.say(COORDINATOR, conditions=[{"type": "Complete", "status": "True"}])
    cluster.settle()
    cluster.remove(Key("Job", COORDINATOR))
    del cluster.job["status"]
    cluster.now += 5
    planned = cluster.settle()
    assert planned.status is not None
    assert planned.status["phase"] == "Complete"
    assert planned.status["completionTime"] == timestamp(START)
    assert cluster.keys("Job") == [WORKERS]


def test_a_job_is_deleted_when_its_time_after_the_end_is_over() -> None:
    cluster = running(runPolicy={"ttlSecondsAfterFinished": 30})
    cluster.say(COORDINATOR, conditions=[{"type": "Complete", "status": "True"}])
    assert cluster.settle().wake_at == START + 30
    cluster.now += 30
    cluster.step()
    assert cluster.is_job_deleted


@pytest.mark.parametrize(("policy", "is_owned"), [("Delete", True), ("Retain", False)])
def test_the_checkpoint_outlives_the_job_where_it_should(policy: str, is_owned: bool) -> None:
    cluster = running(checkpoint={"whenDeleted": policy})
    [claim] = cluster.keys("PersistentVolumeClaim")
    assert is_controlled_by(cluster.child("PersistentVolumeClaim", claim), cluster.job["metadata"]["uid"]) is is_owned
    owned = {value["kind"] for value in cluster.objects.values() if is_controlled_by(value, "uid-of-digits")}
    assert {value["kind"] for value in cluster.objects.values()} - owned - {"Pod"} == (
        set() if is_owned else {"PersistentVolumeClaim"}
    )


def test_a_checkpoint_on_an_object_store_needs_no_claim() -> None:
    storage = {"type": "Url", "url": {"url": "s3://bucket/runs/", "secretName": "store-keys"}}
    cluster = running(checkpoint={"storage": storage})
    assert cluster.keys("PersistentVolumeClaim") == []
    pod = cluster.child("Job", "digits-coordinator")["spec"]["template"]["spec"]
    assert {"name": "checkpoint", "emptyDir": {}} in pod["volumes"]
    container, uid = pod["containers"][0], cluster.job["metadata"]["uid"]
    command = container["command"]
    assert command[command.index("--storage") + 1] == f"s3://bucket/runs/{uid}"
    assert command[command.index("--scratch") + 1] == f"/var/lib/muster/checkpoint/{uid}"
    assert container["envFrom"] == [{"secretRef": {"name": "store-keys"}}]
    assert cluster.job["status"]["coordinator"]["checkpointLocation"] == f"s3://bucket/runs/{uid}"


def test_a_claim_of_the_users_is_used_and_never_made() -> None:
    storage = {"type": "Volume", "volume": {"claimName": "theirs"}}
    cluster = running(checkpoint={"storage": storage})
    assert cluster.keys("PersistentVolumeClaim") == []
    volumes = cluster.child("Job", COORDINATOR)["spec"]["template"]["spec"]["volumes"]
    assert {"name": "checkpoint", "persistentVolumeClaim": {"claimName": "theirs"}} in volumes


def test_in_a_namespace_that_goes_jobs_that_keep_pods_of_an_index_are_deleted_and_others_left_to_it() -> None:
    cluster = running()
    words = "unable to create new content in namespace lab because it is being terminated"
    cluster.refusals = {cluster.child("Job", name)["metadata"]["uid"]: words for name in (COORDINATOR, WORKERS)}
    planned = cluster.plan()
    assert [(type(action), action.key) for action in planned.actions if isinstance(action, Delete)] == [
        (Delete, Key("Job", WORKERS))
    ]
    assert (len(planned.actions), planned.status) == (1, None)
    cluster.refusals = dict.fromkeys(cluster.refusals, "exceeded quota: small")
    assert cluster.plan().actions == ()


def test_plans_never_read_the_status_that_they_wrote() -> None:
    """Any status there is, true or not, changes nothing but the times of conditions."""
    cluster = running()
    honest = cluster.plan()
    cluster.job["status"] = {"phase": "Failed", "reason": "Lies", "conditions": [], "restarts": 99}
    assert cluster.plan() == honest


def test_jobs_and_secrets_are_created_not_applied() -> None:
    cluster = cluster_of()
    assert CreateAuthority in {type(action) for action in cluster.plan().actions}
    cluster.step()
    kinds = {type(action) for action in cluster.plan().actions}
    assert kinds == {Create, Issue}
