"""A site's worker, a lobby and coordinators as real processes: what is taken, refused, cut off and revoked."""

import time
from contextlib import ExitStack

import grpc
import pytest

from coordinating import coordinator, errors_of
from fakes.api_server import FakeApiServer
from lobbying import POOL, Job, PoolTrust, Site, lobby, wait_until
from muster_wire.trust.authority import SKEW_S
from muster_wire.trust.certificate import read_certificate
from proxying import Proxy
from trusting import Caller, refusal

pytestmark = pytest.mark.timeout(240)
Code = grpc.StatusCode


@pytest.fixture
def world(tmp_path):
    """A lobby with one External pool, and a proxy in front of it."""
    with ExitStack() as stack:
        api, pool = FakeApiServer(), PoolTrust()
        kubeconfig = stack.enter_context(api.running(tmp_path))
        for value in pool.objects():
            api.put(value)
        running, address = stack.enter_context(lobby(tmp_path / "lobby", kubeconfig))
        proxy = stack.enter_context(Proxy(address))
        yield api, pool, running, proxy, stack


def site_of(world, folder, **settings):
    _, pool, running, proxy, stack = world
    site = Site(folder / "site", pool.bundle(proxy.address, running.trust.authority.pem), **settings)
    stack.callback(site.close)
    return site


def start(world, folder, name, **spec):
    """A job whose coordinator runs, and which the operator has told of."""
    api, pool, _, _, stack = world
    job = Job(folder / name, name, pool, **spec)
    running = stack.enter_context(coordinator(job.folder, job.file, security=job.security))
    way = stack.enter_context(Proxy(running.address))
    api.put(job.object(way.address))
    return job, running, way


def end(world, job, running):
    assert running.wait(60) == 0, errors_of(job.folder)
    world[0].change("FederatedJob", job.name, status={"phase": "Complete"})


def lobby_status(world):
    return world[0].get("ClientPool", POOL).get("status", {}).get("lobby", {})


def test_two_jobs_with_one_bundle_and_a_third_that_the_policy_forbids(tmp_path, world):
    site = site_of(world, tmp_path)
    site.start()
    for name in ("first", "second"):
        job, running, _ = start(world, tmp_path, name)
        end(world, job, running)
        site.until("left", job=f"lab/{name}", code=0)
        assert [event["used"] for event in running.of("committed") if event["round"]] == [1, 1]
    third = Job(tmp_path / "third", "third", world[1], entrypoint="another.hospitals:Net")
    world[0].put(third.object("127.0.0.1:1"))
    site.until("refused", job="lab/third", because="EntrypointNotAllowed")
    wait_until(lambda: bool(lobby_status(world).get("refusals")), "the pool's status tells of the refusal")
    [told] = lobby_status(world)["refusals"]
    assert (told["job"], told["reason"], told["workers"]) == ("third", "EntrypointNotAllowed", 1)
    assert "another.hospitals:Net is not among those that this site runs" in told["message"]
    assert lobby_status(world) | {"refusals": []} == {"workers": 1, "waiting": 1, "working": 0, "refusals": []}
    assert "accepted" not in site.events(job="lab/third")
    assert site.stop() == 143
    serials = [entry for entry in site.audit() if entry["event"] == "started"]
    assert len(serials) == 1
    sent = [
        entry for entry in site.audit() if entry["event"] == "sends" and entry["job"] == "first" and "bytes" in entry
    ]
    assert [entry["round"] for entry in sent] == [0, 1, 2]
    assert all(entry["bytes"] > 0 and len(entry["checksum"]) == 32 for entry in sent)


def test_cut_off_for_a_minute_in_mid_job_and_in_the_lobby_a_site_comes_back(tmp_path, world):
    *_, lobby_way, _ = world
    site = site_of(world, tmp_path)
    site.start()
    job, running, way = start(world, tmp_path, "first", task={"entrypoint": "small:Small", "config": {"seconds": 1.0}})
    running.until("committed", 60, round=1)
    assert way.go_down() >= 1
    assert lobby_way.go_down() >= 1
    running.until("lost", 30)
    site.until("cut off from the lobby")
    wait_until(lambda: way.turned_away > 0 and lobby_way.turned_away > 0, "it tries to come back")
    time.sleep(60)
    way.come_back()
    lobby_way.come_back()
    end(world, job, running)
    site.until("left", job="lab/first", code=0)
    committed = [(event["round"], event["used"]) for event in running.of("committed") if event["round"]]
    assert committed == [(1, 1), (2, 1)]
    assert site.events(job="lab/first").count("accepted") == 1  # the same visit
    wait_until(lambda: site.events().count("in the lobby") == 2, "it is in the lobby again")
    again, running, _ = start(world, tmp_path, "second")
    end(world, again, running)
    site.until("left", job="lab/second", code=0)
    assert site.stop() == 143


def test_a_revoked_bundle_is_refused_on_the_next_call_of_the_same_connection(world):
    api, pool, running, proxy, _ = world
    bundle = pool.bundle(proxy.address, running.trust.authority.pem)
    credentials = grpc.ssl_channel_credentials(bundle.ca.encode(), bundle.pair.key, bundle.pair.chain)
    with Caller(proxy.address, credentials) as caller:
        _, reply = caller.enrol()
        certificate = read_certificate(reply.chain)
        assert certificate.identity.uri == f"muster://{pool.uid}/{pool.name}"
        assert certificate.not_after - certificate.not_before - SKEW_S == 3600  # the pool's certificateValidity
        assert certificate.origin == read_certificate(bundle.pair.chain).serial
        api.change("ClientPool", POOL, spec={"external": {"revoked": True}})
        wait_until(lambda: refused_with(caller), "the next call is refused")
        code, words = refusal(caller.enrol)
        assert (code, "has been revoked" in words) == (Code.PERMISSION_DENIED, True)
        assert proxy.connections == 1


def refused_with(caller):
    try:
        caller.enrol()
    except grpc.RpcError as error:
        return error.code() is Code.PERMISSION_DENIED
    return False


def test_revoking_a_pool_ends_its_worker_at_the_lobby_and_at_the_coordinator(tmp_path, world):
    api, pool, *_ = world
    site = site_of(world, tmp_path)
    process = site.start()
    job, running, way = start(world, tmp_path, "first", task={"entrypoint": "small:Small", "config": {"seconds": 1.0}})
    running.until("joined", 60)
    wait_until(lambda: way.connections >= 2, "it works over one connection")  # the first one was for enrolling
    job.trust.denied.write_text(f"muster://{pool.uid}/{pool.name}\n")
    api.change("ClientPool", POOL, spec={"external": {"revoked": True}})
    site.until("left", job="lab/first", code=2)
    assert process.wait(60) == 2
    log = site.log.read_text()
    assert log.count("has been revoked") >= 2, log
    assert site.events()[-1] == "stopped"
    assert site.events(job="lab/first")[-1] == "left"
