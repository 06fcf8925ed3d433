"""External pools: what the operator makes for them, what it says of them, and how jobs use them."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from muster_operator.actions import CreateAuthority, Delete, Issue, PoolBundle
from muster_operator.build.pools import authority_name
from muster_operator.credentials import CERTIFICATE, ISSUED
from muster_operator.keeper import Kept, plan_lobby
from muster_operator.objects import Key, Object, annotation_of, key_of, timestamp
from muster_operator.poolplan import plan_pool
from muster_operator.pools import Lobby, PoolSeen, pool_transitions
from muster_operator.settings import LobbyInstall, read_settings
from muster_wire.trust.authority import SKEW_S
from muster_wire.trust.bundle import Bundle, read_bundle
from muster_wire.trust.certificate import is_issued_by, read_certificate
from operating import START, Cluster, conditions, job_object, pool_object
from sites import ACCOUNT, INSTALL, LOBBY, SiteCluster, outside_cluster, site

DAY_S = 86_400.0
ALL = ["Role/site.lobby", "RoleBinding/site.lobby", "Secret/site-enrolment", "Secret/site.authority"]


@pytest.fixture
def cluster() -> SiteCluster:
    found = SiteCluster(site())
    found.settle()
    return found


def bundle_of(cluster: SiteCluster, name: str = "site-enrolment") -> Bundle:
    data = cluster.objects[Key("Secret", name)]["data"]["bundle.json"]
    return read_bundle(base64.b64decode(data).decode())


def authority_pem(cluster: SiteCluster) -> str:
    return annotation_of(cluster.objects[Key("Secret", "site.authority")], CERTIFICATE)


# --- the pool ---------------------------------------------------------------------------------------------------------


def test_a_pool_gets_its_own_authority_one_bundle_and_the_lobby_its_right(cluster: SiteCluster) -> None:
    assert cluster.names() == ALL
    bundle = bundle_of(cluster)
    assert (bundle.coordinator, bundle.ca, bundle.lobby) == ("fl.example.org:443", "LOBBY PEM", True)
    certificate = read_certificate(bundle.pair.chain)
    assert certificate.identity.uri == "muster-join://uid-of-site/site"
    assert is_issued_by(bundle.pair.chain, authority_pem(cluster).encode())
    role = cluster.objects[Key("Role", "site.lobby")]
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["site.authority"], "verbs": ["get"]}
    ]
    subject = {"kind": "ServiceAccount", "name": "muster-lobby", "namespace": "muster-system"}
    assert cluster.objects[Key("RoleBinding", "site.lobby")]["subjects"] == [subject]
    for each in cluster.objects.values():
        [owner] = each["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"]) == ("ClientPool", "uid-of-site", True)


def test_a_second_look_changes_nothing(cluster: SiteCluster) -> None:
    planned = cluster.plan()
    assert planned.actions == ()
    assert planned.wake_at == START + 20 * DAY_S


@pytest.mark.parametrize("name", ALL)
def test_whatever_is_gone_comes_back(cluster: SiteCluster, name: str) -> None:
    kind, _, rest = name.partition("/")
    before = bundle_of(cluster)
    del cluster.objects[Key(kind, rest)]
    cluster.settle()
    assert cluster.names() == ALL
    is_signed_anew = name in {"Secret/site-enrolment", "Secret/site.authority"}
    assert (bundle_of(cluster) != before) is is_signed_anew
    assert is_issued_by(bundle_of(cluster).pair.chain, authority_pem(cluster).encode())


def test_a_bundle_is_called_as_the_user_says_and_an_older_one_goes() -> None:
    cluster = SiteCluster(site(external={"bundleSecret": "for-the-hospital"}))
    cluster.settle()
    assert "Secret/for-the-hospital" in cluster.names()
    cluster.pool["spec"]["external"]["bundleSecret"] = "for-the-clinic"
    cluster.settle()
    assert "Secret/for-the-clinic" in cluster.names()
    assert "Secret/for-the-hospital" not in cluster.names()


def test_a_bundle_is_good_for_as_long_as_the_user_says_and_renewed_in_time() -> None:
    cluster = SiteCluster(site(external={"bundleValidity": "6d"}))
    cluster.settle()
    first = read_certificate(bundle_of(cluster).pair.chain)
    assert first.not_after - first.not_before - SKEW_S == 6 * DAY_S
    assert cluster.pool["status"]["enrolment"]["expirationTime"] == timestamp(START + 6 * DAY_S)
    cluster.now = START + 4 * DAY_S - 1
    assert cluster.plan().actions == ()
    cluster.now += 1
    [renewal] = cluster.plan().actions
    assert isinstance(renewal, Issue)
    assert renewal.replaces is not None
    cluster.settle()
    second = read_certificate(bundle_of(cluster).pair.chain)
    assert second.serial != first.serial
    assert authority_pem(cluster)
    assert cluster.pool["status"]["enrolment"]["since"] == timestamp(START)  # what was handed out before is still good


def test_the_status_says_how_a_site_gets_in(cluster: SiteCluster) -> None:
    certificate = read_certificate(bundle_of(cluster).pair.chain)
    assert cluster.pool["status"]["enrolment"] == {
        "secretName": "site-enrolment",
        "expirationTime": timestamp(certificate.not_after),
        "certificateAuthority": authority_pem(cluster),
        "since": annotation_of(cluster.objects[Key("Secret", "site.authority")], ISSUED),
    }


def test_another_lobby_is_another_bundle(cluster: SiteCluster) -> None:
    for lobby in (Lobby("other:443", "LOBBY PEM", ACCOUNT), Lobby("other:443", "OTHER PEM", ACCOUNT)):
        cluster.lobby = lobby
        [action] = cluster.plan().actions
        assert isinstance(action, Issue)
        assert action.content == PoolBundle("uid-of-site", "site", lobby.address, lobby.authority)
        cluster.settle()
    assert bundle_of(cluster).ca == "OTHER PEM"


def test_a_lobby_that_is_only_starting_is_waited_for() -> None:
    cluster = SiteCluster(site(), Lobby("fl.example.org:443", "", ACCOUNT))
    planned = cluster.settle()
    assert "Secret/site-enrolment" not in cluster.names()
    assert planned.wake_at == START + 5
    assert cluster.pool["status"]["reason"] == "Enrolling"
    cluster.lobby = LOBBY
    cluster.settle()
    assert cluster.names() == ALL


def test_revoking_takes_all_away_and_letting_in_again_makes_all_anew(cluster: SiteCluster) -> None:
    before = authority_pem(cluster)
    cluster.pool["spec"]["external"] = {"revoked": True}
    planned = cluster.plan()
    assert {str(action.key) for action in planned.actions if isinstance(action, Delete)} == set(ALL)
    cluster.settle()
    assert cluster.names() == []
    status = cluster.pool["status"]
    assert (status["reason"], "enrolment" in status, conditions(status)) == ("Revoked", False, {"Stalled": "Revoked"})
    cluster.now += 3600
    cluster.pool["spec"]["external"] = {"revoked": False}
    cluster.settle()
    assert authority_pem(cluster) != before
    assert cluster.pool["status"]["enrolment"]["since"] == timestamp(START + 3600)


def test_without_a_lobby_nothing_is_made_and_nothing_is_taken_away(cluster: SiteCluster) -> None:
    cluster.lobby = None
    assert cluster.plan().actions == ()
    bare = SiteCluster(site(), None)
    bare.settle()
    assert bare.names() == []
    assert conditions(bare.pool["status"]) == {"Stalled": "NoLobby"}


def test_pools_of_ours_have_nothing_of_the_kind() -> None:
    planned = plan_pool(PoolSeen(pool_object(), ()), LOBBY, START)
    assert planned.actions == ()
    assert planned.wake_at is None
    assert planned.status is not None
    assert "enrolment" not in planned.status


def test_a_pool_that_is_going_is_left_to_the_garbage_collector(cluster: SiteCluster) -> None:
    cluster.pool["metadata"]["deletionTimestamp"] = timestamp(START)
    assert cluster.plan().actions == ()


@pytest.mark.parametrize(
    ("lobby", "reason", "message", "is_ready"),
    [
        (None, "NoWorkers", "nobody of its site is in the lobby at fl.example.org:443", False),
        ({"workers": 0}, "NoWorkers", "nobody of its site", False),
        ({"workers": 3, "waiting": 2, "working": 1}, "WorkersReady", "2 in the lobby, 1 at work", True),
        (
            {"workers": 1, "refusals": [{"job": "a", "uid": "u", "reason": "PrivacyTooWeak", "message": "no noise"}]},
            "RefusedBySite",
            "job a: PrivacyTooWeak: no noise",
            True,
        ),
    ],
)
def test_who_is_there_is_said_at_the_pool(
    cluster: SiteCluster, lobby: Any, reason: str, message: str, is_ready: bool
) -> None:
    cluster.pool["status"]["lobby"] = lobby
    status = cluster.plan().status
    assert status is not None
    assert (status["reason"], message in status["message"], "Ready" in conditions(status)) == (reason, True, is_ready)
    assert "lobby" not in status


def test_events_tell_of_a_revocation_and_of_a_refusal_and_not_of_who_comes_and_goes(cluster: SiteCluster) -> None:
    def told(before: str, after: str) -> list[tuple[str, bool]]:
        seen = PoolSeen(cluster.pool | {"status": {"reason": before}}, ())
        return [(one.reason, one.is_warning) for one in pool_transitions(seen, {"reason": after, "message": "m"})]

    assert told("NoWorkers", "WorkersReady") == []
    assert told("Enrolling", "NoWorkers") == []
    assert told("WorkersReady", "Revoked") == [("Revoked", True)]
    assert told("WorkersReady", "RefusedBySite") == [("RefusedBySite", True)]
    assert told("Revoked", "NoWorkers") == [("NoWorkers", False)]


# --- the lobby's own certificate --------------------------------------------------------------------------------------


def test_the_lobbys_certificate_is_made_renewed_and_follows_its_name() -> None:
    install = LobbyInstall("fl.example.org:443", "muster-lobby", ACCOUNT)
    [first] = plan_lobby(Kept(None, None), install, "ms", START)
    assert isinstance(first, CreateAuthority)
    assert key_of(first.manifest) == Key("Secret", "muster-lobby-authority")
    authority = first.manifest | {"metadata": first.manifest["metadata"] | {"uid": "a-1"}}
    [second] = plan_lobby(Kept(authority, None), install, "ms", START)
    assert isinstance(second, Issue)
    assert second.content.hosts == ("fl.example.org", "muster-lobby.ms", "muster-lobby.ms.svc")  # type: ignore[union-attr]
    server = second.manifest | {"metadata": second.manifest["metadata"] | {"uid": "s-1", "resourceVersion": "7"}}
    assert plan_lobby(Kept(authority, server), install, "ms", START) == []
    for changed in (
        plan_lobby(Kept(authority, server), install, "ms", START + 20 * DAY_S),
        plan_lobby(Kept(authority, server), LobbyInstall("new.org:443", "muster-lobby", ACCOUNT), "ms", START),
    ):
        [again] = changed
        assert isinstance(again, Issue)
        assert again.replaces is not None


def test_where_the_lobby_is_comes_from_the_environment() -> None:
    base = {"MUSTER_COORDINATOR_IMAGE": "c", "MUSTER_WORKER_IMAGE": "w", "MUSTER_LEASE_NAMESPACE": "ms"}
    assert read_settings(base).install.lobby is None
    lobby = {"MUSTER_LOBBY_ADDRESS": "fl.example.org:443", "MUSTER_LOBBY_NAME": "x-lobby"}
    gateway = {"MUSTER_GATEWAY": "edge", "MUSTER_GATEWAY_DOMAIN": "fl.example.org", "MUSTER_GATEWAY_PORT": "8443"}
    install = read_settings(base | lobby | gateway).install
    assert install.lobby is not None
    assert (install.lobby.account.namespace, install.lobby.account.name) == ("ms", "x-lobby")
    assert install.routes is not None
    assert (install.routes.namespace, install.routes.port) == ("ms", 8443)
    for wrong in ({"MUSTER_LOBBY_ADDRESS": "nowhere"}, {"MUSTER_GATEWAY": "edge"}):
        with pytest.raises(Exception, match=next(iter(wrong))):
            read_settings(base | wrong)


# --- jobs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def outside() -> Cluster:
    found = outside_cluster(site(), pool_object())
    found.settle()
    return found


def test_a_job_with_an_external_pool_starts_no_worker_of_it_and_makes_no_bundle(outside: Cluster) -> None:
    assert outside.keys("Job") == ["digits-coordinator", "digits-workers-cloud"]
    assert outside.keys("Secret") == ["digits-authority", "digits-join-cloud", "digits-server"]


def test_its_coordinator_sees_the_pools_authority_without_its_key_and_may_look_at_the_pool(outside: Cluster) -> None:
    pod = outside.child("Job", "digits-coordinator")["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    assert command[command.index("--pool-authorities") + 1] == "/etc/muster/trust/pools"
    [trust] = [volume for volume in pod["volumes"] if volume["name"] == "trust"]
    assert trust["projected"]["sources"][-1] == {
        "secret": {
            "name": authority_name("site"),
            "optional": True,
            "items": [{"key": "ca.crt", "path": "pools/site.crt"}],
        }
    }
    rules = outside.child("Role", "digits-coordinator")["rules"]
    assert rules[-1] == {
        "apiGroups": ["muster.dev"],
        "resources": ["clientpools"],
        "resourceNames": ["site"],
        "verbs": ["get"],
    }
    [policy] = [
        outside.child("NetworkPolicy", name) for name in outside.keys("NetworkPolicy") if name.endswith("coordinator")
    ]
    assert "from" not in policy["spec"]["ingress"][0]


def test_the_coordinator_is_reached_by_name_through_the_gateway(outside: Cluster) -> None:
    route = outside.child("TLSRoute", "digits-coordinator")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["spec"] == {
        "parentRefs": [{"name": "gateway", "namespace": "edge"}],
        "hostnames": ["digits.lab.fl.example.org"],
        "rules": [{"backendRefs": [{"name": "digits-coordinator", "port": 443}]}],
    }
    [server] = [one for one in Cluster.plan(fresh_server(outside)).actions if isinstance(one, Issue)]
    assert "digits.lab.fl.example.org" in server.content.hosts  # type: ignore[union-attr]
    assert outside.job["status"]["pools"][0]["endpoint"] == "digits.lab.fl.example.org:443"


def fresh_server(cluster: Cluster) -> Cluster:
    cluster.objects.pop(Key("Secret", "digits-server"))
    return cluster


def test_an_address_of_the_users_goes_before_the_gateway() -> None:
    cluster = outside_cluster(
        site(trusted=True), coordinator={"service": {"type": "NodePort", "address": "10.0.0.1:30443"}}
    )
    cluster.settle()
    assert cluster.keys("TLSRoute") == []
    assert cluster.job["status"]["pools"][0]["endpoint"] == "10.0.0.1:30443"


def test_a_job_without_external_pools_is_made_as_before() -> None:
    plain, lobby = Cluster(job_object(), pool_object()), Cluster(job_object(), pool_object())
    lobby.install = INSTALL.__class__(INSTALL.coordinator_image, "worker:1", lobby=INSTALL.lobby, routes=INSTALL.routes)
    for each in (plain, lobby):
        each.settle()
    assert plain.objects.keys() == lobby.objects.keys()
    command = lobby.child("Job", "digits-coordinator")["spec"]["template"]["spec"]["containers"][0]["command"]
    assert "--pool-authorities" not in command
    assert "certificateAuthority" not in lobby.job["status"]["coordinator"]


def test_the_status_tells_the_lobby_all_that_an_offer_needs(outside: Cluster) -> None:
    status = outside.job["status"]
    authority = annotation_of(outside.child("Secret", "digits-authority"), CERTIFICATE)
    assert status["coordinator"]["certificateAuthority"] == authority
    entry = status["pools"][0]
    assert (entry["name"], entry["clients"], entry["workersWanted"], entry["image"]) == (
        "site",
        4,
        4,
        "worker@sha256:1",
    )


@pytest.mark.parametrize(
    ("spec", "pools", "install", "reason"),
    [
        ({}, [site()], {"lobby": None}, "NoLobby"),
        ({}, [site()], {"routes": None}, "NoOutsideAddress"),
        (
            {"coordinator": {"service": {"type": "NodePort", "address": "h:1"}}},
            [site(trusted=True)],
            {"routes": None},
            None,
        ),
        ({}, [site(trusted=True)], {}, None),
    ],
)
def test_what_a_job_with_an_external_pool_needs(
    spec: Any, pools: list[Object], install: dict[str, Any], reason: str | None
) -> None:
    cluster = outside_cluster(*pools, **spec)
    cluster.install = INSTALL.__class__(
        INSTALL.coordinator_image,
        INSTALL.worker_image,
        **{"lobby": INSTALL.lobby, "routes": INSTALL.routes} | install,
    )
    cluster.settle()
    assert (cluster.job["status"]["reason"] == reason) is (reason is not None)
    assert bool(cluster.objects) is (reason is None)


def test_an_inline_external_pool_is_for_a_laptop() -> None:
    inline = {"name": "here", "inline": {"type": "External", "clients": 2, "trusted": True}}
    cluster = Cluster(job_object(pools=[inline]))
    cluster.install = INSTALL
    cluster.settle()
    assert cluster.job["status"]["reason"] == "ExternalPoolInline"


@pytest.mark.parametrize(
    ("lobby", "revoked", "connected", "ready", "reason"),
    [
        ({}, False, 0, 0, "NoWorkersInLobby"),
        ({"workers": 1}, False, 0, 0, None),
        ({"workers": 1}, False, 4, 4, None),
        ({}, False, 2, 2, None),
        ({"workers": 1}, True, 2, 2, "PoolRevoked"),
        (
            {"workers": 1, "refusals": [{"uid": "uid-of-digits", "reason": "CodeNotAllowed", "workers": 2}]},
            False,
            0,
            0,
            "RefusedBySite",
        ),
        ({"workers": 1, "refusals": [{"uid": "another", "reason": "CodeNotAllowed"}]}, False, 0, 0, None),
    ],
)
def test_what_keeps_a_site_away_is_said_at_the_job(
    outside: Cluster, lobby: Any, revoked: bool, connected: int, ready: int, reason: str | None
) -> None:
    outside.run()
    pool = outside.pools[0]
    pool["status"] = {"lobby": lobby}
    pool["spec"]["external"] = {"revoked": revoked}
    told = {"clients": {"pools": [{"name": "site", "connected": connected, "total": 4}]}}
    outside.job["status"]["training"] = told
    outside.step()
    entry = outside.job["status"]["pools"][0]
    assert (entry["workersReady"], entry.get("reason")) == (ready, reason)
    if reason:
        assert outside.job["status"]["phase"] == "Running"  # the other pool goes on
        assert outside.job["status"]["reason"] == (reason if ready < 4 else "Running")


def test_a_pool_that_was_made_anew_is_another(outside: Cluster) -> None:
    outside.run()
    outside.pools[0]["metadata"]["uid"] = "another"
    outside.step()
    assert outside.job["status"]["pools"][0]["reason"] == "PoolGone"


def test_revoking_is_no_drift(outside: Cluster) -> None:
    outside.pools[0]["status"] = {"lobby": {"workers": 1}}
    outside.pools[0]["spec"]["external"] = {"certificateValidity": "1h", "revoked": False}
    outside.step()
    assert "reason" not in outside.job["status"]["pools"][0]


def test_the_date_of_an_authority_is_the_operators(outside: Cluster) -> None:
    assert annotation_of(outside.child("Secret", "digits-authority"), ISSUED) == timestamp(START)
