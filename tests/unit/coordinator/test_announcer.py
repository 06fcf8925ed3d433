"""Who writes the job's status: what is sent when, and that no answer of an API server stops anything."""

from __future__ import annotations

import asyncio
import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fake_world import FakeWorld, config_for
from muster_coordinator.announcer import Announcer
from muster_coordinator.apiserver import Account, ApiServer, JobName, JobSeen
from muster_coordinator.errors import InputError, JobGone, NoAnswer
from muster_coordinator.settings import _read_account
from muster_coordinator.shown import Training
from muster_coordinator.training import Circumstances, training_of
from muster_wire.trust.authority import make_authority

JOB = JobName("lab", "digits", "uid-1")


def value(number: int) -> Training:
    state = FakeWorld(config_for()).state
    training = training_of(state, Circumstances(0.0, 0.0))
    return msgspec.structs.replace(training, round=number)


class Job:
    """Answers in turn: a JobSeen, or an error to raise; then that all is well. Keeps what it was told."""

    def __init__(self, *answers: JobSeen | Exception) -> None:
        self._answers = list(answers)
        self.rounds: list[object] = []
        self.looks = 0

    def look(self) -> JobSeen:
        self.looks += 1
        return self._answer()

    def apply(self, training: Mapping[str, object]) -> JobSeen:
        assert str(training["updateTime"]).endswith("Z")
        self.rounds.append(training["round"])
        return self._answer()

    def _answer(self) -> JobSeen:
        answer = self._answers.pop(0) if self._answers else JobSeen(is_to_suspend=False)
        if isinstance(answer, Exception):
            raise answer
        return answer


def announce(job: Job, tell: Callable[[], Training | None], heard: list[JobSeen] | None = None) -> Announcer:
    return Announcer(job, tell, (heard if heard is not None else []).append, time.time, every_s=0.01)


def test_only_what_is_new_is_written_and_only_the_newest() -> None:
    job, newest = Job(), [value(1)]

    async def run() -> None:
        announcer = announce(job, lambda: newest[0])
        await announcer.say()
        await announcer.say()
        newest[0] = value(2)
        newest[0] = value(3)
        await announcer.say()

    asyncio.run(run())
    assert job.rounds == [1, 3]


def test_nothing_is_written_before_there_is_something_to_say_but_the_job_is_looked_at() -> None:
    job, heard = Job(JobSeen(is_to_suspend=True)), list[JobSeen]()

    async def run() -> None:
        announcer = announce(job, lambda: None, heard)
        announcer._asked_at = -100.0
        await announcer.say()
        await announcer.say()

    asyncio.run(run())
    assert (job.rounds, job.looks) == ([], 1)
    assert heard == [JobSeen(is_to_suspend=True)]


def test_a_refused_write_is_made_up_for_ever_more_seldom() -> None:
    job, pauses = Job(NoAnswer("503"), NoAnswer("503"), NoAnswer("503"), NoAnswer("429", after_s=7.0)), []

    async def run() -> None:
        announcer = announce(job, lambda: value(1))
        pauses.extend([await announcer.say() for _ in range(5)])

    asyncio.run(run())
    assert pauses == [0.01, 0.02, 0.04, 7.0, 0.01]
    assert job.rounds == [1] * 5


def test_a_job_that_is_gone_is_left_alone() -> None:
    job = Job(JobGone("404"))

    async def run() -> None:
        announcer = announce(job, lambda: value(1))
        await announcer.run()
        await announcer.last_words()

    asyncio.run(run())
    assert job.rounds == [1]


def test_a_fault_of_our_own_is_the_end_of_nothing_else() -> None:
    job = Job()

    def broken() -> Training:
        raise KeyError("a fault")

    async def run() -> None:
        await announce(job, broken).run()

    asyncio.run(run())
    assert job.rounds == []


def test_the_last_words_are_said_again_until_they_are_heard() -> None:
    job, newest = Job(JobSeen(is_to_suspend=False), NoAnswer("503"), NoAnswer("503")), [value(1)]

    async def run() -> None:
        announcer = announce(job, lambda: newest[0])
        await announcer.say()
        newest[0] = value(2)
        await announcer.last_words()

    asyncio.run(run())
    assert job.rounds == [1, 2, 2, 2]


# --- over HTTP --------------------------------------------------------------------------------------------------------


