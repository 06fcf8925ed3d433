"""The bridge at a site of 100,000 jobs, and slurmrestd behind TLS: a stub answers as the real one was recorded to."""

import signal
import ssl
import sys
import time
from pathlib import Path

import pytest

from muster_slurm.errors import Unreachable
from muster_slurm.rest import Rest, Site
from muster_wire.trust.authority import make_authority
from slurming import NoSlurm, bridging, by_stub, manifest
from slurms.stub import Stub, serving

FOREIGN = 100_000
MEMORY_MB = 150


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux tells it")
def test_500_clients_among_100_000_foreign_jobs(tmp_path):
    stub = Stub(FOREIGN)
    with (
        serving(stub) as url,
        bridging(NoSlurm, tmp_path, manifest(tmp_path, by_stub(url, tmp_path), clients=500)) as bridge,
    ):
        bridge.until("queue", "500 running", within_s=240)
        bridge.until("queue", "500 running")
        peak = peak_of(bridge.process.pid)
        assert bridge.close()[0] == 0
    assert len(bridge.submissions()) == 1  # 500 workers are one array
    listings = sum(call.endswith("/jobs") for call in stub.calls)
    others = [call for call in stub.calls if not call.endswith("/jobs")]
    assert len(others) <= 2 + listings  # one negotiation, one submission, and a cancellation a look at the end
    assert peak < MEMORY_MB * 1024 * 1024, f"{peak / 1e6:.0f} MB"


@pytest.mark.parametrize(("options", "code"), [(("--alone",), 143), ((), 0)])
def test_a_pods_bridge_that_is_told_to_go_leaves_its_work_to_another(tmp_path, options, code):
    stub = Stub(0)
    with serving(stub) as url, bridging(NoSlurm, tmp_path, stub_manifest(tmp_path, url, 2), *options) as bridge:
        bridge.until("queue", "2 running")
        for _ in range(2):  # whoever is impatient says it again
            bridge.process.send_signal(signal.SIGTERM)
        assert bridge.close()[0] == code
    assert stub.ours is None  # cancelled


def peak_of(pid):
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def test_the_token_is_read_again_for_each_request():
    stub, tokens = Stub(0), iter(["first", "second", "third"])
    with serving(stub) as url:
        rest = Rest(Site(url, "fl"), lambda: next(tokens))
        rest.list_jobs("x")
        rest.list_jobs("x")
    assert stub.tokens == ["first", "second", "third"]


def test_the_sites_authority_is_who_vouches_for_slurmrestd(tmp_path):
    ours, other = (make_authority(name, time.time()) for name in ("site", "other"))
    pair = ours.issue_server(["127.0.0.1"], time.time())
    (tmp_path / "chain.pem").write_bytes(pair.chain)
    (tmp_path / "key.pem").write_bytes(pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
    for name, authority in (("ours", ours), ("other", other)):
        (tmp_path / f"{name}.pem").write_bytes(authority.pem)
    with serving(Stub(0), context) as url:
        assert Rest(Site(url, "fl", tmp_path / "ours.pem"), lambda: "t").list_jobs("x").jobs == ()
        for unknown in (tmp_path / "other.pem", None):
            with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
                Rest(Site(url, "fl", unknown), lambda: "t").list_jobs("x")
