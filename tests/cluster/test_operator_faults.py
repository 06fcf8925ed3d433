"""Two operators at once, and one that loses its lease: one of them works, and no other."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from operator_runs import Kubectl, Lab, wait_until

PARTS = 13  # children of a job with one pool


@pytest.fixture
def lab(crds: Kubectl, namespace: str, tmp_path: Path) -> Lab:
    return Lab(crds, namespace, tmp_path)


def test_of_two_operators_one_works_and_the_other_takes_over(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = Lab(lab.cluster, lab.namespace, tmp_path / "second")
    with lab.operator():
        lab.apply()
        wait_until(lambda: len(lab.children()) == PARTS, "all parts are there")
        waiting = second.start("--identity", "second")
        time.sleep(3)
        lab.patch({"spec": {"suspend": True}})
        wait_until(lambda: lab.status().get("phase") == "Suspended", "the first acts")
        assert held_by(lab) == "the-operator-of-this-test"
        assert second.requests() == []
    try:
        lab.patch({"spec": {"suspend": False}})
        wait_until(lambda: lab.status().get("phase") != "Suspended", "the second has taken over")
        assert held_by(lab) == "second"
        assert second.requests() != []
    finally:
        waiting.send_signal(signal.SIGTERM)
        assert waiting.wait(15) == 0


def test_an_operator_that_loses_its_lease_leaves(lab: Lab) -> None:
    process = lab.start()
    try:
        wait_until(lambda: held_by(lab) == "the-operator-of-this-test", "it holds the lease")
        stolen = {"spec": {"holderIdentity": "a-thief", "renewTime": "2999-01-01T00:00:00.000000Z"}}
        lab.patch(stolen, "lease/muster-operator")
        assert process.wait(30) == 1
        assert held_by(lab) == "a-thief"
    finally:
        process.kill()


def held_by(lab: Lab) -> str:
    found = lab.cluster.kubectl(
        "-n", lab.namespace, "get", "lease/muster-operator", "-o", "jsonpath={.spec.holderIdentity}"
    )
    return found.stdout
