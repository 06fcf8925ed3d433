"""A slurmrestd that is none: it answers as real ones were recorded to (record.py), with our array and any number of
foreign jobs.

What a site of 100,000 jobs asks of the bridge can't be had from a private SLURM; a benchmark and tests share this one.
Every job of it is the one that was recorded, under other numbers and names, and written as slurmrestd writes: a line a
field, and slashes escaped.
"""

from __future__ import annotations

import json
import ssl
import textwrap
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded"
VERSIONS = (38, 40, 41, 42)  # those that were
OURS = 500_000
_BLOCK = 100
_HERE = "jobs"


def recorded(version: int) -> dict[str, Any]:
    """What a real one of this version answered: `submitted` to a submission, `listing` with that job's record."""
    found: dict[str, Any] = json.loads((RECORDED / f"v0.0.{version}.json").read_text())
    return found


class Stub:
    """What the stub has: our array once it is submitted, and everybody else's jobs. `times` are those of `calls`."""

    def __init__(self, foreign: int, version: int = 38) -> None:
        self.foreign = foreign
        self.version = version
        self.ours: dict[str, Any] | None = None
        self.calls: list[str] = []
        self.times: list[float] = []
        self.tokens: list[str] = []
        self._recorded = recorded(version)
        self._job = self._recorded["listing"]["jobs"][0]

    def note(self, call: str, token: str) -> None:
        """Somebody asks."""
        self.calls.append(call)
        self.times.append(time.monotonic())
        self.tokens.append(token)

    def submit(self, body: dict[str, Any]) -> dict[str, Any]:
        """One array job, whatever its size."""
        self.ours = body["job"]
        return self._recorded["submitted"] | {"job_id": OURS}

    def listing(self) -> Iterator[bytes]:
        """All jobs of the site, in chunks."""
        before, after = written(self._recorded["listing"] | {"jobs": [_HERE]}).split(f'    "{_HERE}"')
        yield before.encode()
        block = "".join(f"{self._foreign(number)},\n" for number in range(_BLOCK)).encode()
        for _ in range(self.foreign // _BLOCK):
            yield block
        if self.ours:
            last = int(self.ours["array"].rpartition("-")[2])
            for task in range(last + 1):
                yield f"{self._task(task, self.ours)},\n".encode()
        yield (self._foreign(1) + after).encode()

    def _foreign(self, number: int) -> str:
        return _record(self._job, number, array=0, task=None, name="someone's work", comment="")

    def _task(self, task: int, ours: dict[str, Any]) -> str:
        return _record(self._job, OURS + task, array=OURS, task=task, name=ours["name"], comment=ours["comment"])


def written(answer: object) -> str:
    """As slurmrestd does it."""
    return json.dumps(answer, indent=2).replace("/", "\\/")


def _record(job: dict[str, Any], number: int, *, array: int, task: int | None, name: str, comment: str) -> str:
    """The recorded job as another one, in its place of a listing."""
    numbers = {
        "array_job_id": _number(job["array_job_id"], array),
        "array_task_id": _number(job["array_task_id"], task),
    }
    changed = job | numbers | {"job_id": number, "name": name, "comment": comment}
    return textwrap.indent(written(changed), "    ")


def _number(form: object, value: int | None) -> object:
    """In the form that this version has for numbers."""
    return {"set": value is not None, "infinite": False, "number": value or 0} if isinstance(form, dict) else value


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
            stub.note(f"{self.command} {self.path}", self.headers["X-SLURM-USER-TOKEN"])
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.path == "/openapi/v3":
                self._answer([written({"paths": {f"/slurm/v0.0.{stub.version}/jobs/": {}}}).encode()])
            elif self.path.endswith("/jobs"):
                self._answer(stub.listing())
            elif self.path.endswith("/submit"):
                self._answer([written(stub.submit(json.loads(body))).encode()])
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
