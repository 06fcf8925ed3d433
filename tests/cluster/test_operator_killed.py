"""The operator killed at each of its requests, in each part of a job's life: nothing is missing, twice, or left over.

The process kills itself with SIGKILL, in the client, right before a request or right after its answer, and is started
again as a kubelet does (recorded_operator.py). Each test asserts that it did, and at which requests at least.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from operator_runs import MANIFEST, SLURM, Kubectl, Lab, wait_until
from recorded_operator import plain

PARTS = 13  # children of a job with one pool
POOL, _, JOB = MANIFEST.partition("---")
BEGINNING = {
    *("POST secrets", "POST jobs", "POST persistentvolumeclaims"),
    *("PATCH configmaps/digits-spec", "PATCH serviceaccounts/digits-coordinator", "PATCH services/digits-coordinator"),
    *("PATCH roles/digits-coordinator", "PATCH rolebindings/digits-coordinator"),
    *("PATCH networkpolicies/digits-coordinator", "PATCH networkpolicies/digits-worker"),
    "PATCH federatedjobs/digits/status",
}
LEDGER = {
    "PATCH configmaps/digits-spec",
    "PATCH serviceaccounts/digits-coordinator",
    "PATCH federatedjobs/digits/status",
}
WORKERS, COORDINATOR = "jobs/digits-workers-cloud", "jobs/digits-coordinator"

moments = pytest.mark.parametrize("moment", ["before", "after"])


@pytest.fixture
def lab(crds: Kubectl, namespace: str, tmp_path: Path) -> Lab:
    return Lab(crds, namespace, tmp_path)


# --- the beginning ----------------------------------------------------------------------------------------------------


@moments
def test_killed_once_at_any_request_of_a_jobs_start(lab: Lab, moment: str) -> None:
    """After each death one lives, and does all that is left in one go."""
    lab.apply(POOL)
    with lab.operator("--mortal"):
        complete, deaths, died = start(lab, 0), 0, True
        while died:
            lab.doom("once", moment, "start")
            assert start(lab, deaths + 1) == complete
            lab.pardon()
            died = len(lab.deaths(moment, "start")) > deaths
            deaths += died
    died_at = lab.deaths(moment, "start")
    assert set(died_at) >= BEGINNING | {"PATCH clientpools/cloud/status"}  # which is written a second later
    assert died_at.count("POST secrets") >= 3
    assert died_at.count("POST jobs") >= 2


def start(lab: Lab, number: int) -> set[str]:
    """One more job with all its children, without the digests of their names. It is deleted afterwards."""
    name = f"digits-{number:06}"
    lab.apply(JOB.replace("digits", name))
    wait_until(lambda: len(lab.children(name)) >= PARTS, f"all parts of {name} are there")
    lab.settle(0.5)
    children = lab.children(name)
    assert len(children) == PARTS
    lab.tell("delete", f"fedjob/{name}", "--wait=false")
    return {plain(child) for child in children}


# --- later ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Life:
    """A job whose operator dies at every call that it makes, once in each part of the job's life."""

    lab: Lab
    moment: str

    @contextmanager
    def part(self, name: str, calls: set[str]) -> Iterator[None]:
        """Within it the operator dies, at these calls at least."""
        self.lab.doom("ever", self.moment, name)
        yield
        self.lab.settle(1.0)
        self.lab.pardon()
        assert set(self.lab.deaths(self.moment, name)) >= calls, name

    def whole(self, *jobs: str) -> dict[str, str]:
        """The uids of these Jobs. Nothing is missing, and nothing is there twice."""
        assert len(self.lab.children()) == PARTS
        return {job: self.lab.get(job)["metadata"]["uid"] for job in jobs or (WORKERS, COORDINATOR)}


@moments
def test_killed_again_and_again_in_the_life_of_a_job(lab: Lab, moment: str) -> None:
    life = Life(lab, moment)
    lab.apply(POOL.replace("clients: 2", "clients: 2, workers: {min: 1, max: 2, clientsPerWorker: 1}"))
    with lab.operator("--mortal"):
        before = lab.everything()
        with life.part("start", BEGINNING):
            lab.apply(JOB + "  checkpoint: {whenDeleted: Delete}\n  runPolicy: {cleanPodPolicy: All}\n")
            wait_until(lambda: len(lab.children()) == PARTS, "all parts are there")
        with life.part("run", {"PATCH federatedjobs/digits/status"}):
            lab.run_all()
        uids = life.whole()
        scales(lab, life)
        renews(lab, life)
        rests_and_goes_on(lab, life)
        assert life.whole() == uids, "through all of this it was the same Jobs"
        is_mended(lab, life)
        ends(lab, life)
        wait_until(lambda: lab.everything() <= before, "nothing is left", within_s=60)


def scales(lab: Lab, life: Life) -> None:
    for most in (1, 2):
        with life.part(f"max-{most}", {f"PATCH {WORKERS}"}):
            lab.patch({"spec": {"workers": {"max": most}}}, "clientpool/cloud")
            wait_until(lambda most=most: lab.get(WORKERS)["spec"]["parallelism"] == most, "it has as many workers")  # type: ignore[misc]
        wait_until(lambda most=most: len(lab.pods("worker")) == most, "there are as many pods")  # type: ignore[misc]


