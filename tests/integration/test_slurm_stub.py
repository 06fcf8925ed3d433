"""The bridge at a site of 100,000 jobs, and slurmrestd behind TLS: a stub answers as real ones were recorded to."""

import json
import signal
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from muster_slurm.errors import Unreachable
from muster_slurm.request import Keys, Tag
from muster_slurm.rest import Rest, Site
from muster_wire.trust.authority import make_authority
from slurming import NoSlurm, bridging, by_stub, manifest, wait_until, write_job
from slurms.stub import VERSIONS, Stub, serving

MEMORY_MB = 150
POLL_S = 0.25
SHORTEST = 0.8  # of a poll, which jitter makes it
LOOKS = 5


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux tells it")
@pytest.mark.parametrize(("version", "foreign"), [(38, 100_000), (42, 40_000)])  # whose records are as much text
def test_500_clients_among_100_000_foreign_jobs(tmp_path, version, foreign):
    stub = Stub(foreign, version)
    with (
        serving(stub) as url,
        bridging(NoSlurm, tmp_path, manifest(tmp_path, by_stub(url, tmp_path), clients=500)) as bridge,
    ):
        bridge.until("queue", "500 running", within_s=400)
        bridge.until("queue", "500 running")
        peak = peak_of(bridge.process.pid)
        assert bridge.close()[0] == 0
    assert len(bridge.submissions()) == 1  # 500 workers are one array
    listings = sum(call.endswith("/jobs") for call in stub.calls)
    others = [call for call in stub.calls if not call.endswith("/jobs")]
    assert len(others) <= 2 + listings  # one negotiation, one submission, and a cancellation a look at the end
    assert peak < MEMORY_MB * 1024 * 1024, f"{peak / 1e6:.0f} MB"


@pytest.mark.parametrize("version", [VERSIONS[0], VERSIONS[-1]])
def test_calls_a_minute_stay_the_same_whatever_the_number_of_clients(tmp_path, version):
    """A look is one call for 50 clients and for 500, at the beginning and later, and looks keep their distance."""
    for clients in (50, 500):
        calls, times = looks_of(tmp_path / f"{clients}", clients, Stub(0, version))
        assert calls == [f"GET /slurm/v0.0.{version}/jobs"] * 2 * LOOKS
        for part in (times[:LOOKS], times[LOOKS:]):
            calls_a_minute = 60 * (LOOKS - 1) / (part[-1] - part[0])
            assert calls_a_minute <= 60 / (POLL_S * SHORTEST)


def looks_of(folder, clients, stub):
    """What is called while all clients run, and when."""
    folder.mkdir()
    with serving(stub) as url:
        file = manifest(folder, by_stub(url, folder), clients=clients)
        with bridging(NoSlurm, folder, file, poll_s=POLL_S) as bridge:
            bridge.until("queue", f"{clients} running")
            first = len(stub.calls)
            wait_until(lambda: len(stub.times) >= first + 2 * LOOKS, lambda: f"{stub.calls}")
            here = slice(first, first + 2 * LOOKS)
            return stub.calls[here], stub.times[here]


@pytest.mark.parametrize(("options", "code"), [(("--alone",), 143), ((), 0)])
def test_a_pods_bridge_that_is_told_to_go_leaves_its_work_to_another(tmp_path, options, code):
    stub = Stub(0)
    with (
        serving(stub) as url,
        bridging(NoSlurm, tmp_path, manifest(tmp_path, by_stub(url, tmp_path)), *options) as bridge,
    ):
        bridge.until("queue", "2 running")
        for _ in range(2):  # whoever is impatient says it again
            bridge.process.send_signal(signal.SIGTERM)
        assert bridge.close()[0] == code
    assert stub.ours is None  # cancelled


def peak_of(pid):
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


@contextmanager
def cancelling(folder, url):
    """What cancels in a bridge's place."""
    write_job(folder, manifest(folder, by_stub(url, folder)))
    command = [sys.executable, "-m", "muster_slurm.cancel", "--job", str(folder / "job.json"), "--pool", "hpc"]
    command += ["--secrets", str(folder / "secrets"), "--settle", "0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_what_no_bridge_has_cancelled_is_cancelled(tmp_path):
    stub = Stub(100)
    with serving(stub) as url:
        keys = Keys(write_job(tmp_path, manifest(tmp_path, by_stub(url, tmp_path))).uid, "hpc")
        tag = Tag(0, 2, 0)
        stub.ours = {"array": "0-1", "name": keys.name(tag), "comment": keys.comment(tag)}
        with cancelling(tmp_path, url) as process:
            assert process.wait(60) == 0, process.stderr.read()
    assert [call for call in stub.calls if call.startswith("DELETE")] == ["DELETE /slurm/v0.0.38/job/500000"]
    assert stub.ours is None


def test_while_slurm_is_away_it_goes_on_until_it_is_told_to_leave(tmp_path):
    with cancelling(tmp_path, "http://127.0.0.1:9") as process:
        assert json.loads(process.stdout.readline())["what"] == "warning"
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143  # which its Job doesn't count: another one comes
        assert "see to it with scancel" in process.stderr.read()


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
