"""The operator beside others who change, hold back or refuse its children: queues, quotas, people who delete things.

No queue is installed. What Kueue does to a Job is imitated here, field by field, as its documentation and the Jobs that
it manages show it: it suspends, it injects node selectors and tolerations into the template of a suspended Job as it
admits it, and it evicts by suspending again and putting the template back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from operator_runs import MANIFEST, Kubectl, Lab, wait_until

WORKERS = "job/digits-workers-cloud"
PARTS = 13
FLAVOR = {"cloud.example.org/flavor": "a100"}
TOLERATION = {"key": "flavor", "operator": "Equal", "value": "a100", "effect": "NoSchedule"}


@pytest.fixture
def lab(crds: Kubectl, namespace: str, tmp_path: Path) -> Lab:
    return Lab(crds, namespace, tmp_path)


@pytest.fixture
def started(lab: Lab) -> Iterator[Lab]:
    with lab.operator():
        lab.apply()
        wait_until(lambda: len(lab.children()) == PARTS, "all parts are there")
        yield lab


# --- Kueue, imitated --------------------------------------------------------------------------------------------------


def evict(lab: Lab) -> None:
    """Suspend, and take back what was injected."""
    lab.patch({"spec": {"suspend": True}}, WORKERS)
    wait_until(lambda: "startTime" not in lab.get(WORKERS)["status"], "the job controller has let it go")
    template = {"spec": {"nodeSelector": None, "tolerations": None}}
    lab.patch({"spec": {"template": template}}, WORKERS)


def admit(lab: Lab) -> None:
    """Inject and unsuspend, in one request."""
    template = {"spec": {"nodeSelector": FLAVOR, "tolerations": [TOLERATION]}}
    lab.patch({"spec": {"suspend": False, "template": template}}, WORKERS)


def touched(lab: Lab) -> list[str]:
    """The operator's own requests that changed the worker Job."""
    return [one for one in lab.requests() if one.endswith("/jobs/digits-workers-cloud")]


def pod_specs(lab: Lab) -> list[Any]:
    return [lab.get("pod", name)["spec"] for name in lab.pods("worker")]


def test_a_queue_suspends_injects_admits_and_evicts_and_nobody_undoes_it(started: Lab) -> None:
    lab, before = started, touched(started)
    uid = lab.get(WORKERS)["metadata"]["uid"]
    evict(lab)
    wait_until(lambda: not lab.pods("worker"), "the workers are gone")
    wait_until(lambda: lab.status()["pools"][0].get("reason") == "Queued", "it is told")
    lab.settle()
    assert lab.get(WORKERS)["spec"]["suspend"] is True
    for _ in range(2):
        admit(lab)
        wait_until(lambda: len(lab.pods("worker")) == 2, "there are workers")
        assert all(spec["nodeSelector"] == FLAVOR and TOLERATION in spec["tolerations"] for spec in pod_specs(lab))
        lab.tell("annotate", "fedjob/digits", "look=again", "--overwrite")
        lab.settle()
        assert lab.get(WORKERS)["spec"]["template"]["spec"]["nodeSelector"] == FLAVOR
        evict(lab)
        wait_until(lambda: not lab.pods("worker"), "the workers are gone again")
        lab.settle()
    assert touched(lab) == before
    assert lab.get(WORKERS)["metadata"]["uid"] == uid


def test_a_job_that_its_user_suspends_and_resumes_stays_in_the_queue(started: Lab) -> None:
    lab = started
    evict(lab)
    for wish in (True, False):
        lab.patch({"spec": {"suspend": wish}})
        wait_until(lambda wish=wish: (lab.status().get("phase") == "Suspended") is wish, "the wish is granted")  # type: ignore[misc]
        lab.settle()
    assert lab.get(WORKERS)["spec"]["suspend"] is True  # still the queue's to decide
    assert not lab.get("job/digits-coordinator")["spec"].get("suspend")
    admit(lab)
    wait_until(lambda: len(lab.pods("worker")) == 2, "there are workers")


QUEUE = {"kueue.x-k8s.io/queue-name": "gpus"}


@pytest.fixture
def admitted(lab: Lab) -> Iterator[Lab]:
    """A job for a queue that has admitted its Jobs."""
    with lab.operator():
        lab.apply(MANIFEST.replace("{name: digits}", f"{{name: digits, labels: {QUEUE}}}"))
        wait_until(lambda: len(lab.children()) == PARTS, "all parts are there")
        evict(lab)
        admit(lab)
        lab.run_all()
        yield lab


def start_again(lab: Lab) -> int:
    """What Kueue does to a Job that it has admitted and finds suspended. How many there were."""
    found = [one for one in lab.get("jobs")["items"] if one["spec"].get("suspend") and QUEUE.items() <= labels(one)]
    for one in found:
        lab.patch({"spec": {"suspend": False}}, f"job/{one['metadata']['name']}")
    return len(found)


def labels(found: Any) -> Any:
    return found["metadata"]["labels"].items()


