"""A job with SLURM pools goes when somebody has seen that nothing of it is left there: at once, later, or too late."""

from __future__ import annotations

from typing import Any

import pytest

from muster_operator.actions import Create, Delete, Patch
from muster_operator.build.bridge import GRACE_S
from muster_operator.finalizer import ABANDON, FINALIZER, GIVEN_UP_S
from muster_operator.objects import Key, Object, dig, timestamp
from operating import START, Cluster, ended, job_object, pool_object

SLURM = {"url": "https://slurm:6820", "auth": {"user": "fl", "tokenSecret": {"name": "site", "key": "token"}}}
BRIDGE, COORDINATOR, WORKERS = "digits-bridge-hpc", "digits-coordinator", "digits-workers-cloud"
DONE, GIVEN_UP = ([{"type": kind, "status": "True"}] for kind in ("Complete", "Failed"))


def hybrid(**spec: Any) -> Cluster:
    """A job over pods and SLURM, just applied."""
    job = job_object(pools=("cloud", "hpc"), coordinator={"service": {"address": "fl.example.org:8443"}}, **spec)
    return Cluster(job, pool_object(), pool_object("hpc", type="Slurm", clients=4, slurm=SLURM))


def running(**spec: Any) -> Cluster:
    cluster = hybrid(**spec)
    cluster.run()
    return cluster


def finalizers(cluster: Cluster) -> list[str]:
    found: list[str] = cluster.job["metadata"].get("finalizers", [])
    return found


def bridge(cluster: Cluster) -> Object:
    return cluster.child("Job", BRIDGE)


def pods_of(cluster: Cluster, job: str) -> list[Object]:
    pods = (cluster.child("Pod", name) for name in cluster.keys("Pod"))
    return [pod for pod in pods if pod["metadata"]["ownerReferences"][0]["name"] == job]


def is_cancelling(cluster: Cluster) -> bool:
    command = bridge(cluster)["spec"]["template"]["spec"]["containers"][0]["command"]
    return bool(command[2] == "muster_slurm.cancel")


def delete(cluster: Cluster, *, by: tuple[str, ...] = ()) -> None:
    cluster.job["metadata"]["deletionTimestamp"] = timestamp(cluster.now)
    cluster.job["metadata"]["finalizers"] = [*finalizers(cluster), *by]


def lose_pods(cluster: Cluster) -> None:
    """The bridge has crashed, and its Job waits to start it again."""
    for pod in pods_of(cluster, BRIDGE):
        del cluster.objects[Key("Pod", pod["metadata"]["name"])]


def told(cluster: Cluster) -> list[tuple[str, bool]]:
    return [(one.reason, one.is_warning) for one in cluster.told]


# --- it comes ---------------------------------------------------------------------------------------------------------


def test_it_is_there_before_anything_else_is_made() -> None:
    cluster = hybrid()
    cluster.job["metadata"]["finalizers"] = ["somebody's"]
    [action] = cluster.step().actions
    assert isinstance(action, Patch)
    assert action.body["metadata"]["resourceVersion"] == cluster.job["metadata"]["resourceVersion"]
    assert (finalizers(cluster), cluster.objects) == (["somebody's", FINALIZER], {})
    cluster.settle()
    assert cluster.keys("Job") == [BRIDGE, COORDINATOR, WORKERS]
    assert cluster.plan().actions == ()


def test_jobs_without_slurm_never_have_it() -> None:
    cluster = Cluster(job_object(), pool_object())
    cluster.run()
    assert finalizers(cluster) == []
    delete(cluster)
    assert cluster.plan().actions == ()


def test_a_job_that_is_under_way_since_before_there_was_one_gets_it_and_keeps_its_parts() -> None:
    cluster = running()
    del cluster.job["metadata"]["finalizers"]
    before = dict(cluster.objects)
    cluster.settle()
    assert finalizers(cluster) == [FINALIZER]
    assert cluster.objects.keys() == before.keys()


def test_a_job_that_starts_suspended_has_nothing_to_cancel() -> None:
    cluster = hybrid(suspend=True)
    cluster.settle()
    assert finalizers(cluster) == []