def renews(lab: Lab, life: Life) -> None:
    secrets = ("secrets/digits-server", "secrets/digits-join-cloud")
    old = [lab.get(name) for name in secrets]
    long_ago = {"metadata": {"annotations": {"operator.muster.dev/issued": "2020-01-01T00:00:00Z"}}}
    with life.part("renew", {f"PATCH {name}" for name in secrets}):
        for name in secrets:
            lab.patch(long_ago, name)
        wait_until(lambda: not any("2020-01" in str(lab.get(name)) for name in secrets), "they are renewed")
    for one, was in zip([lab.get(name) for name in secrets], old, strict=True):
        assert one["metadata"]["uid"] == was["metadata"]["uid"]
        assert not one["data"].items() & was["data"].items()


def rests_and_goes_on(lab: Lab, life: Life) -> None:
    with life.part("suspend", {f"PATCH {WORKERS}", f"PATCH {COORDINATOR}", *LEDGER}):
        lab.patch({"spec": {"suspend": True}})
        wait_until(lambda: lab.status().get("reason") == "Suspending", "the round that is open may end")
        [coordinator] = lab.pods("coordinator")
        lab.end_pod(coordinator, 143)
        wait_until(lambda: not lab.pods("worker") and not lab.pods("coordinator"), "no pod is left")
        wait_until(lambda: lab.status().get("phase") == "Suspended", "it is told")
    with life.part("resume", {f"PATCH {WORKERS}", f"PATCH {COORDINATOR}", *LEDGER}):
        lab.patch({"spec": {"suspend": False}})
        lab.run_all()


def is_mended(lab: Lab, life: Life) -> None:
    """What somebody has changed is put right, what can't be is made anew, and what was deleted is back."""
    old = life.whole()
    parts = ("services/digits-coordinator", "roles/digits-coordinator", "networkpolicies/digits-worker")
    right = [content(lab, part) for part in parts]
    calls = {f"PATCH {part}" for part in parts} | {f"DELETE {WORKERS}", "POST jobs", "POST secrets"}
    with life.part("mend", calls | {"PATCH rolebindings/digits-coordinator"}):
        lab.patch({"spec": {"publishNotReadyAddresses": False}}, parts[0])
        lab.patch({"rules": []}, parts[1])
        lab.patch({"spec": {"ingress": [{}]}}, parts[2])
        lab.tell("annotate", WORKERS, "muster.dev/inputs=others", "--overwrite")
        lab.tell("delete", "rolebindings/digits-coordinator", "secrets/digits-join-cloud")
        wait_until(lambda: [content(lab, part) for part in parts] == right, "the parts are right")
        wait_until(lambda: uid_of(lab, WORKERS) not in {"", old[WORKERS]}, "the workers' Job is another")
        wait_until(lambda: len(lab.children()) == PARTS, "all parts are there")
    assert life.whole()[COORDINATOR] == old[COORDINATOR]
    wait_until(lambda: len(lab.pods("worker")) == 2, "there are workers again")


def uid_of(lab: Lab, what: str) -> str:
    return lab.cluster.kubectl("-n", lab.namespace, "get", what, "-o", "jsonpath={.metadata.uid}").stdout


def content(lab: Lab, part: str) -> object:
    found = lab.get(part)
    return found["rules"] if part.startswith("roles/") else {**found["spec"]}


def ends(lab: Lab, life: Life) -> None:
    with life.part("complete", {f"DELETE {WORKERS}", f"DELETE {COORDINATOR}", *LEDGER}):
        [coordinator] = lab.pods("coordinator")
        lab.end_pod(coordinator, 0, '{"event": "finished", "reason": "Completed", "message": "all is done"}')
        wait_until(lambda: lab.status().get("phase") == "Complete", "it is told")
        wait_until(lambda: not lab.pods("worker") and not lab.get("jobs")["items"], "cleanPodPolicy is All")
    assert lab.status()["message"] == "all is done"
    with life.part("ttl", {"DELETE federatedjobs/digits"}):
        lab.patch({"spec": {"runPolicy": {"ttlSecondsAfterFinished": 1}}})
        wait_until(lambda: not lab.tell("get", "fedjobs", "-o", "name"), "it is deleted")


@moments
def test_killed_again_and_again_while_a_job_with_slurm_pools_is_deleted(lab: Lab, moment: str) -> None:
    life = Life(lab, moment)
    lab.tell("create", "secret", "generic", "slurm", "--from-literal=token=t")
    pool, _, job = SLURM.partition("---")
    lab.apply(pool)
    with lab.operator("--mortal"):
        before = lab.everything()
        with life.part("start", {"PATCH federatedjobs/digits", "POST jobs"}):
            lab.apply(job + "  checkpoint: {whenDeleted: Delete}\n")
            wait_until(lambda: len(lab.children()) == PARTS, "all parts are there")
            wait_until(lambda: len(lab.pods("worker")) == 1, "the bridge's pod is made")
        [bridge] = lab.pods("worker")
        lab.end_pod(bridge, 1)
        departs = {"POST jobs", "DELETE jobs/digits-bridge-cloud", "PATCH federatedjobs/digits"}
        with life.part("delete", departs | {f"DELETE {COORDINATOR}"}):
            lab.tell("delete", "fedjob/digits", "--wait=false")
            wait_until(lambda: "muster_slurm.cancel" in str(lab.get("pods")), "a canceller is made")
            assert len(lab.get("jobs")["items"]) == 1
            [canceller] = lab.pods("worker")
            lab.end_pod(canceller, 0)
            wait_until(lambda: not lab.tell("get", "fedjobs", "-o", "name"), "the job goes")
        wait_until(lambda: lab.everything() <= before, "nothing is left", within_s=60)
