"""The commands of pods, read by the programs that they start; the credentials, used as these use them."""

from __future__ import annotations

import dataclasses
import ssl
import time
from pathlib import Path

import pytest

from mounted import Kubelet
from muster.worker import Join
from muster_cli.worker import settings_of, worker
from muster_coordinator.settings import read_settings
from muster_coordinator.tls import read_authority
from muster_wire.trust.bundle import read_bundle
from muster_wire.trust.certificate import read_certificate
from muster_wire.trust.identity import Role
from operating import INSTALL, Cluster, job_object, pool_object

HOST = "digits-coordinator.lab.svc"


@pytest.fixture
def cluster() -> Cluster:
    found = Cluster(job_object(), pool_object(data={"path": "/data"}))
    found.now = time.time()
    found.settle()
    return found


@pytest.fixture
def kubelet(cluster: Cluster, tmp_path: Path) -> Kubelet:
    return Kubelet(cluster, tmp_path)


def test_the_coordinator_takes_its_command(cluster: Cluster, kubelet: Kubelet) -> None:
    given = kubelet.command("digits-coordinator")
    assert given[:3] == ["python", "-m", "muster_coordinator"]
    settings = read_settings(given[3:], {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"})
    assert settings.account is not None
    assert settings.job.uid == cluster.job["metadata"]["uid"]
    assert settings.security.is_mutual
    assert settings.security.token is None
    assert settings.security.enrolment
    assert read_authority(settings.security.enrolment).key_pem


def test_the_operator_says_how_long_a_workers_certificate_holds(tmp_path: Path) -> None:
    cluster = Cluster(job_object(), pool_object(data={"path": "/data"}))
    cluster.install = dataclasses.replace(INSTALL, worker_certificate_minutes=7)
    cluster.now = time.time()
    cluster.settle()
    given = Kubelet(cluster, tmp_path).command("digits-coordinator")
    account = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    enrolment = read_settings(given[3:], account).security.enrolment
    assert enrolment
    assert enrolment.valid_s == 7 * 60


def test_a_worker_takes_its_command(kubelet: Kubelet) -> None:
    given = kubelet.command("digits-workers-cloud")
    assert given[:2] == ["muster", "worker"]
    context = worker.make_context("worker", given[2:])
    settings = settings_of(context.params, {})  # type: ignore[arg-type]
    assert (settings.coordinator, settings.pool) == (f"{HOST}:443", "cloud")
    assert (settings.capacity, settings.share) == (6, 1)
    assert isinstance(settings.security, Join)
    assert settings.security.file


def test_a_bundle_is_for_its_pool_of_this_job_and_may_only_enrol(cluster: Cluster, kubelet: Kubelet) -> None:
    bundle = read_bundle((kubelet.folder("digits-workers-cloud", "trust") / "bundle.json").read_text())
    certificate = read_certificate(bundle.pair.chain)
    assert certificate.identity.role is Role.JOINER
    assert (certificate.identity.realm, certificate.identity.pool) == (cluster.job["metadata"]["uid"], "cloud")
    assert bundle.coordinator == f"{HOST}:443"
    assert certificate.not_after == pytest.approx(cluster.now + 30 * 86_400, abs=1)


def test_workers_trust_the_coordinators_certificate_and_no_other(kubelet: Kubelet) -> None:
    bundle = read_bundle((kubelet.folder("digits-workers-cloud", "trust") / "bundle.json").read_text())
    trust = kubelet.folder("digits-coordinator", "trust")
    client = ssl.create_default_context(cadata=bundle.ca)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(trust / "tls.crt", trust / "tls.key")
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


def test_no_two_secrets_share_a_key_and_no_two_jobs_do(cluster: Cluster) -> None:
    other = Cluster(job_object(), pool_object())
    other.settle()
    values = [value for one in (cluster, other) for name in one.keys("Secret") for value in content(one, name).values()]
    assert len(values) == len(set(values)) == 10


def content(cluster: Cluster, name: str) -> dict[str, str]:
    found: dict[str, str] = cluster.child("Secret", name)["data"]
    return found
