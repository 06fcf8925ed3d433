"""SLURM by slurmrestd: HTTP with a JWT that is read again for each request, so that it may be renewed at any time.

Which version of the API is spoken is found out by the first request, and again after an answer that says that it is
gone: sites upgrade while jobs run. With slurmctld down slurmrestd lets requests hang, so every wait is bounded.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from muster_slurm.errors import Denied, Refused, Unreachable
from muster_slurm.openapi import (
    GONE,
    UNSPECIFIED,
    choose_version,
    error_of,
    read_errors,
    read_job,
    read_submitted,
    submission,
)
from muster_slurm.plan import Listing
from muster_slurm.records import Listed
from muster_slurm.request import Request
from muster_slurm.squeue import DEFAULT_MAX_ARRAY

TIMEOUT_S = 20.0
_CHUNK = 256 * 1024
_SMALL = 4 * 1024 * 1024  # no answer but a listing is longer


@dataclass(frozen=True, slots=True)
class Site:
    """Where slurmrestd is, and whose jobs these are."""

    url: str
    user: str
    authority: Path | None = None
    version: str | None = None


class Rest:
    """A transport: see transport.py."""

    def __init__(self, site: Site, token: Callable[[], str], timeout_s: float = TIMEOUT_S) -> None:
        self._site = site
        self._token = token
        self._timeout_s = timeout_s
        self._version: int | None = None

    def submit(self, request: Request) -> int:
        body = submission(request, self._spoken())
        return read_submitted(self._ask("POST", "job/submit", body))

    def list_jobs(self, prefix: str) -> Listing:
        began_at = time.time()
        path = self._path("jobs")
        with closing(self._connect()) as connection:
            response = self._send(connection, "GET", path)
            listed = Listed(self._chunks(response, path), "jobs")
            jobs = tuple(read_job(record) for record in listed.records() if _is_ours(record, prefix))
            self._check(response, path, listed.around)
        return Listing(began_at, jobs)

    def cancel(self, job: int) -> None:
        path = self._path(f"job/{job}")
        status, text = self._exchange("DELETE", path)
        if any(GONE in (each.get("error_number"), each.get("error_code")) for each in read_errors(text)):
            return
        self._judge(status, path, text)

    def max_array(self) -> int:
        """No version of the API tells it, so it is what SLURM has where nobody has set it."""
        return DEFAULT_MAX_ARRAY

    # --- one request --------------------------------------------------------------------------------------------------

    def _spoken(self) -> int:
        if self._version is None:
            status, text = self._exchange("GET", "/openapi/v3")
            self._judge(status, "/openapi/v3", text)
            self._version = choose_version(text, self._site.version)
        return self._version

    def _path(self, what: str) -> str:
        return f"/slurm/v0.0.{self._spoken()}/{what}"

    def _ask(self, method: str, what: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        path = self._path(what)
        status, text = self._exchange(method, path, body)
        self._judge(status, path, text)
        try:
            answer = json.loads(text)
        except ValueError as error:
            raise Unreachable(f"{path}: the answer is no JSON") from error
        return answer if isinstance(answer, dict) else {}

    def _exchange(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
        with closing(self._connect()) as connection:
            response = self._send(connection, method, path, body)
            return response.status, self._read(response, path)

    def _connect(self) -> http.client.HTTPConnection:
        url = urlsplit(self._site.url)
        if url.scheme == "http":
            return http.client.HTTPConnection(url.hostname or "", url.port, timeout=self._timeout_s)
        context = ssl.create_default_context(cafile=str(self._site.authority) if self._site.authority else None)
        return http.client.HTTPSConnection(url.hostname or "", url.port, timeout=self._timeout_s, context=context)

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: dict[str, Any] | None = None
    ) -> http.client.HTTPResponse:
        headers = {"X-SLURM-USER-NAME": self._site.user, "X-SLURM-USER-TOKEN": self._token()}
        content = json.dumps(body).encode() if body is not None else None
        headers |= {"Content-Type": "application/json"} if content is not None else {}
        prefix = urlsplit(self._site.url).path.rstrip("/")
        try:
            connection.request(method, prefix + path, content, headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self._site.url}{path}: {error or type(error).__name__}") from error

    def _read(self, response: http.client.HTTPResponse, path: str) -> str:
        try:
            return response.read(_SMALL).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self._site.url}{path}: the answer broke off ({error})") from error

    def _chunks(self, response: http.client.HTTPResponse, path: str) -> Iterator[bytes]:
        try:
            while chunk := response.read(_CHUNK):
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self._site.url}{path}: the answer broke off ({error})") from error

    def _judge(self, status: int, path: str, text: str) -> None:
        """Raise what an answer means that isn't a success."""
        if status == HTTPStatus.OK:
            return
        if status == HTTPStatus.NOT_FOUND:
            self._version = None
        raise _error(f"{self._site.url}{path}", status, text)

    def _check(self, response: http.client.HTTPResponse, path: str, around: str) -> None:
        self._judge(response.status, path, around)
        if errors := read_errors(around):
            raise error_of(path, errors)


def _is_ours(record: dict[str, Any], prefix: str) -> bool:
    return prefix in str(record.get("comment")) or prefix in str(record.get("name"))


def _error(place: str, status: int, text: str) -> Exception:
    """v0.0.38 answers a missing token with 401, and one that is bad or expired with 500 and no word of it."""
    errors = read_errors(text)
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NETWORK_AUTHENTICATION_REQUIRED}:
        return Denied(f"{place}: the token isn't accepted (HTTP {status}); renew it, it is read again for each request")
    if errors:
        hint = " (so it answers a token that is bad or has expired, too)" if _says_nothing(errors) else ""
        return error_of(f"{place}: HTTP {status}{hint}", errors)
    if status == HTTPStatus.NOT_FOUND:
        return Unreachable(f"{place}: HTTP 404, so slurmrestd no longer speaks this version of the API")
    kind = Unreachable if status >= HTTPStatus.INTERNAL_SERVER_ERROR else Refused
    return kind(f"{place}: HTTP {status} {' '.join(text.split())[:200]}")


def _says_nothing(errors: list[Mapping[str, Any]]) -> bool:
    return all(each.get("error_number") == UNSPECIFIED for each in errors)
