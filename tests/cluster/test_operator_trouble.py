"""The operator while its API server is in trouble: it works again within a minute after, and has said what it was.

An operator that leaves, because its lease can't be renewed, is started again as a kubelet does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from charting import Kubectl, own_namespace
from clusters import ControlPlane, own_control_plane
from muster_operator.lease import GIVE_UP_S
from operator_runs import Lab, wait_until

PARTS = 13  # children of a job with one pool
PROXY = Path(__file__).parent / "troubled_api.py"


@contextmanager
def kept_running(lab: Lab) -> Iterator[list[int]]:
    """An operator, started again whenever it leaves. The exit codes so far."""
    codes: list[int] = []
    running = [lab.start()]
    is_over = threading.Event()

    def keep() -> None:
        while True:
            code = running[-1].wait()
            if is_over.wait(1):
                return
            codes.append(code)
            running.append(lab.start())

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield codes
    finally:
        is_over.set()
        running[-1].terminate()
        keeper.join(30)
        running[-1].kill()


@contextmanager
def troubled(lab: Lab) -> Iterator[Path]:
    """The lab's operator reaches its API server through the proxy from now on. The file that says what it does."""
    trouble = lab.folder / "trouble"
    proxy = subprocess.Popen(
        [sys.executable, str(PROXY), str(trouble)],
        env={**os.environ, **lab.cluster.environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert proxy.stdout is not None
        port = int(proxy.stdout.readline())
        whole = json.loads(lab.kubeconfig.read_text())
        whole["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
        lab.kubeconfig.write_text(json.dumps(whole))
        yield trouble
    finally:
        proxy.kill()
        proxy.wait()
        assert proxy.stdout is not None
        proxy.stdout.close()


@pytest.fixture
def lab(crds: Kubectl, namespace: str, tmp_path: Path) -> Lab:
    return Lab(crds, namespace, tmp_path)


def said(lab: Lab) -> str:
    return (lab.folder / "operator.log").read_text()


def begin(lab: Lab) -> None:
    lab.apply()
    wait_until(lambda: len(lab.children()) == PARTS and bool(lab.status()), "all parts are there", within_s=60)
    lab.settle()


def recovers(lab: Lab) -> None:
    wait_until(lambda: lab.status().get("phase") == "Suspended", "it acts again", within_s=60)
    lab.patch({"spec": {"suspend": False}})
    wait_until(lambda: lab.status().get("phase") != "Suspended", "and goes on acting", within_s=60)
    assert len(lab.children()) == PARTS


@pytest.mark.parametrize(
    ("kind", "lasts_s", "word"),
    [
        ("busy", 6, "429 TooManyRequests"),  # with the renewals before and after it less than the lease is given
        ("busy", 45, "429 TooManyRequests: made by a test"),  # more than that
        ("conflicts", 12, "409 Conflict: made by a test"),
        ("away", 35, "the lease couldn't be renewed"),
    ],
)
def test_it_recovers_from(lab: Lab, kind: str, lasts_s: int, word: str) -> None:
    with troubled(lab) as trouble, kept_running(lab) as codes:
        begin(lab)
        trouble.write_text(kind)
        lab.patch({"spec": {"suspend": True}})
        time.sleep(lasts_s)
        assert lab.status().get("phase") != "Suspended"  # the trouble was there
        assert word in said(lab)
        trouble.unlink()
        recovers(lab)
    assert codes == ([1] if lasts_s > GIVE_UP_S else [])
    assert ("the lease couldn't be renewed" in said(lab)) is (lasts_s > GIVE_UP_S)


def test_a_watch_that_stalls_is_opened_anew(lab: Lab) -> None:
    with troubled(lab) as trouble, kept_running(lab) as codes:
        begin(lab)
        trouble.write_text("stalled")
        time.sleep(1)
        lab.patch({"spec": {"suspend": True}})
        recovers(lab)
        assert "had stalled or was refused: opened anew" in said(lab)
    assert codes == []


def test_an_expired_token_is_waited_out(lab: Lab) -> None:
    token = lab.folder / f"{lab.namespace}.token"
    with kept_running(lab) as codes:
        begin(lab)
        good = token.read_text()
        token.write_text(good[:-8] + "expired!")
        lab.patch({"spec": {"suspend": True}})
        time.sleep(12)
        assert lab.status().get("phase") != "Suspended"
        assert "401" in said(lab)
        token.write_text(good)
        recovers(lab)
    assert codes == []


# --- parts of the control plane, killed: this needs a cluster of its own ----------------------------------------------


@pytest.fixture(scope="module")
def own_cluster() -> Iterator[ControlPlane]:
    with own_control_plane(f"trouble-{os.getpid()}") as cluster:
        yield cluster


@pytest.mark.parametrize("part", ["kube-apiserver", "etcd"])
def test_it_recovers_when_a_part_of_the_control_plane_was_killed(
    own_cluster: ControlPlane, part: str, tmp_path: Path
) -> None:
    with own_namespace(own_cluster) as namespace:
        lab = Lab(own_cluster, namespace, tmp_path)
        with kept_running(lab):
            begin(lab)
            own_cluster.kill(part)
            # Without its etcd an API server lets requests wait: one has to give up before there is a word to say.
            wait_until(lambda: "can't be renewed" in said(lab) or "will retry" in said(lab), "it says what happened")
            own_cluster.up()
            lab.patch({"spec": {"suspend": True}})
            recovers(lab)