class Server:
    """An API server with one job, over TLS: it answers with the given statuses in turn, then with the job."""

    def __init__(self, folder: Path, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.uid = JOB.uid
        self.suspend = False
        self.asked: list[tuple[str, str, str, Any]] = []
        authority = make_authority("job", time.time())
        pair = authority.issue_server(["127.0.0.1"], time.time(), 600.0)
        (folder / "ca.crt").write_bytes(authority.pem)
        (folder / "token").write_text("first\n")
        (folder / "pair.pem").write_bytes(pair.key + pair.chain)
        self.folder = folder

    @contextmanager
    def serve(self) -> Iterator[ApiServer]:
        answer = self._answer

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                answer(self)

            def do_PATCH(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "pair.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        client = ApiServer(Account("127.0.0.1", server.server_port, self.folder), JOB)
        try:
            yield client
        finally:
            client.close()
            server.shutdown()
            server.server_close()
            thread.join()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length") or 0)
        body = json.loads(request.rfile.read(length)) if length else None
        self.asked.append((request.command, request.path, request.headers["Authorization"], body))
        status = self.statuses.pop(0) if self.statuses else 200
        whole = {"metadata": {"uid": self.uid}, "spec": {"suspend": self.suspend}, "message": "told so"}
        raw = json.dumps(whole).encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(raw)))
        if status == 429:
            request.send_header("Retry-After", "3")
        request.end_headers()
        request.wfile.write(raw)


def test_the_status_is_applied_and_nothing_else(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.suspend = True
    with server.serve() as job:
        assert job.apply({"round": 3}) == JobSeen(is_to_suspend=True)
        assert job.look() == JobSeen(is_to_suspend=True)
    path = "/apis/muster.dev/v1alpha1/namespaces/lab/federatedjobs/digits/status"
    (method, at, token, body), (second, other, _, _) = server.asked
    assert (method, at) == ("PATCH", f"{path}?fieldManager=muster-coordinator&force=true")
    assert (second, other, token) == ("GET", path, "Bearer first")
    assert body["status"] == {"training": {"round": 3}}
    assert body["metadata"] == {"name": "digits", "namespace": "lab", "uid": "uid-1"}


def test_a_token_that_has_expired_is_read_again(tmp_path: Path) -> None:
    server = Server(tmp_path, 401)
    with server.serve() as job:
        with pytest.raises(NoAnswer, match="401 told so"):
            job.apply({})
        (tmp_path / "token").write_text("second")
        job.apply({})
    assert [token for _, _, token, _ in server.asked] == ["Bearer first", "Bearer second"]


def test_the_servers_wish_is_heard(tmp_path: Path) -> None:
    with Server(tmp_path, 429).serve() as job, pytest.raises(NoAnswer) as caught:
        job.apply({})
    assert caught.value.after_s == 3.0


def test_a_conflict_is_no_end_unless_the_job_is_another(tmp_path: Path) -> None:
    server = Server(tmp_path, 409)
    with server.serve() as job:
        with pytest.raises(NoAnswer):
            job.apply({})
        server.uid, server.statuses = "uid-2", [409]
        with pytest.raises(JobGone):
            job.apply({})
    with Server(tmp_path, 404).serve() as job, pytest.raises(JobGone):
        job.apply({})


def test_a_server_that_goes_away_and_comes_back_is_found_again(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with server.serve() as job:
        job.apply({})
        assert job._connection is not None
        assert job._connection.sock is not None
        job._connection.sock.shutdown(2)
        with pytest.raises(NoAnswer, match="doesn't answer"):
            job.apply({})
        job.apply({})
    with pytest.raises(NoAnswer, match="doesn't answer"):
        job.apply({})
    job._account = replace(job._account, folder=tmp_path / "none")
    with pytest.raises(NoAnswer, match="doesn't answer"):
        job.apply({})


def test_a_service_account_has_to_be_whole(tmp_path: Path) -> None:
    environment = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    with pytest.raises(InputError, match="there is no token in it"):
        _read_account(tmp_path, environment)
    (tmp_path / "token").write_text("t")
    (tmp_path / "ca.crt").write_text("c")
    assert _read_account(tmp_path, environment) == Account("10.0.0.1", 443, tmp_path)
    with pytest.raises(InputError, match="KUBERNETES_SERVICE_HOST"):
        _read_account(tmp_path, {})
