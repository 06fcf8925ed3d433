"""A site behind a proxy: through one that tunnels it gets, through one that opens TLS it doesn't, and says why."""

from contextlib import ExitStack

import pytest

from connect_proxy import ConnectProxy
from fakes.api_server import FakeApiServer
from lobbying import NAME, PoolTrust, Site, lobby, wait_until
from proxying import Proxy, Weather
from trusting import Trust

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def world(tmp_path):
    with ExitStack() as stack:
        api, pool = FakeApiServer(), PoolTrust()
        kubeconfig = stack.enter_context(api.running(tmp_path))
        for value in pool.objects():
            api.put(value)
        running, address = stack.enter_context(lobby(tmp_path / "lobby", kubeconfig))
        site = Site(tmp_path / "site", pool.bundle(f"{NAME}:443", running.trust.authority.pem))
        stack.callback(site.close)
        yield site, address, stack


def test_a_tunnel_leads_to_the_lobby_and_learns_a_name(world):
    site, address, stack = world
    proxy = stack.enter_context(ConnectProxy(address).running())
    site.start(https_proxy=f"http://user:secret@{proxy.address}", no_proxy="")
    site.until("in the lobby")
    assert set(proxy.asked) == {f"CONNECT {NAME}:443 HTTP/1.1"}
    assert proxy.credentials[0] == "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ="  # user:secret
    assert site.stop() == 143


def test_a_proxy_that_opens_tls_is_told_from_the_lobby(world, tmp_path):
    site, address, stack = world
    (tmp_path / "theirs").mkdir()
    theirs = Trust(tmp_path / "theirs")
    theirs.issue_server((NAME,))
    proxy = stack.enter_context(ConnectProxy(address, (theirs.cert, theirs.key)).running())
    site.start(https_proxy=f"http://{proxy.address}", no_proxy="")
    wait_until(lambda: proxy.inspected > 0, "the proxy opens it")
    wait_until(lambda: "another authority made its certificate" in site.log.read_text(), "the worker says so")
    assert "in the lobby" not in site.events()
    assert site.stop() == 143


def test_a_way_that_is_long_is_waited_for(world):
    site, address, stack = world
    way = stack.enter_context(Proxy(address, forecast=lambda *_: Weather(delay_s=0.4)))
    proxy = stack.enter_context(ConnectProxy(way.address).running())
    site.start(https_proxy=f"http://{proxy.address}", no_proxy="")
    site.until("in the lobby")
    assert site.stop() == 143
