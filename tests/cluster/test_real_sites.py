"""An External site and a cluster of pods: its worker is a process outside of the pods' network, which dials out.

What it reaches is one port for every name, as a Gateway that passes TLS on has it: the lobby's pod by the route that
the chart makes, coordinators' pods by those that the operator makes. Names lead there by the site's own proxy, which
tunnels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from charting import CHART, settings, tell_helm
from connect_proxy import ConnectProxy
from gateways import ROUTES, Gateway
from lobbying import Site
from muster_wire.trust.bundle import read_bundle
from real_nodes import SYSTEM, Nodes, Object, Team, team, wait_until

DOMAIN = "fl.example.org"
OUTSIDE = {
    "lobby.enabled": True,
    "lobby.address": f"{DOMAIN}:443",
    "lobby.service.type": "ClusterIP",
    "gateway.name": "edge",
    "gateway.domain": DOMAIN,
}
POLICY = """
apiVersion: muster.dev/v1alpha1
kind: SitePolicy
jobs: ["sites/*"]
entrypoints: ["muster.tasks.digits:*"]
limits: {rounds: 5}
"""
BUNDLE = 'go-template={{index .data "bundle.json" | base64decode}}'  # as docs/external.md says it
RESOURCES = {"requests": {"cpu": "50m", "memory": "300Mi"}, "limits": {"cpu": "1", "memory": "2Gi"}}
ROUNDS = 3


@pytest.fixture
def edge(release: Nodes) -> Iterator[Gateway]:
    """The release with a lobby behind a Gateway; as it was afterwards."""
    cluster = release.cluster
    cluster.tell("apply", "-f", "-", manifest=json.dumps(ROUTES))
    cluster.tell("wait", "--for=condition=Established", f"crd/{ROUTES['metadata']['name']}", "--timeout=30s")

    def tell(*arguments: str) -> None:
        tell_helm("-n", SYSTEM, *arguments, "--wait", "--timeout=120s", environment=cluster.environment)

    tell("upgrade", "muster", str(CHART), "--reuse-values", *settings(OUTSIDE))
    try:
        with Gateway(cluster).running() as found:
            yield found
    finally:
        tell("rollback", "muster")
        cluster.tell("delete", "crd", ROUTES["metadata"]["name"])


@pytest.fixture
def lab(release: Nodes) -> Iterator[Team]:
    with team(release, "sites") as found:
        yield found


def pools() -> str:
    cloud = {"type": "Kubernetes", "clients": 2, "workers": {"max": 1, "clientsPerWorker": 2}}
    site = {"type": "External", "clients": 1, "external": {"certificateValidity": "1h"}}
    return yaml.safe_dump_all(
        [
            _object("ClientPool", "cloud", cloud | {"template": {"resources": RESOURCES}}),
            _object("ClientPool", "site", site),
        ]
    )


def job(name: str, total: int = ROUNDS) -> str:
    """One that needs all three clients in every round."""
    spec = {
        "task": {"entrypoint": "muster.tasks.digits:Digits", "config": {"classesPerClient": 4, "width": 8}},
        "pools": [{"name": "cloud"}, {"name": "site"}],
        "rounds": {"total": total, "minUpdates": 3, "deadlineSeconds": 60, "maxFailedRounds": 100},
        "local": {"epochs": 1, "batchSize": 16, "learningRate": 0.02},
        "checkpoint": {"whenDeleted": "Delete"},
    }
    return yaml.safe_dump(_object("FederatedJob", name, spec))


def _object(kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": "muster.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def pool_of(lab: Team, job: str) -> dict[str, Any]:
    """What a job's status says of the site."""
    return next((one for one in lab.status(job).get("pools", []) if one["name"] == "site"), {})


def test_a_site_outside_takes_two_jobs_with_one_bundle_and_refuses_a_third(
    edge: Gateway, lab: Team, tmp_path: Path
) -> None:
    lab.tell("apply", "-f", "-", manifest=pools())
    wait_until(lambda: bool(lab.get("secrets", "-l", "muster.dev/pool=site")["items"]), "there are Secrets")
    wait_until(lambda: "enrolment" in lab.get("clientpool", "site").get("status", {}), "there is a bundle")
    bundle = read_bundle(lab.tell("get", "secret", "site-enrolment", "-o", BUNDLE))
    site = Site(tmp_path / "site", bundle, POLICY)
    with ConnectProxy(edge.address).running() as proxy:
        site.start(https_proxy=f"http://{proxy.address}", no_proxy="")
        try:
            for name in ("first", "second"):
                lab.tell("apply", "-f", "-", manifest=job(name))
                lab.wait(name)
                history = lab.training(name)["history"]
                assert [(one["round"], one["used"]) for one in history if one["round"]] == [(1, 3), (2, 3), (3, 3)]
                site.until("left", job=f"sites/{name}", code=0)
                lab.tell("delete", "fedjob", name)
            lab.tell("apply", "-f", "-", manifest=job("third", total=6))
            wait_until(lambda: pool_of(lab, "third").get("reason") == "RefusedBySite", "the job says so", within_s=90)
            assert "accepted" not in site.events(job="sites/third")
            assert site.stop() == 143
        finally:
            site.close()
    assert [entry["event"] for entry in site.audit()].count("started") == 1
    reached = {DOMAIN, f"first.sites.{DOMAIN}", f"second.sites.{DOMAIN}"}
    assert edge.names == reached
    assert set(proxy.asked) == {f"CONNECT {name}:443 HTTP/1.1" for name in reached}
