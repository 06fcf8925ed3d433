"""The commands of pods, read by the programs that they start; the credentials, used as these use them."""

from __future__ import annotations

import base64
import re
import ssl
import time
from pathlib import Path

import pytest

from muster_cli.worker import settings_of, worker
from muster_coordinator.settings import read_settings
from muster_operator.apply import with_credentials
from muster_operator.objects import Object
from operating import START, Cluster, job_object, pool_object

HOST = "digits-coordinator.lab.svc"


@pytest.fixture
def cluster() -> Cluster:
    found = Cluster(job_object(), pool_object(data={"path": "/data"}))
    found.settle()
    return found


@pytest.fixture
def credentials(cluster: Cluster, tmp_path: Path) -> Path:
    """The Secret as a folder, as the kubelet shows it."""
    secret = with_credentials(cluster.child("Secret", "digits-token"), [HOST], time.time())
    for name, value in secret["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(value))
    return tmp_path


def command(cluster: Cluster, job: str) -> list[str]:
    pod: Object = cluster.child("Job", job)["spec"]["template"]["spec"]
    found: list[str] = pod["containers"][0]["command"]
    return found


def test_the_coordinator_takes_its_command(cluster: Cluster, credentials: Path) -> None:
    [config] = cluster.keys("ConfigMap")
    (credentials / "job.json").write_text(cluster.child("ConfigMap", config)["data"]["job.json"])
    given = [
        re.sub("/etc/muster/(job|token|account)", str(credentials), part)
        for part in command(cluster, "digits-coordinator")
    ]
    assert given[:3] == ["python", "-m", "muster_coordinator"]
    (credentials / "ca.crt").touch()
    settings = read_settings(given[3:], {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"})
    assert settings.account is not None
    assert settings.job.uid == cluster.job["metadata"]["uid"]
    assert settings.security.tls is not None


def test_a_worker_takes_its_command(cluster: Cluster) -> None:
    given = command(cluster, "digits-workers-cloud")
    assert given[:2] == ["muster", "worker"]
    context = worker.make_context("worker", given[2:])
    settings = settings_of(context.params, {"MUSTER_TOKEN": "t" * 32})  # type: ignore[arg-type]
    assert (settings.coordinator, settings.pool, settings.capacity) == (f"{HOST}:443", "cloud", 1)


def test_workers_trust_the_coordinators_certificate_and_no_other(credentials: Path) -> None:
    client = ssl.create_default_context(cadata=(credentials / "ca.crt").read_text())
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(credentials / "tls.crt", credentials / "tls.key")
    handshake(client, server, HOST)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(client, server, "elsewhere.lab.svc")


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> None:
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near, far = client.wrap_bio(down, up, server_hostname=host), server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_no_two_jobs_share_a_secret(cluster: Cluster) -> None:
    secret = cluster.child("Secret", "digits-token")
    first, second = (with_credentials(secret, [HOST], START)["data"] for _ in range(2))
    assert all(first[name] != second[name] for name in first)


def test_a_worker_is_not_shown_the_coordinators_key(cluster: Cluster) -> None:
    pod = cluster.child("Job", "digits-workers-cloud")["spec"]["template"]["spec"]
    [trust] = [volume["secret"] for volume in pod["volumes"] if volume["name"] == "trust"]
    assert trust["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
