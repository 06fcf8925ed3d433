"""The operator killed at each of its requests, and two operators at once: nothing is missing, nothing is there twice.

The process kills itself with SIGKILL, in the client, right before or right after the request; each test asserts that
it did before it asserts anything else.
"""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from operator_runs import Kubectl, Lab, wait_until

PARTS = 13  # children of a job with one pool


@pytest.fixture
def lab(crds: Kubectl, namespace: str, tmp_path: Path) -> Lab:
    return Lab(crds, namespace, tmp_path)


@pytest.mark.timeout(600, func_only=True)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_at_any_request_it_neither_loses_nor_doubles_a_child(lab: Lab, moment: str) -> None:
    with lab.operator():
        lab.apply()
        wait_until(lambda: len(lab.children()) == PARTS, "all parts are there")
    complete = {unsuffixed(child) for child in lab.children()}
    deaths = 0
    while starts_and_dies(lab, moment, deaths + 1):
        deaths += 1
        lab.log.unlink()
        with lab.operator():
            wait_until(lambda: len(lab.children()) >= PARTS, f"all parts are there after death {deaths}")
            lab.settle(0.5)
        assert {unsuffixed(child) for child in lab.children()} == complete
        assert len(lab.children()) == PARTS
    assert deaths >= PARTS  # one request for each child at least, and the status


def starts_and_dies(lab: Lab, moment: str, number: int) -> bool:
    """Whether the operator died at that request of a job's start; False if there are fewer requests than that."""
    lab.tell("delete", "fedjobs,pvc", "--all", "--wait=false")
    wait_until(lambda: not lab.children(), "the last job is gone")
    lab.log.unlink(missing_ok=True)
    lab.apply()
    doomed = lab.start("--die", moment, str(number))
    try:
        wait_until(lambda: doomed.poll() is not None or len(lab.children()) == PARTS, "it died, or is done")
        code = doomed.wait(3)
    except subprocess.TimeoutExpired:
        return False
    finally:
        doomed.kill()
        doomed.wait()
    assert code == -signal.SIGKILL
    assert lab.has_died()
    return True


def unsuffixed(child: str) -> str:
    """Without the digests of names."""
    return child.rpartition("-")[0] if child.startswith(("ConfigMap", "PersistentVolumeClaim")) else child


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
