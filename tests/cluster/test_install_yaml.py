"""helm/install.yaml, the install without helm, in a cluster of its own: it works, with the rights that it gives.

Those are the defaults of the chart, for the whole cluster. What they refuse is tried for real; the tests of the
operator show that they are enough. test_chart_rights.py does the same for an operator of some namespaces.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from charting import ROOT, Account, credentials, own_namespace
from clusters import ControlPlane, own_control_plane
from operator_runs import Lab, as_deployed, wait_until

PARTS = 13  # children of a job with one pool
HOME, NAME = "muster-system", "muster"
OURS = "app.kubernetes.io/managed-by: muster-operator"


@pytest.fixture(scope="module")
def cluster() -> Iterator[ControlPlane]:
    """A cluster into which it was installed as its README says."""
    with own_control_plane(f"plain-{os.getpid()}") as cluster:
        cluster.tell("apply", "-f", str(ROOT / "helm" / "install.yaml"))
        yield cluster


@pytest.fixture(scope="module")
def lab(cluster: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A namespace with a job, all of whose children the operator has made; it was stopped since."""
    with own_namespace(cluster) as namespace:
        lab = Lab(cluster, namespace, tmp_path_factory.mktemp("plain"), account=(HOME, NAME))
        deployment = json.loads(cluster.tell("-n", HOME, "get", "deployment", NAME, "-o", "json"))
        [container] = deployment["spec"]["template"]["spec"]["containers"]
        with as_deployed(container, HOME, lab):
            lab.apply()
            wait_until(lambda: len(lab.children()) == PARTS, "all parts are there", within_s=60)
            wait_until(lambda: bool(lab.status().get("phase")), "the job has a status")
        yield lab


@pytest.fixture
def operator(lab: Lab) -> Account:
    return Account(lab.cluster, lab.kubeconfig)


@pytest.fixture
def coordinator(lab: Lab) -> Account:
    return Account(lab.cluster, credentials(lab.cluster, lab.namespace, "digits-coordinator", lab.folder))


def test_a_job_in_any_namespace_gets_its_children_and_pods(lab: Lab) -> None:
    wait_until(lambda: len(lab.pods("worker")) == 2 and len(lab.pods("coordinator")) == 1, "there are pods")
    images = {lab.get("pod", name)["spec"]["containers"][0]["image"] for name in lab.pods("coordinator")}
    assert images == {"muster-operator:0.1.0"}, "as the Deployment says"
    assert lab.status()["coordinator"]["endpoint"] == f"digits-coordinator.{lab.namespace}.svc:443"


@pytest.mark.parametrize(
    "request_",
    [
        ("get", "nodes"),
        ("get", "namespaces"),
        ("create", "namespace", "mine"),
        ("create", "clusterrole", "mine", "--verb=get", "--resource=pods"),
        ("create", "clusterrolebinding", "mine", "--clusterrole=cluster-admin", "--user=me"),
        ("get", "deployments", "-A"),
        ("patch", "deployment/muster", "--type=merge", '-p={"spec":{"replicas":2}}', "-n", HOME),
        ("create", "token", "default", "-n", "kube-system"),
        ("create", "token", "muster", "-n", HOME),
        ("run", "a-pod", "--image=busybox", "-n", "NAMESPACE"),
        ("delete", "pods", "--all", "-n", "NAMESPACE"),
        ("exec", "a-pod", "-n", "NAMESPACE", "--", "sh"),
        ("delete", "pvc", "a-claim", "-n", "NAMESPACE"),
        ("delete", "clientpool", "cloud", "-n", "NAMESPACE"),
        ("patch", "fedjob/digits", "--type=merge", '-p={"spec":{"suspend":true}}', "-n", "NAMESPACE"),
        ("create", "secret", "generic", "mine", "-n", "NAMESPACE"),
        ("create", "configmap", "mine", "-n", "kube-system"),
        ("delete", "configmap", "kube-root-ca.crt", "-n", "kube-system"),
        ("delete", "serviceaccount", "default", "-n", "NAMESPACE"),
        ("delete", "lease", "muster-operator", "-n", HOME),
        ("create", "role", "mine", "--verb=get", "--resource=secrets", "-n", "kube-system"),
        ("get", "leases", "-n", "kube-system"),
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
        ("{apiGroups: [''], resources: [secrets], verbs: [list]}", "rights to objects of muster.dev"),
        ("{apiGroups: [muster.dev], resources: [federatedjobs/status], verbs: [patch]}", "by name"),
    ],
)
@pytest.mark.parametrize("where", ["", "kube-system"])
def test_the_operator_grants_nothing_but_what_a_coordinator_needs(
    lab: Lab, operator: Account, where: str, rule: str, because: str
) -> None:
    """Though it may read Secrets everywhere, it can't let anybody else do so."""
    role = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: mine, namespace: {where or lab.namespace}, labels: {{{OURS}}}}}
rules: [{rule}]
"""
    wait_until(lambda: because in operator.is_refused("create", "-f", "-", manifest=role), "it is refused")


def test_the_operator_binds_nobody_to_what_it_has_not(lab: Lab, operator: Account) -> None:
    binding = f"""
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: mine, namespace: kube-system, labels: {{{OURS}}}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: admin}}
subjects: [{{kind: ServiceAccount, name: default, namespace: {lab.namespace}}}]
"""
    assert "not currently held" in operator.is_refused("create", "-f", "-", manifest=binding)


def test_the_operator_touches_nothing_that_is_not_its_own(lab: Lab, operator: Account) -> None:
    lab.tell("create", "secret", "generic", "theirs", "--from-literal=a=b")
    patch = ("patch", "secret/theirs", "--type=merge", '-p={"data":{"a":"Yw=="}}')
    for request in (("delete", "secret", "theirs"), patch):
        assert "carries its label" in operator.is_refused("-n", lab.namespace, *request)


@pytest.mark.parametrize(
    "request_",
    [
        ("get", "secrets"),
        ("get", "secret", "digits-authority"),
        ("get", "pods"),
        ("get", "fedjobs", "-A"),
        ("patch", "fedjob/digits", "--type=merge", '-p={"spec":{"suspend":true}}'),
        ("delete", "job/digits-coordinator"),
        ("create", "token", "digits-coordinator"),
        ("get", "secrets", "-n", HOME),
        ("get", "lease", "muster-operator", "-n", HOME),
        ("patch", "fedjob/digits", "--subresource=status", "--type=merge", '-p={"status":{"phase":"Complete"}}'),
    ],
    ids=" ".join,
)
def test_a_coordinator_has_no_right_to(coordinator: Account, request_: tuple[str, ...]) -> None:
    coordinator.is_refused(*request_)


def test_a_coordinator_writes_its_own_training(coordinator: Account) -> None:
    patch = ("patch", "fedjob/digits", "--subresource=status", "--type=merge", '-p={"status":{"training":{"round":2}}}')
    assert coordinator.ask(*patch).returncode == 0
