"""A ClientPool's status against a real API server: columns, conditions, Events, and that it comes to rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from operator_runs import MANIFEST, Kubectl, Lab, wait_until


@pytest.fixture
def lab(crds: Kubectl, namespace: str, tmp_path: Path) -> Lab:
    return Lab(crds, namespace, tmp_path)


def pool(lab: Lab) -> dict[str, object]:
    found: dict[str, object] = lab.get("clientpool", "cloud").get("status", {})
    return found


def test_a_pool_tells_who_works_for_its_clients(lab: Lab) -> None:
    with lab.operator():
        lab.apply(MANIFEST.partition("---")[0])
        lab.tell("wait", "--for=condition=Ready", "clientpool/cloud", "--timeout=20s")
        assert pool(lab)["reason"] == "Idle"
        lab.apply(MANIFEST)
        lab.run_all()
        wait_until(lambda: pool(lab).get("reason") == "WorkersReady", "the workers are there")
        assert lab.tell("get", "cpool").split()[:5] == ["NAME", "TYPE", "CLIENTS", "WORKERS", "JOBS"]
        assert lab.tell("get", "cpool").splitlines()[1].split()[:5] == ["cloud", "Kubernetes", "2", "2/2", "1"]
        lab.settle()
        before = len(lab.requests())
        lab.tell("annotate", "clientpool/cloud", "look=again")
        lab.settle(3)
        assert lab.requests()[before:] == []
        lab.tell("delete", "fedjob/digits", "--wait=false")
        wait_until(lambda: pool(lab).get("reason") == "Idle", "nobody uses it any more")


def test_trouble_and_its_end_are_told_at_the_pool_too(lab: Lab) -> None:
    with lab.operator():
        lab.apply()
        wait_until(lambda: pool(lab).get("reason") == "Unschedulable", "it is told that no node fits")
        lab.run_all()
        wait_until(lambda: pool(lab).get("reason") == "WorkersReady", "the workers are there")
        events = lab.get("events", "--field-selector", "involvedObject.kind=ClientPool")["items"]
        first, *rest = sorted(events, key=lambda one: str(one["firstTimestamp"]))
        assert (first["reason"], first["type"]) == ("Unschedulable", "Warning")
        assert {one["type"] for one in rest} == {"Normal"}