# --- the job is deleted -----------------------------------------------------------------------------------------------


def test_a_bridge_that_runs_is_told_to_end_and_waited_for() -> None:
    cluster = running()
    delete(cluster)
    cluster.settle()
    assert cluster.keys("Job") == [BRIDGE]  # the coordinator and the workers go at once
    assert bridge(cluster)["spec"]["suspend"] is True
    assert not is_cancelling(cluster)
    [pod] = pods_of(cluster, BRIDGE)
    pod["status"] = ended(0)
    cluster.say(BRIDGE, conditions=DONE)
    cluster.step()
    assert (finalizers(cluster), told(cluster)) == ([], [])
    assert cluster.keys("Secret")  # which the garbage collector removes


def test_of_others_finalizers_none_is_touched() -> None:
    cluster = running()
    delete(cluster, by=("somebody's",))
    cluster.say(BRIDGE, conditions=DONE)
    cluster.step()
    assert finalizers(cluster) == ["somebody's"]


@pytest.mark.parametrize("code", [1, 2, 137, 143])
def test_one_that_did_not_get_to_the_end_of_it_is_followed_by_a_canceller(code: int) -> None:
    cluster = running()
    delete(cluster)
    cluster.settle()
    [pod] = pods_of(cluster, BRIDGE)
    pod["status"] = ended(code)
    cluster.settle()
    assert is_cancelling(cluster)
    assert finalizers(cluster) == [FINALIZER]
    cluster.say(BRIDGE, conditions=DONE)
    cluster.step()
    assert (finalizers(cluster), told(cluster)) == ([], [("CancellingSlurm", False)])


def test_one_that_has_crashed_is_followed_at_once() -> None:
    cluster = running()
    lose_pods(cluster)
    delete(cluster)
    cluster.settle()
    assert is_cancelling(cluster)
    assert "suspend" not in bridge(cluster)["spec"]


def test_so_is_one_whose_job_has_given_up_or_is_gone() -> None:
    cluster = running()
    lose_pods(cluster)
    cluster.say(BRIDGE, conditions=GIVEN_UP)
    delete(cluster)
    cluster.settle()
    assert is_cancelling(cluster)
    cluster.remove(Key("Job", BRIDGE))
    cluster.settle()
    assert is_cancelling(cluster)


def test_one_on_a_node_that_nobody_hears_from_is_waited_for_until_its_grace_is_over() -> None:
    cluster = running()
    delete(cluster)
    cluster.settle()
    [pod] = pods_of(cluster, BRIDGE)
    pod["metadata"]["deletionTimestamp"] = timestamp(cluster.now + GRACE_S)
    planned = cluster.settle()
    assert planned.wake_at == cluster.now + GRACE_S
    cluster.now += GRACE_S
    cluster.settle()
    assert is_cancelling(cluster)


def test_two_are_never_at_it_at_once() -> None:
    """The pod of a Job that somebody has deleted may take its time."""
    cluster = running()
    [pod] = pods_of(cluster, BRIDGE)
    cluster.remove(Key("Job", BRIDGE))
    cluster.objects[Key("Pod", pod["metadata"]["name"])] = pod
    delete(cluster)
    cluster.settle()
    assert BRIDGE not in cluster.keys("Job")
    pod["status"] = ended(0)
    cluster.settle()
    assert is_cancelling(cluster)


def test_a_suspended_jobs_bridge_is_seen_off_too() -> None:
    cluster = running()
    cluster.suspend()
    lose_pods(cluster)
    delete(cluster)
    cluster.settle()
    assert is_cancelling(cluster)


def test_a_canceller_that_fails_is_the_end_of_it_and_is_told() -> None:
    cluster = running()
    lose_pods(cluster)
    delete(cluster)
    cluster.settle()
    cluster.say(BRIDGE, conditions=GIVEN_UP)
    cluster.step()
    assert finalizers(cluster) == []
    assert told(cluster)[-1] == ("SlurmNotCancelled", True)
    assert cluster.told[-1].message.startswith("pool hpc: ")


