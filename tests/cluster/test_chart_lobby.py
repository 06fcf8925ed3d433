"""The lobby as the chart renders it: off unless it is asked for, with few rights, and reached as the values say."""

from __future__ import annotations

from typing import Any

import pytest

from charting import CHART, Object, helm, objects, render, settings, tell_helm
from muster_lobby.settings import read_settings as read_lobby_settings
from muster_operator.settings import read_settings

LOBBY = {"lobby.enabled": True, "lobby.address": "fl.example.org:443"}
GATEWAY = {"gateway.name": "edge", "gateway.namespace": "net", "gateway.domain": "fl.example.org"}


def rendered(**values: Any) -> dict[tuple[str, str], Object]:
    found = objects(render("muster", "muster-system", values | {"crds.enabled": False}))
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def environment(found: dict[tuple[str, str], Object]) -> dict[str, str]:
    [container] = found["Deployment", "muster"]["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", "") for one in container["env"]}


def test_there_is_none_unless_it_is_asked_for() -> None:
    assert [key for key in rendered() if "lobby" in key[1]] == []
    assert read_settings(environment(rendered())).install.lobby is None


@pytest.mark.parametrize("values", [LOBBY, LOBBY | GATEWAY, LOBBY | {"watch.namespaces": ["a", "b"]}], ids=str)
def test_helm_has_nothing_to_say_against_it(values: dict[str, Any]) -> None:
    assert "[WARNING]" not in tell_helm("lint", "--strict", str(CHART), *settings(values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lobby.enabled": True}, "lobby.address: say where sites dial the lobby"),
        ({"lobby.address": "fl.example.org"}, "/lobby/address"),
        (LOBBY | {"lobby.service.type": "Ingress"}, "/lobby/service/type"),
        (LOBBY | {"gateway.name": "edge"}, "gateway.domain: coordinators are called"),
        ({"gateway.port": 0}, "/gateway/port"),
    ],
    ids=str,
)
def test_what_is_missing_or_wrong_is_refused_by_name(values: dict[str, Any], words: str) -> None:
    refused = helm("template", str(CHART), *settings(values))
    assert refused.returncode != 0
    assert words in refused.stderr


def test_the_operator_hears_where_it_is() -> None:
    install = read_settings(environment(rendered(**LOBBY, **GATEWAY)) | {"MUSTER_LEASE_NAMESPACE": "ms"}).install
    assert install.lobby is not None
    assert (install.lobby.address, install.lobby.account.name) == ("fl.example.org:443", "muster-lobby")
    assert install.routes is not None
    assert (install.routes.gateway, install.routes.namespace, install.routes.domain) == (
        "edge",
        "net",
        "fl.example.org",
    )


def test_its_command_is_one_that_it_understands() -> None:
    found = rendered(**LOBBY, **{"watch.namespaces": ["a", "b"]})
    pod = found["Deployment", "muster-lobby"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    lobby = read_lobby_settings(container["command"][3:])
    assert (lobby.namespaces, lobby.log_format, lobby.metrics) == (("a", "b"), "json", "0.0.0.0:8080")
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {str(path.parent) for path in (lobby.tls.certificate, lobby.tls.key, lobby.authority)} <= mounts


def test_its_pod_fits_restricted_and_sees_no_key_but_its_own() -> None:
    pod = rendered(**LOBBY)["Deployment", "muster-lobby"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    [trust] = [volume for volume in pod["volumes"] if volume["name"] == "trust"]
    shown = [item["key"] for source in trust["projected"]["sources"] for item in source["secret"]["items"]]
    assert shown == ["tls.crt", "tls.key", "ca.crt"]


def test_it_may_hear_of_jobs_and_pools_and_of_no_secret() -> None:
    for values in (LOBBY, LOBBY | {"watch.namespaces": ["a"]}):
        found = rendered(**values)
        kind = "Role" if "watch.namespaces" in values else "ClusterRole"
        rules = found[kind, "muster-system-muster-lobby"]["rules"]
        assert {group for rule in rules for group in rule["apiGroups"]} == {"muster.dev"}
        assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "watch", "patch"}
    assert ("ClusterRole", "muster-system-muster-lobby") not in rendered(**LOBBY, **{"watch.namespaces": ["a"]})


def test_anybody_may_dial_it_and_nobody_else_its_probes() -> None:
    policy = rendered(**LOBBY, **{"networkPolicy.from": [{"podSelector": {}}]})["NetworkPolicy", "muster-lobby"]
    sites, probes = policy["spec"]["ingress"]
    assert sites == {"ports": [{"port": "lobby", "protocol": "TCP"}]}
    assert probes["from"] == [{"podSelector": {}}]


def test_it_is_reached_as_the_values_say() -> None:
    values = {"lobby.service.type": "NodePort", "lobby.service.nodePort": 30443}
    service = rendered(**LOBBY, **values)["Service", "muster-lobby"]
    assert (service["spec"]["type"], service["spec"]["ports"][0]["nodePort"]) == ("NodePort", 30443)
    route = rendered(**LOBBY, **GATEWAY)["TLSRoute", "muster-lobby"]
    assert route["spec"]["hostnames"] == ["fl.example.org"]
    assert route["spec"]["parentRefs"] == [{"name": "edge", "namespace": "net"}]
    assert ("TLSRoute", "muster-lobby") not in rendered(**LOBBY)


def test_the_operator_may_make_routes_where_there_is_a_gateway_only() -> None:
    def groups(**values: Any) -> set[str]:
        rules = rendered(**values)["ClusterRole", "muster-system-muster"]["rules"]
        return {group for rule in rules for group in rule["apiGroups"]}

    assert "gateway.networking.k8s.io" in groups(**GATEWAY)
    assert "gateway.networking.k8s.io" not in groups()
