"""When a job's certificates are made and renewed, by an injected clock."""

from __future__ import annotations

import pytest

from muster_operator.actions import CreateAuthority, Issue, JoinBundle, ServerCertificate
from muster_operator.credentials import CREDENTIAL_S, EXPIRES, ISSUED, SUBMITTED_S
from muster_operator.errors import ApiError
from muster_operator.issuing import read_authority
from muster_operator.objects import Key, annotation_of, timestamp
from operating import START, Cluster, job_object, pool_object

DUE_S = CREDENTIAL_S * 2 / 3
SERVER, JOIN, AUTHORITY = "digits-server", "digits-join-cloud", "digits-authority"


@pytest.fixture
def cluster() -> Cluster:
    found = Cluster(job_object(), pool_object())
    found.run()
    return found


def test_a_secret_says_from_when_to_when_it_holds(cluster: Cluster) -> None:
    for name in (SERVER, JOIN):
        secret = cluster.child("Secret", name)
        assert annotation_of(secret, ISSUED) == timestamp(START)
        assert annotation_of(secret, EXPIRES) == timestamp(START + CREDENTIAL_S)


def test_what_a_batch_job_is_submitted_with_holds_for_as_long_as_it_may_wait_and_run() -> None:
    slurm = {"url": "https://slurm", "auth": {"user": "fl", "tokenSecret": {"name": "site", "key": "token"}}}
    reached = {"service": {"address": "fl.example.org:8443"}}
    cluster = Cluster(
        job_object(pools=("hpc",), coordinator=reached), pool_object("hpc", type="Slurm", clients=4, slurm=slurm)
    )
    cluster.settle()
    until = {name: annotation_of(cluster.child("Secret", name), EXPIRES) for name in (SERVER, "digits-join-hpc")}
    assert until == {
        SERVER: timestamp(cluster.now + CREDENTIAL_S),
        "digits-join-hpc": timestamp(cluster.now + SUBMITTED_S),
    }
    cluster.now += DUE_S
    assert [one.manifest["metadata"]["name"] for one in cluster.plan().actions if isinstance(one, Issue)] == [SERVER]


@pytest.mark.parametrize(("later_s", "renewed"), [(0.0, False), (DUE_S - 1, False), (DUE_S, True), (99 * DUE_S, True)])
def test_it_is_renewed_when_two_thirds_of_its_life_are_over(cluster: Cluster, later_s: float, renewed: bool) -> None:
    cluster.now += later_s
    actions = cluster.plan().actions
    assert [type(one) for one in actions] == ([Issue, Issue] if renewed else [])


def test_the_next_look_is_at_the_next_renewal(cluster: Cluster) -> None:
    assert cluster.plan().wake_at == START + DUE_S
    cluster.now += DUE_S
    assert cluster.settle().wake_at == START + 2 * DUE_S


def test_a_time_limit_that_comes_first_is_looked_at_first() -> None:
    cluster = Cluster(job_object(runPolicy={"activeDeadlineSeconds": 600}), pool_object())
    cluster.run()
    assert cluster.plan().wake_at == START + 600


def test_a_renewal_replaces_exactly_what_was_seen_and_touches_no_job(cluster: Cluster) -> None:
    cluster.child("Secret", SERVER)["metadata"]["resourceVersion"] = "7"
    jobs = {name: cluster.child("Job", name) for name in cluster.keys("Job")}
    before = cluster.child("Secret", SERVER)
    cluster.now += DUE_S
    [server] = [
        one for one in cluster.plan().actions if isinstance(one, Issue) and one.manifest["metadata"]["name"] == SERVER
    ]
    assert server.replaces is not None
    assert (server.replaces.uid, server.replaces.resource_version) == (before["metadata"]["uid"], "7")
    cluster.settle()
    assert cluster.child("Secret", SERVER)["data"] != before["data"]
    assert {name: cluster.child("Job", name) for name in cluster.keys("Job")} == jobs


def test_what_is_signed_for_whom(cluster: Cluster) -> None:
    cluster.now += DUE_S
    contents = [one.content for one in cluster.plan().actions if isinstance(one, Issue)]
    host = "digits-coordinator.lab.svc"
    names = ("digits-coordinator", "digits-coordinator.lab", host, f"{host}.cluster.local")
    assert contents == [ServerCertificate(names), JoinBundle("uid-of-digits", "cloud", f"{host}:443")]


def test_what_the_user_calls_the_coordinator_is_in_its_certificate() -> None:
    cluster = Cluster(job_object(coordinator={"service": {"address": "fl.example.org:8443"}}), pool_object())
    cluster.step()
    [server] = [one.content for one in cluster.plan().actions if isinstance(one, Issue)][:1]
    assert isinstance(server, ServerCertificate)
    assert "fl.example.org" in server.hosts


@pytest.mark.parametrize("annotation", [ISSUED, EXPIRES])
def test_a_secret_that_no_longer_says_its_dates_is_renewed(cluster: Cluster, annotation: str) -> None:
    del cluster.child("Secret", JOIN)["metadata"]["annotations"][annotation]
    assert [one.manifest["metadata"]["name"] for one in cluster.plan().actions if isinstance(one, Issue)] == [JOIN]


def test_each_secret_comes_back_without_disturbing_the_others(cluster: Cluster) -> None:
    for name in (SERVER, JOIN):
        kept = {other: cluster.child("Secret", other)["data"] for other in cluster.keys("Secret") if other != name}
        jobs = {job: cluster.child("Job", job)["metadata"]["uid"] for job in cluster.keys("Job")}
        cluster.remove(Key("Secret", name))
        cluster.settle()
        assert {other: cluster.child("Secret", other)["data"] for other in kept} == kept
        assert {job: cluster.child("Job", job)["metadata"]["uid"] for job in jobs} == jobs


def test_an_authority_on_its_way_out_is_waited_for(cluster: Cluster) -> None:
    cluster.child("Secret", AUTHORITY)["metadata"]["deletionTimestamp"] = timestamp(START)
    assert cluster.plan().actions == ()
    cluster.remove(Key("Secret", AUTHORITY))
    assert [type(one) for one in cluster.plan().actions] == [CreateAuthority]


def test_a_job_that_is_over_renews_nothing(cluster: Cluster) -> None:
    cluster.say("digits-coordinator", conditions=[{"type": "Complete", "status": "True"}])
    cluster.settle()
    cluster.now += 2 * CREDENTIAL_S
    assert cluster.plan().actions == ()


def test_a_suspended_job_resumes_with_certificates_that_hold(cluster: Cluster) -> None:
    cluster.suspend()
    cluster.job["spec"]["suspend"] = False
    cluster.now += 2 * CREDENTIAL_S
    kinds = [type(one).__name__ for one in cluster.plan().actions]
    assert kinds.index("Issue") < kinds.index("Patch")


@pytest.mark.parametrize("data", [{}, {"ca.crt": "!", "ca.key": "!"}, {"ca.crt": "eA==", "ca.key": "eA=="}])
def test_an_authority_that_is_none_is_told_of(data: dict[str, str]) -> None:
    with pytest.raises(ApiError, match="delete it, and the job starts with a new one") as told:
        read_authority(Key("Secret", AUTHORITY), {"data": data})
    assert told.value.status == 422
