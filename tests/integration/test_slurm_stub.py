"""The bridge at a site of 100,000 jobs, and slurmrestd behind TLS: a stub answers as the real one was recorded to."""

import json
import ssl
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from muster_slurm.errors import Unreachable
from muster_slurm.rest import Rest, Site
from muster_wire.trust.authority import make_authority
from slurming import bridging, manifest, write_secret

FOREIGN = 100_000
MEMORY_MB = 150


class Stub:
    """What the stub has: our array once it is submitted, and everybody else's jobs."""

    def __init__(self, foreign):
        self.foreign = foreign
        self.ours = None
        self.calls = []
        self.tokens = []

    def submit(self, body):
        self.ours = body["job"]
        return {"errors": [], "job_id": 500_000}

    def listing(self):
        yield b'{"meta": {"plugin": {"type": "openapi\\/v0.0.38"}}, "errors": [], "jobs": [\n'
        block = ",\n".join(json.dumps(record(number, "someone's work", "")) for number in range(100)).encode() + b",\n"
        for _ in range(self.foreign // 100):
            yield block
        if self.ours:
            last = int(self.ours["array"].rpartition("-")[2])
            for task in range(last + 1):
                ours = record(500_000 + task, self.ours["name"], self.ours["comment"])
                yield json.dumps(ours | {"array_job_id": 500_000, "array_task_id": task}).encode() + b",\n"
        yield json.dumps(record(1, "the last", "")).encode() + b"\n]}"


def record(number, name, comment):
    """A record of the size that real ones have."""
    filling = {f"field_of_v0_0_38_number_{index}": "" for index in range(90)}
    return filling | {
        "job_id": number, "array_job_id": 0, "array_task_id": None, "array_task_string": "", "job_state": "RUNNING",
        "state_reason": "None", "start_time": 1795392262, "exit_code": 0, "restart_cnt": 0, "name": name,
        "comment": comment, "nodes": "n1", "job_resources": {"nodes": "n1", "allocated_nodes": [{"nodename": "n1"}]},
    }  # fmt: skip


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that leaves in the middle is what some tests are about."""


@contextmanager
def serving(stub, context=None):  # noqa: C901 -- a class in a function
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            stub.calls.append(f"{self.command} {self.path}")
            stub.tokens.append(self.headers["X-SLURM-USER-TOKEN"])
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/openapi/v3":
                self._answer([json.dumps({"paths": {"/slurm/v0.0.38/jobs": {}}}).encode()])
            elif self.path.endswith("/jobs"):
                self._answer(stub.listing())
            elif self.path.endswith("/submit"):
                self._answer([json.dumps(stub.submit(json.loads(body))).encode()])
            else:
                stub.ours = None
                self._answer([b'{"errors": []}'])

        def do_POST(self):
            self.do_GET()

        def do_DELETE(self):
            self.do_GET()

        def _answer(self, chunks):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_):
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class NoSlurm:
    """The environment of a machine that needs no SLURM."""

    environment = None


def stub_manifest(folder, url, clients):
    write_secret(folder, "token", "t0ken")
    how = f"url: {url}\n                auth: {{user: fl, tokenSecret: {{name: site, key: token}}}}"
    return manifest(folder, how, clients=clients)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read as Linux tells it")
def test_500_clients_among_100_000_foreign_jobs(tmp_path):
    stub = Stub(FOREIGN)
    with serving(stub) as url, bridging(NoSlurm, tmp_path, stub_manifest(tmp_path, url, 500)) as bridge:
        bridge.until("queue", "500 running", within_s=240)
        bridge.until("queue", "500 running")
        peak = peak_of(bridge.process.pid)
        assert bridge.close()[0] == 0
    assert len(bridge.submissions()) == 1  # 500 workers are one array
    listings = sum(call.endswith("/jobs") for call in stub.calls)
    others = [call for call in stub.calls if not call.endswith("/jobs")]
    assert len(others) <= 2 + listings  # one negotiation, one submission, and a cancellation a look at the end
    assert peak < MEMORY_MB * 1024 * 1024, f"{peak / 1e6:.0f} MB"


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
