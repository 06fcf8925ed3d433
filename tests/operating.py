"""A cluster in memory for the operator's plans: it holds objects, carries out actions, and plays the parts that
the job controller and the kubelet have, as far as a plan can tell. Written for tests; nothing here decides anything."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

from muster_operator.actions import Action, Apply, Create, CreateAuthority, Delete, Issue, Patch, Plan, Tell
from muster_operator.build.common import COORDINATOR
from muster_operator.issuing import content_of, encoded, read_authority, with_authority
from muster_operator.objects import COMPONENT, JOB, Key, Object, is_controlled_by, key_of, label_of, timestamp
from muster_operator.observed import Observed, observe
from muster_operator.plan import plan
from muster_operator.settings import Install
from muster_spec.defaults import with_defaults
from muster_spec.schemas import API_VERSION, schema_of

INSTALL = Install(coordinator_image="coordinator:1", worker_image="worker:1")
START = 1_800_000_000.0


def pool_object(name: str = "cloud", **spec: Any) -> Object:
    """A ClientPool as the API server stores it."""
    whole = {"type": "Kubernetes", "clients": 6} | spec
    return _stored("ClientPool", name, whole)


def job_object(name: str = "digits", pools: Iterable[Any] = ("cloud",), **spec: Any) -> Object:
    """A FederatedJob as the API server stores it."""
    entries = [{"name": pool} if isinstance(pool, str) else pool for pool in pools]
    return _stored("FederatedJob", name, {"task": {"entrypoint": "a:B"}, "pools": entries} | spec)


def _stored(kind: str, name: str, spec: dict[str, Any]) -> Object:
    metadata = {"name": name, "namespace": "lab", "uid": f"uid-of-{name}", "generation": 1, "resourceVersion": "7"}
    value = {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
    stored: Object = with_defaults(value, schema_of(kind))
    return stored


class Cluster:
    """Objects by key. `now` is moved by the tests."""

    def __init__(self, job: Object, *pools: Object) -> None:
        self.job = job
        self.pools = list(pools)
        self.objects: dict[Key, Object] = {}
        self.now = START
        self.is_job_deleted = False
        self.told: list[Tell] = []
        self.install = INSTALL
        self.refusals: dict[str, str] = {}  # what the API server says to Jobs, by uid
        self.code: dict[str, str] | None = None  # what the config map of the task's code holds
        self._uids = itertools.count(1)

    def see(self) -> Observed:
        labelled = [copy.deepcopy(one) for one in self.objects.values() if label_of(one, JOB)]
        for secret in (one for one in labelled if one["kind"] == "Secret"):
            secret.pop("data", None)  # plans see no keys
        seen = observe(copy.deepcopy(self.job), copy.deepcopy(self.pools), labelled)
        code = self.code if seen.code_source else None
        return dataclasses.replace(seen, code=code, refusals=dict(self.refusals))

    def plan(self) -> Plan:
        return plan(self.see(), self.install, self.now)

    def step(self) -> Plan:
        """One pass."""
        planned = self.plan()
        for action in planned.actions:
            if isinstance(action, Tell):
                self.told.append(action)
            elif isinstance(action, (Patch, Delete)) and action.key.kind == "FederatedJob":
                self._change_job(action)
            else:
                self.carry_out(action)
        if planned.status is not None:
            told = {name: value for name, value in self.job.get("status", {}).items() if name == "training"}
            self.job["status"] = planned.status | told
        return planned

    def settle(self) -> Plan:
        """Passes until nothing is left to do. The last one, which did nothing."""
        for _ in range(6):
            planned = self.step()
            if not planned.actions:
                return planned
        raise AssertionError(f"it doesn't come to rest: {planned.actions}")

    def carry_out(self, action: Action) -> None:
        match action:
            case Create(manifest):
                assert key_of(manifest) not in self.objects
                self._put(manifest)
            case CreateAuthority(manifest):
                assert key_of(manifest) not in self.objects
                self._put(with_authority(action, self.now))
            case Issue(manifest):
                have = self.objects.get(key_of(manifest))
                assert (have and have["metadata"]["uid"]) == (action.replaces and action.replaces.uid)
                authority = self.objects[action.authority]
                assert authority["metadata"]["uid"] == action.authority_uid
                self._put(manifest | {"data": encoded(content_of(action, read_authority(action.authority, authority)))})
            case Apply(manifest):
                self._put(manifest)
            case Patch(key, uid, body):
                assert self.objects[key]["metadata"]["uid"] == uid
                self.objects[key] = merged(self.objects[key], body)
            case Delete(key, uid, _):
                assert self.objects[key]["metadata"]["uid"] == uid
                self.remove(key)

    def _change_job(self, action: Patch | Delete) -> None:
        assert action.uid == self.job["metadata"]["uid"]
        if isinstance(action, Patch):
            self.job = merged(self.job, action.body)
        else:
            self.is_job_deleted = True

    def _put(self, manifest: Object) -> None:
        key = key_of(manifest)
        before = self.objects.get(key)
        uid = before["metadata"]["uid"] if before else f"uid-{next(self._uids)}"
        made = before["metadata"]["creationTimestamp"] if before else timestamp(self.now)
        metadata = manifest["metadata"] | {"uid": uid, "creationTimestamp": made}
        self.objects[key] = copy.deepcopy(manifest | {"metadata": metadata})

    def remove(self, key: Key) -> Object:
        """As the garbage collector does: with everything that it controlled."""
        gone = self.objects.pop(key)
        for other in [one for one, value in self.objects.items() if is_controlled_by(value, gone["metadata"]["uid"])]:
            del self.objects[other]
        return gone

    def keys(self, kind: str) -> list[str]:
        return sorted(key.name for key in self.objects if key.kind == kind)

    def child(self, kind: str, name: str) -> Object:
        return self.objects[Key(kind, name)]

    # --- what controllers and kubelets do -----------------------------------------------------------------------------

    def start_pod(self, job: str, *, status: Object | None = None, index: int | None = None) -> Object:
        """A pod of a Job, ready unless another status is given."""
        owner = self.child("Job", job)
        name = f"{job}-{next(self._uids)}"
        annotations = {} if index is None else {"batch.kubernetes.io/job-completion-index": str(index)}
        reference = {"kind": "Job", "name": job, "uid": owner["metadata"]["uid"], "controller": True}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": "lab",
                "labels": owner["spec"]["template"]["metadata"]["labels"],
                "annotations": annotations,
                "ownerReferences": [reference],
            },
            "spec": owner["spec"]["template"]["spec"],
            "status": status or {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }
        self._put(pod)
        return self.child("Pod", name)

    def say(self, job: str, **status: Any) -> None:
        """The job controller's word on a Job."""
        self.child("Job", job)["status"] = status

    def suspend(self) -> Plan:
        """The user's wish, and a coordinator that ends its round and leaves."""
        self.job["spec"]["suspend"] = True
        self.settle()
        for pod in [self.child("Pod", name) for name in self.keys("Pod")]:
            if label_of(pod, COMPONENT) == COORDINATOR:
                pod["status"] = ended(143)
        return self.settle()

    def run(self) -> None:
        """Everything is up: the coordinator, and all workers."""
        self.settle()
        for name in self.keys("Job"):
            job = self.child("Job", name)
            for index in range(job["spec"]["parallelism"]):
                self.start_pod(name, index=index)
            self.say(name, ready=job["spec"]["parallelism"], active=job["spec"]["parallelism"])
        self.settle()


def ended(code: int, message: str = "", reason: str = "Error", *, is_disrupted: bool = False) -> Object:
    """The status of a pod whose container ended."""
    disruption = [{"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}]
    terminated = {"exitCode": code, "reason": reason, "message": message}
    return {
        "phase": "Failed" if code else "Succeeded",
        "conditions": disruption if is_disrupted else [],
        "containerStatuses": [{"name": "main", "state": {"terminated": terminated}}],
    }


def merged(value: Any, patch: Any) -> Any:
    """RFC 7396: what a merge patch does."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for name, item in patch.items():
        if item is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), item)
    return result


def conditions(status: Object) -> dict[str, str]:
    """The conditions that are true, with their reasons."""
    return {one["type"]: one["reason"] for one in status["conditions"] if one["status"] == "True"}
