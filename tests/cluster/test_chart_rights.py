"""What the chart's roles and policies refuse, tried for real: as the operator, and as a coordinator.

That they grant enough, the tests of the operator show: each of its processes there has these rights and no others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from charting import Account, Kubectl, credentials, own_namespace
from operator_runs import MANIFEST, Lab, wait_until

OURS = "app.kubernetes.io/managed-by: muster-operator"
LONG = "a-name-that-is-as-long-as-a-name-may-be-"[:39] + "x"
JOBS = MANIFEST + "---" + "---".join(MANIFEST.partition("---")[2].replace("digits", name) for name in ("other", LONG))


@pytest.fixture(scope="module")
def lab(crds: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Three jobs that an operator has begun; it was stopped since."""
    with own_namespace(crds) as namespace:
        lab = Lab(crds, namespace, tmp_path_factory.mktemp("rights"))
        with lab.operator():
            lab.apply(JOBS)
            for job in ("digits", "other", LONG):
                wait_until(lambda job=job: bool(lab.status(job).get("phase")), f"{job} has a status")  # type: ignore[misc]
            lab.settle()
        yield lab


@pytest.fixture
def operator(lab: Lab) -> Account:
    return Account(lab.cluster, lab.kubeconfig)


@pytest.fixture
def coordinator(lab: Lab) -> Account:
    return coordinator_of(lab, "digits")


def coordinator_of(lab: Lab, job: str) -> Account:
    return Account(lab.cluster, credentials(lab.cluster, lab.namespace, f"{job}-coordinator", lab.folder))


def status(job: str, body: object) -> tuple[str, ...]:
    patch = json.dumps({"status": body})
    return ("patch", f"fedjob/{job}", "--subresource=status", "--type=merge", "-p", patch)


# --- the operator -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_",
    [
        ("get", "secrets", "-A"),
        ("get", "secrets", "-n", "kube-system"),
        ("get", "secret", "a-secret", "-n", "default"),
        ("get", "fedjobs", "-A"),
        ("get", "nodes"),
        ("get", "namespaces"),
        ("create", "namespace", "mine"),
        ("create", "clusterrole", "mine", "--verb=get", "--resource=pods"),
        ("create", "clusterrolebinding", "mine", "--clusterrole=cluster-admin", "--user=me"),
        ("create", "token", "default", "-n", "NAMESPACE"),
        ("run", "a-pod", "--image=busybox", "-n", "NAMESPACE"),
        ("delete", "pods", "--all", "-n", "NAMESPACE"),
        ("delete", "pvc", "a-claim", "-n", "NAMESPACE"),
        ("delete", "clientpool", "cloud", "-n", "NAMESPACE"),
        ("patch", "fedjob/digits", "--type=merge", '-p={"spec":{"suspend":true}}', "-n", "NAMESPACE"),
        ("create", "configmap", "mine", "-n", "default"),
        ("delete", "lease", "muster-operator", "-n", "NAMESPACE"),
        ("get", "lease", "another", "-n", "NAMESPACE"),
        ("delete", "crd", "federatedjobs.muster.dev"),
        ("delete", "validatingadmissionpolicies", "--all"),
        ("get", "pods", "-n", "NAMESPACE", "--as=system:admin"),
    ],
    ids=" ".join,
)
def test_the_operator_has_no_right_to(lab: Lab, operator: Account, request_: tuple[str, ...]) -> None:
    operator.is_refused(*(part.replace("NAMESPACE", lab.namespace) for part in request_))


@pytest.mark.parametrize(
    ("rule", "because"),
    [
        ("{apiGroups: [''], resources: [nodes], verbs: [get]}", "not currently held"),
        ("{apiGroups: ['*'], resources: ['*'], verbs: ['*']}", "not currently held"),
        ("{apiGroups: [muster.dev], resources: [federatedjobs], verbs: [update]}", "not currently held"),
        ("{apiGroups: [''], resources: [secrets], verbs: [list]}", "rights to objects of muster.dev"),
        ("{apiGroups: [muster.dev], resources: [federatedjobs/status], verbs: [patch]}", "by name"),
    ],
)
def test_the_operator_grants_nothing_but_what_a_coordinator_needs(
    lab: Lab, operator: Account, rule: str, because: str
) -> None:
    role = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: mine, namespace: {lab.namespace}, labels: {{{OURS}}}}}
rules: [{rule}]
"""
    wait_until(lambda: because in operator.is_refused("create", "-f", "-", manifest=role), "it is refused")


def test_the_operator_binds_nobody_to_what_it_has_not(lab: Lab, operator: Account) -> None:
    binding = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: mine, namespace: {lab.namespace}, labels: {{{OURS}}}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}}
subjects: [{{kind: ServiceAccount, name: default, namespace: {lab.namespace}}}]
"""
    assert "not currently held" in operator.is_refused("create", "-f", "-", manifest=binding)


