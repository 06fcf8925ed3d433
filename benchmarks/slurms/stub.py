"""A slurmrestd that is none: it answers as the real one was recorded to, with our array and any number of foreign jobs.

What a site of 100,000 jobs asks of the bridge can't be had from a private SLURM; a benchmark and tests share this one.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Stub:
    """What the stub has: our array once it is submitted, and everybody else's jobs."""

    def __init__(self, foreign: int) -> None:
        self.foreign = foreign
        self.ours: dict[str, Any] | None = None
        self.calls: list[str] = []
        self.tokens: list[str] = []

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        """One array job, whatever its size."""
        self.ours = body["job"]
        return {"errors": [], "job_id": 500_000}

    def listing(self) -> Iterator[bytes]:
        """All jobs of the site, in chunks."""
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


def record(number: int, name: str, comment: str) -> dict[str, Any]:
    """A record of the size that real ones have."""
    filling = {f"field_of_v0_0_38_number_{index}": "" for index in range(90)}
    return filling | {
        "job_id": number, "array_job_id": 0, "array_task_id": None, "array_task_string": "", "job_state": "RUNNING",
        "state_reason": "None", "start_time": 1795392262, "exit_code": 0, "restart_cnt": 0, "name": name,
        "comment": comment, "nodes": "n1", "job_resources": {"nodes": "n1", "allocated_nodes": [{"nodename": "n1"}]},
    }  # fmt: skip


class Server(ThreadingHTTPServer):
    """Whose clients may leave in the middle."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """That is what some tests are about."""


@contextmanager
def serving(stub: Stub, context: ssl.SSLContext | None = None) -> Iterator[str]:  # noqa: C901 -- a class in a function
    """Its address, for as long as this lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
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

        def do_POST(self) -> None:
            self.do_GET()

        def do_DELETE(self) -> None:
            self.do_GET()

        def _answer(self, chunks: Iterable[bytes]) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

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