def test_after_a_time_it_goes_whatever_is_left() -> None:
    cluster = running()
    delete(cluster)
    planned = cluster.settle()
    assert planned.wake_at == START + GIVEN_UP_S
    cluster.now += GIVEN_UP_S - 1
    cluster.settle()
    assert finalizers(cluster) == [FINALIZER]
    cluster.now += 1
    cluster.step()
    assert (finalizers(cluster), told(cluster)) == ([], [("SlurmNotCancelled", True)])
    assert "300 s" in cluster.told[0].message


def test_the_user_may_let_it_go_at_once() -> None:
    cluster = running()
    cluster.job["metadata"]["annotations"] = {ABANDON: "true"}
    assert cluster.plan().actions == ()  # of a job that stays, nothing is abandoned
    delete(cluster)
    cluster.step()
    assert (finalizers(cluster), told(cluster)) == ([], [("SlurmAbandoned", True)])


def test_where_the_parts_are_deleted_with_it_bridges_that_run_are_waited_for() -> None:
    cluster = running()
    delete(cluster, by=("foregroundDeletion",))
    cluster.remove(Key("ConfigMap", cluster.keys("ConfigMap")[0]))
    assert cluster.settle().wake_at == START + GIVEN_UP_S
    assert finalizers(cluster) == [FINALIZER, "foregroundDeletion"]
    lose_pods(cluster)
    cluster.step()
    assert (finalizers(cluster), told(cluster)) == (["foregroundDeletion"], [("SlurmNotCancelled", True)])


# --- the job has ended ------------------------------------------------------------------------------------------------


def test_a_job_that_has_ended_and_whose_bridge_has_deletes_at_once() -> None:
    cluster = running()
    cluster.say(COORDINATOR, conditions=DONE)
    cluster.settle()
    assert finalizers(cluster) == [FINALIZER]
    cluster.say(BRIDGE, conditions=DONE)
    cluster.settle()
    assert (finalizers(cluster), told(cluster)) == ([], [])
    assert cluster.job["status"]["phase"] == "Complete"


@pytest.mark.parametrize(("policy", "left"), [("Running", [BRIDGE, COORDINATOR, WORKERS]), ("All", [])])
def test_a_bridge_that_is_not_there_at_the_end_is_followed_whatever_becomes_of_pods(
    policy: str, left: list[str]
) -> None:
    cluster = running(runPolicy={"cleanPodPolicy": policy})
    lose_pods(cluster)
    cluster.say(COORDINATOR, conditions=DONE)
    cluster.settle()
    assert is_cancelling(cluster)
    cluster.say(BRIDGE, conditions=DONE)
    cluster.settle()
    assert finalizers(cluster) == []
    assert cluster.keys("Job") == left


def test_one_that_may_stay_is_not_told_to_end() -> None:
    cluster = running(runPolicy={"cleanPodPolicy": "None"})
    cluster.say(COORDINATOR, conditions=DONE)
    cluster.settle()
    assert "suspend" not in bridge(cluster)["spec"]
    assert finalizers(cluster) == [FINALIZER]


# --- the canceller ----------------------------------------------------------------------------------------------------


def test_a_canceller_needs_none_of_what_may_be_gone_and_has_an_end() -> None:
    cluster = running()
    before = bridge(cluster)
    lose_pods(cluster)
    delete(cluster)
    gone, made = (cluster.step().actions for _ in range(2))
    assert [one.key.name for one in gone if isinstance(one, Delete)] == [COORDINATOR, WORKERS, BRIDGE]
    assert [type(one) for one in made][:1] == [Create]
    spec = bridge(cluster)["spec"]
    assert spec["activeDeadlineSeconds"] <= GIVEN_UP_S
    volumes = {one["name"]: one for one in spec["template"]["spec"]["volumes"]}
    assert "trust" not in volumes
    assert dig(volumes["secret-0"], "secret", "optional") is True
    assert dig(before, "spec", "template", "metadata") == dig(spec, "template", "metadata")  # its way out is the same