def test_what_its_user_suspends_an_admitted_job_gives_its_quota_back_and_queues_anew(admitted: Lab) -> None:
    lab, uid = admitted, admitted.get(WORKERS)["metadata"]["uid"]
    lab.patch({"spec": {"suspend": True}})
    wait_until(lambda: lab.status().get("reason") == "Suspending", "the round that is open may end")
    lab.end_pod(*lab.pods("coordinator"), 143)
    wait_until(lambda: lab.status().get("phase") == "Suspended", "it is told")
    wait_until(lambda: not lab.pods("worker") and not lab.pods("coordinator"), "no pod is left")
    lab.settle()
    assert start_again(lab) == 0
    assert lab.get("jobs")["items"] == []
    lab.patch({"spec": {"suspend": False}})
    wait_until(lambda: len(lab.get("jobs")["items"]) == 2, "there are Jobs anew")
    assert all(QUEUE.items() <= labels(one) for one in lab.get("jobs")["items"])
    assert lab.get(WORKERS)["metadata"]["uid"] != uid
    evict(lab)  # as its webhook has it from the first moment on
    wait_until(lambda: not lab.pods("worker"), "its turn is to come")
    admit(lab)
    lab.run_all()


def test_the_workers_of_an_admitted_job_are_not_started_again_once_it_has_ended(admitted: Lab) -> None:
    lab = admitted
    lab.end_pod(*lab.pods("coordinator"), 0)
    lab.tell("wait", "--for=condition=Complete", "fedjob/digits", "--timeout=20s")
    lab.settle()
    assert start_again(lab) == 0
    wait_until(lambda: not lab.pods("worker"), "no worker is left")


# --- quotas and limits ------------------------------------------------------------------------------------------------


def test_a_quota_on_pods_is_told_in_its_own_words_and_ends_by_itself(lab: Lab) -> None:
    lab.tell("create", "quota", "one", "--hard=pods=1")
    with lab.operator():
        lab.apply()
        wait_until(lambda: len(lab.pods("coordinator")) + len(lab.pods("worker")) == 1, "one pod is let in")
        wait_until(lambda: "exceeded quota: one" in str(lab.status()), "it is told", within_s=60)
        reasons = str(lab.status())
        assert "QuotaExceeded" in reasons
        lab.tell("delete", "quota", "one")
        wait_until(lambda: len(lab.pods("worker")) == 2, "all pods are let in", within_s=90)
        wait_until(lambda: "QuotaExceeded" not in str(lab.status()), "nothing more is told", within_s=60)


def test_limits_of_the_namespace_are_filled_in_and_fought_by_nobody(lab: Lab) -> None:
    limit = {"type": "Container", "default": {"memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}}
    manifest = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "fair"}, "spec": {"limits": [limit]}}
    lab.apply(str(manifest).replace("'", '"'))
    with lab.operator():
        lab.apply()
        wait_until(lambda: len(lab.pods("worker")) == 2, "there are workers")
        filled = [spec["containers"][0]["resources"] for spec in pod_specs(lab)]
        assert all(one == {"limits": {"memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}} for one in filled)
        lab.settle()
        before = len(lab.requests())
        lab.tell("annotate", "fedjob/digits", "look=again")
        lab.settle()
        assert lab.requests()[before:] == []


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["secret/digits-authority", "secret/digits-server", "job/digits-coordinator"])
def test_somebody_elses_object_under_a_name_of_ours_is_told_of_and_left_alone(lab: Lab, name: str) -> None:
    kind, _, named = name.partition("/")
    lab.tell(*(("create", "secret", "generic", named) if kind == "secret" else ("create", "job", named, "--image=x")))
    uid = lab.get(name)["metadata"]["uid"]
    with lab.operator():
        lab.apply()
        wait_until(lambda: lab.status().get("reason") == "NameTaken", "it is told")
        assert lab.status()["message"].lower().startswith(f"{name}: there already, and not the job's")
        wait_until(lambda: "NameTaken" in lab.tell("get", "events", "-o", "jsonpath={..reason}"), "an Event says it")
        found = lab.get(name)["metadata"]
        assert found["uid"] == uid
        assert "muster.dev/job" not in found.get("labels", {})
        lab.tell("delete", name)
        lab.tell("annotate", "fedjob/digits", "look=again")  # or half a minute later by itself
        wait_until(lambda: len(lab.children()) == PARTS, "then all parts are made")


# --- deleting ---------------------------------------------------------------------------------------------------------

WARDS = MANIFEST.replace("clients: 2}", "clients: 2, data: {perClient: [{path: /a}, {path: /b}]}}")


def test_every_kind_of_child_comes_back_pods_and_claims_too(lab: Lab) -> None:
    with lab.operator():
        lab.apply(WARDS)
        wait_until(lambda: len(lab.children()) == PARTS + 1, "all parts are there")  # a Job for each client
        wait_until(lambda: len(lab.pods("worker")) == 2, "there are workers")
        pods = {f"Pod/{name}" for name in (*lab.pods("worker"), *lab.pods("coordinator"))}
        children = lab.children()
        kinds = {child.partition("/")[0] for child in children | pods}
        assert kinds == {
            *("Job", "Service", "ConfigMap", "Secret", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy"),
            *("PersistentVolumeClaim", "Pod"),
        }
        for pod in sorted(pods):
            lab.tell("delete", pod, "--wait=false", "--grace-period=0", "--force")
            wait_until(lambda: len(lab.pods("worker")) == 2 and len(lab.pods("coordinator")) == 1, f"{pod} is replaced")
        for child in sorted(children):
            uid = lab.get(child)["metadata"]["uid"]
            lab.tell("delete", child, "--wait=false")
            wait_until(lambda child=child, uid=uid: is_back(lab, child, uid), f"{child} is back")  # type: ignore[misc]
        lab.settle()
        assert lab.children() == children


def is_back(lab: Lab, child: str, uid: str) -> bool:
    found = lab.cluster.kubectl("-n", lab.namespace, "get", child, "-o", "jsonpath={.metadata.uid}")
    return found.returncode == 0 and found.stdout not in {"", uid}
