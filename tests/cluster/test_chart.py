"""The chart as helm renders it: what comes out of which values, and which values are refused."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from charting import CHART, ROOT, Object, helm, objects, render, settings, tell_helm
from muster_operator.settings import read_settings

EVERYTHING = {
    "commonLabels": {"team": "ours"},
    "commonAnnotations": {"note": "ours"},
    "imagePullSecrets": [{"name": "registry"}],
    "image.digest": "sha256:" + "1" * 64,
    "coordinatorImage.repository": "registry.example.org/coordinator",
    "workerImage.digest": "sha256:" + "2" * 64,
    "extraEnv": [{"name": "EXTRA", "value": "yes"}],
    "proxy.https": "http://proxy.example.org:3128",
    "proxy.noProxy": "example.org",
    "serviceAccount.annotations": {"role": "ours"},
    "podLabels": {"pod": "ours"},
    "podAnnotations": {"pod-note": "ours"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "high",
    "networkPolicy.from": [{"namespaceSelector": {}}],
    "networkPolicy.egress": [{"ports": [{"port": 443}]}],
    "serviceMonitor.enabled": True,
    "serviceMonitor.labels": {"prometheus": "main"},
    "podMonitor.enabled": True,
    "prometheusRule.enabled": True,
    "dashboards.enabled": True,
}


def rendered(**values: Any) -> list[Object]:
    return objects(_text(json.dumps(values)))


@functools.cache
def _text(values: str) -> str:
    return render("muster", "muster-system", json.loads(values))


def of_kind(found: list[Object], kind: str) -> list[Object]:
    return [one for one in found if one["kind"] == kind]


def deployment(**values: Any) -> Object:
    [one] = of_kind(rendered(**values), "Deployment")
    return one


def pod(**values: Any) -> Object:
    spec: Object = deployment(**values)["spec"]["template"]["spec"]
    return spec


def environment(**values: Any) -> dict[str, str]:
    [container] = pod(**values)["containers"]
    return {one["name"]: one.get("value", "") for one in container["env"]}


@pytest.mark.parametrize(
    "values", [{}, EVERYTHING, {"watch.namespaces": ["a", "b"]}], ids=["plain", "full", "namespaced"]
)
def test_helm_has_nothing_to_say_against_it(values: dict[str, Any]) -> None:
    told = tell_helm("lint", "--strict", str(CHART), *settings(values))
    assert "[WARNING]" not in told


def test_what_is_rendered_without_helm_is_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "manifests"), "--check"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_its_resources_are_those_of_the_project_and_are_kept() -> None:
    found = {one["metadata"]["name"]: one for one in of_kind(rendered(), "CustomResourceDefinition")}
    for path in (ROOT / "crds").glob("*.yaml"):
        ours = yaml.safe_load(path.read_text())
        theirs = found.pop(ours["metadata"]["name"])
        assert theirs["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        assert theirs | {"metadata": {"name": ours["metadata"]["name"]}} == ours
    assert found == {}
    assert of_kind(rendered(**{"crds.enabled": False}), "CustomResourceDefinition") == []


def test_an_older_kubernetes_is_refused() -> None:
    refused = helm("template", str(CHART), "--kube-version", "1.33.9")
    assert refused.returncode != 0
    assert "kubeVersion: >=1.34.0-0" in refused.stderr
    assert helm("template", str(CHART), "--kube-version", "1.34.0-gke.100").returncode == 0


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"image.digest": "latest"}, "/image/digest"),
        ({"image.pullPolicy": "Sometimes"}, "/image/pullPolicy"),
        ({"image.repository": ""}, "/image/repository"),
        ({"watch.namespaces": "default"}, "/watch/namespaces"),
        ({"watch.namespaces": ["Not_A_Name"]}, "/watch/namespaces/0"),
        ({"watch.namespace": ["default"]}, "/watch"),
        ({"replicas": 2}, "''"),
        ({"operator.reconcilers": 0}, "/operator/reconcilers"),
        ({"operator.resyncSeconds": "often"}, "/operator/resyncSeconds"),
        ({"certificates.workerMinutes": 0}, "/certificates/workerMinutes"),
        ({"logging.format": "xml"}, "/logging/format"),
        ({"runAsUser": 0}, "/runAsUser"),
        ({"imagePullSecrets": ["registry"]}, "/imagePullSecrets/0"),
        ({"proxy.https": "proxy:3128"}, "/proxy/https"),
        ({"podMonitor.interval": "often"}, "/podMonitor/interval"),
        ({"commonLabels": {"number": 1}}, "/commonLabels/number"),
        ({"resources": {"cpu": "1"}}, "/resources"),
    ],
    ids=str,
)
def test_a_bad_value_is_refused_by_name(value: dict[str, Any], place: str) -> None:
    refused = helm("template", str(CHART), *settings(value))
    assert refused.returncode != 0
    assert f"at '{place}'" in refused.stderr or f"at {place}" in refused.stderr


def test_a_service_account_that_is_not_made_has_to_be_named() -> None:
    refused = helm("template", str(CHART), *settings({"serviceAccount.create": False}))
    assert "serviceAccount.name: give the ServiceAccount" in refused.stderr
    found = rendered(**{"serviceAccount.create": False, "serviceAccount.name": "theirs"})
    assert of_kind(found, "ServiceAccount") == []
    [binding] = of_kind(found, "ClusterRoleBinding")
    assert binding["subjects"][0]["name"] == "theirs"


def test_its_environment_is_what_the_operator_reads() -> None:
    more = {"operator.reconcilers": 7, "operator.resyncSeconds": 60, "logging.level": "debug"}
    more |= {"certificates.workerMinutes": 5}
    given = environment(**EVERYTHING, **more)
    namespaced = environment(**{"watch.namespaces": ["a", "b"]})
    settings_ = read_settings(given)
    assert settings_.install.coordinator_image == "registry.example.org/coordinator:0.1.0"
    assert settings_.install.worker_image == "muster-worker@sha256:" + "2" * 64
    assert (settings_.reconcilers, settings_.resync_s, settings_.namespaces) == (7, 60.0, ())
    assert settings_.install.worker_certificate_minutes == 5
    assert (settings_.log_format, settings_.log_level) == ("json", "DEBUG")
    assert read_settings(namespaced).namespaces == ("a", "b")


def test_the_api_server_is_never_behind_the_proxy() -> None:
    given = environment(**EVERYTHING)
    assert given["HTTPS_PROXY"] == "http://proxy.example.org:3128"
    assert given["NO_PROXY"] == "$(KUBERNETES_SERVICE_HOST),.svc,.cluster.local,example.org"
    assert not {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"} & environment().keys()


@pytest.mark.parametrize(
    ("digest", "image"), [("", "here/muster:7"), ("sha256:" + "a" * 64, "here/muster@sha256:" + "a" * 64)]
)
def test_a_digest_wins_over_a_tag(digest: str, image: str) -> None:
    values = {"image.repository": "here/muster", "image.tag": "7", "image.digest": digest}
    [container] = pod(**values)["containers"]
    assert container["image"] == image
    assert environment(**values)["MUSTER_COORDINATOR_IMAGE"] == image


def test_values_reach_the_pod() -> None:
    whole = deployment(**EVERYTHING)
    template = whole["spec"]["template"]
    spec = template["spec"]
    assert template["metadata"]["labels"].items() >= {"pod": "ours", "team": "ours"}.items()
    assert template["metadata"]["annotations"] == {"pod-note": "ours"}
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert (spec["nodeSelector"], spec["priorityClassName"]) == ({"disk": "ssd"}, "high")
    assert (spec["tolerations"], spec["affinity"]) == (EVERYTHING["tolerations"], EVERYTHING["affinity"])
    assert (whole["spec"]["replicas"], whole["spec"]["strategy"]) == (1, {"type": "Recreate"})


def test_every_object_has_the_labels_and_annotations_that_were_asked_for() -> None:
    for one in rendered(**EVERYTHING):
        assert one["metadata"]["labels"]["team"] == "ours", one["kind"]
        assert one["metadata"]["annotations"]["note"] == "ours", one["kind"]


def test_openshift_may_choose_the_user() -> None:
    assert "runAsUser" not in pod(runAsUser=None)["securityContext"]
    assert pod()["securityContext"]["runAsUser"] == 65532


def test_the_rights_name_verbs_and_kinds_and_no_wildcards() -> None:
    found = [*rendered(), *rendered(**{"watch.namespaces": ["a"]})]
    rules = [rule for one in found if one["kind"] in {"Role", "ClusterRole"} for rule in one["rules"]]
    verbs = {verb for rule in rules for verb in rule["verbs"]}
    assert not verbs & {"*", "escalate", "bind", "impersonate"}
    assert "*" not in {name for rule in rules for name in (*rule["apiGroups"], *rule["resources"])}


def test_a_namespaced_operator_has_no_right_in_the_whole_cluster() -> None:
    found = rendered(**{"watch.namespaces": ["a", "b"], "rbac.aggregate": False})
    assert of_kind(found, "ClusterRole") == of_kind(found, "ClusterRoleBinding") == []
    places = {one["metadata"]["namespace"] for one in of_kind(found, "Role")}
    assert places == {"a", "b", "muster-system"}
    [whole] = [one for one in of_kind(rendered(), "ClusterRole") if "aggregate" not in str(one["metadata"]["labels"])]
    assert [one["rules"] for one in of_kind(found, "Role") if one["metadata"]["namespace"] == "a"] == [whole["rules"]]


def test_nothing_is_granted_where_somebody_else_does_it() -> None:
    off = {"rbac.create": False, "rbac.aggregate": False, "admissionPolicies.enabled": False}
    kinds = {one["kind"] for one in rendered(**off)}
    assert not {kind for kind in kinds if "Role" in kind or "Admission" in kind}


def test_the_policies_hold_for_the_namespaces_of_the_operator() -> None:
    [binding] = [
        one
        for one in of_kind(rendered(**{"watch.namespaces": ["a"]}), "ValidatingAdmissionPolicyBinding")
        if one["metadata"]["name"].endswith("-coordinators")
    ]
    [where] = binding["spec"]["matchResources"]["namespaceSelector"]["matchExpressions"]
    assert where == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a"]}


def test_the_network_policy_lets_in_who_was_named() -> None:
    [plain] = of_kind(rendered(), "NetworkPolicy")
    assert plain["spec"]["policyTypes"] == ["Ingress"]
    assert "from" not in plain["spec"]["ingress"][0]
    [full] = of_kind(rendered(**EVERYTHING), "NetworkPolicy")
    assert full["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert full["spec"]["ingress"][0]["from"] == EVERYTHING["networkPolicy.from"]
    assert full["spec"]["egress"] == EVERYTHING["networkPolicy.egress"]
    assert of_kind(rendered(**{"networkPolicy.enabled": False}), "NetworkPolicy") == []


def test_monitors_select_what_they_scrape() -> None:
    assert {"ServiceMonitor", "PodMonitor", "PrometheusRule"} & {one["kind"] for one in rendered()} == set()
    found = rendered(**EVERYTHING)
    [monitor], [service] = of_kind(found, "ServiceMonitor"), of_kind(found, "Service")
    assert service["metadata"]["labels"].items() >= monitor["spec"]["selector"]["matchLabels"].items()
    assert monitor["metadata"]["labels"]["prometheus"] == "main"
    ports = {port["name"] for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports
    [container] = pod(**EVERYTHING)["containers"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= {port["name"] for port in container["ports"]}
    assert deployment()["spec"]["template"]["metadata"]["labels"].items() >= service["spec"]["selector"].items()


def test_alerts_and_dashboards_are_the_files_of_the_chart() -> None:
    found = rendered(**EVERYTHING)
    rules = [one["spec"] for one in of_kind(found, "PrometheusRule")]
    assert rules == [yaml.safe_load(path.read_text()) for path in sorted((CHART / "rules").glob("*.yaml"))]
    boards = {path.name: path.read_text().rstrip("\n") for path in (CHART / "dashboards").glob("*.json")}
    shown = [one["data"] for one in of_kind(found, "ConfigMap")]
    assert [{name: text.rstrip("\n") for name, text in data.items()} for data in shown] == ([boards] if boards else [])


def test_its_version_is_that_of_the_project() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert project is not None
    assert chart["appVersion"] == project[1]