def test_the_operator_touches_nothing_that_is_not_its_own(lab: Lab, operator: Account) -> None:
    policy = "carries its label"
    lab.tell("create", "configmap", "theirs")
    here = ("-n", lab.namespace)
    labelled = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: theirs, namespace: {lab.namespace}, labels: {{{OURS}}}}}
"""
    assert policy in operator.is_refused(*here, "delete", "configmap", "theirs")
    taken = operator.is_refused("apply", "--server-side", "--force-conflicts", "-f", "-", manifest=labelled)
    assert policy in taken
    assert policy in operator.is_refused(*here, "create", "secret", "generic", "mine")
    assert operator.ask("create", "-f", "-", manifest=labelled.replace("theirs", "ours")).returncode == 0
    assert operator.ask(*here, "delete", "configmap", "ours").returncode == 0


def test_of_a_users_job_the_operator_changes_its_own_finalizer_and_nothing_else(lab: Lab, operator: Account) -> None:
    def patched(**metadata: object) -> tuple[str, ...]:
        body = json.dumps({"metadata": metadata})
        return ("-n", lab.namespace, "patch", "fedjob/other", "--type=merge", "-p", body)

    only = "changes the finalizer muster.dev/slurm and nothing else"
    theirs = "example.org/theirs"
    lab.patch({"metadata": {"finalizers": [theirs]}}, "fedjob/other")
    try:
        assert operator.ask(*patched(finalizers=[theirs, "muster.dev/slurm"])).returncode == 0
        for metadata in ({"finalizers": ["muster.dev/slurm"]}, {"labels": {"a": "b"}}, {"annotations": {"a": "b"}}):
            assert only in operator.is_refused(*patched(**metadata))
        assert operator.ask(*patched(finalizers=[theirs])).returncode == 0
    finally:
        lab.patch({"metadata": {"finalizers": None}}, "fedjob/other")


# --- a coordinator ----------------------------------------------------------------------------------------------------


def test_a_coordinator_writes_its_own_training_and_nothing_else(lab: Lab, coordinator: Account) -> None:
    before = lab.status()
    assert coordinator.ask(*status("digits", {"training": {"round": 2}})).returncode == 0
    only = "a coordinator writes status.training and nothing else"
    for body in (
        {"phase": "Complete"},
        {"conditions": []},
        {"message": None},
        {"training": {"round": 3}, "reason": "Completed"},
    ):
        assert only in coordinator.is_refused(*status("digits", body))
    assert lab.status() == before | {"training": {"round": 2}}
    assert coordinator.ask(*status("digits", {"training": None})).returncode == 0


def test_a_coordinator_has_no_say_in_another_job(lab: Lab, coordinator: Account) -> None:
    training = {"training": {"round": 2}}
    coordinator.is_refused(*status("other", training))
    # Even where somebody has given it the right, by mistake.
    lab.tell("create", "role", "broad", "--verb=get,patch", "--resource=federatedjobs.muster.dev/status")
    lab.tell("create", "rolebinding", "broad", "--role=broad", f"--serviceaccount={lab.namespace}:digits-coordinator")
    refusal = "is for its own coordinator, not for digits-coordinator"
    wait_until(lambda: refusal in coordinator.is_refused(*status("other", training)), "the policy refuses")
    assert "training" not in lab.status("other")


@pytest.mark.parametrize(
    "request_",
    [
        ("get", "secrets"),
        ("get", "secret", "digits-authority"),
        ("get", "configmaps"),
        ("get", "pods"),
        ("get", "fedjobs"),
        ("get", "fedjob/digits"),
        ("patch", "fedjob/digits", "--type=merge", '-p={"spec":{"suspend":true}}'),
        ("label", "fedjob/digits", "mine=yes"),
        ("delete", "fedjob/digits"),
        ("delete", "job/digits-coordinator"),
        ("create", "configmap", "mine"),
        ("create", "token", "digits-coordinator"),
        ("get", "fedjobs", "-A"),
    ],
    ids=" ".join,
)
def test_a_coordinator_has_no_right_to(coordinator: Account, request_: tuple[str, ...]) -> None:
    coordinator.is_refused(*request_)


def test_the_coordinator_of_a_job_with_the_longest_name_reports_too(lab: Lab) -> None:
    coordinator = coordinator_of(lab, LONG)
    assert coordinator.ask(*status(LONG, {"training": {"round": 1}})).returncode == 0
    coordinator.is_refused(*status(LONG, {"phase": "Complete"}))
