"""The API server, as far as a coordinator needs it: to read its own job, to write `status.training` of it, and to look
at the External pools that it names.

Three requests, made by the standard library, so that the image needs no client library for them. Blocking: whoever
calls does so from a thread. The files of the service account are read for each request, since kubelets renew them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from muster_coordinator.errors import JobGone, NoAnswer

API_VERSION = "muster.dev/v1alpha1"
MANAGER = "muster-coordinator"
TIMEOUT_S = 5.0
_APPLY = "application/apply-patch+yaml"  # which JSON is, too
_LONGEST_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class JobSeen:
    """What the API server says of the job."""

    is_to_suspend: bool


class JobPort(Protocol):
    """The job in the cluster. Each call raises NoAnswer or JobGone."""

    def look(self) -> JobSeen: ...

    def apply(self, training: Mapping[str, object]) -> JobSeen: ...


@dataclass(frozen=True, slots=True)
class Account:
    """An API server, and the folder with the service account's `token` and the server's `ca.crt`."""

    host: str
    port: int
    folder: Path


@dataclass(frozen=True, slots=True)
class JobName:
    """Which job. With the uid: one of the same name that was made since is another's."""

    namespace: str
    name: str
    uid: str

    @property
    def path(self) -> str:
        return f"/apis/{API_VERSION}/namespaces/{self.namespace}/federatedjobs/{self.name}/status"


class ApiServer:
    """Talks about one job. One request at a time."""

    def __init__(self, account: Account, job: JobName) -> None:
        self._account = account
        self._job = job
        self._connection: http.client.HTTPSConnection | None = None

    def look(self) -> JobSeen:
        """The job as it is."""
        seen = self._ask("GET", self._job.path, None)
        if seen.get("metadata", {}).get("uid") != self._job.uid:
            raise JobGone(f"the job {self._job.name} with uid {self._job.uid} is gone")
        return _read(seen)

    def apply(self, training: Mapping[str, object]) -> JobSeen:
        """Server-side apply: `status.training` becomes this, and nothing else changes."""
        job = self._job
        body = {
            "apiVersion": API_VERSION,
            "kind": "FederatedJob",
            "metadata": {"name": job.name, "namespace": job.namespace, "uid": job.uid},
            "status": {"training": training},
        }
        return _read(self._ask("PATCH", f"{job.path}?fieldManager={MANAGER}&force=true", body))

    def pool(self, name: str) -> Mapping[str, Any]:
        """A ClientPool of the job's namespace as it is."""
        return self._ask("GET", f"/apis/{API_VERSION}/namespaces/{self._job.namespace}/clientpools/{name}", None)

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None) -> dict[str, Any]:
        try:
            response, raw = self._send(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            self.close()  # what is half said on it can't be mended
            raise NoAnswer(f"the API server doesn't answer: {error or type(error).__name__}") from error
        value = _object(raw)
        if response.status < 300:
            return value
        reason = f"{response.status} {value.get('message') or response.reason}"
        if response.status == 404:
            raise JobGone(reason)
        if response.status == 409 and method != "GET":
            self.look()  # too many writers at once, or the uid is another's: this raises JobGone if it is
        raise NoAnswer(reason, _wish(response.headers.get("Retry-After", "")))

    def _send(
        self, method: str, path: str, body: Mapping[str, object] | None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        token = (self._account.folder / "token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", "Content-Type": _APPLY}
        data = json.dumps(body, allow_nan=False).encode() if body is not None else None
        connection = self._connect()
        connection.request(method, path, body=data, headers=headers)
        response = connection.getresponse()
        return response, response.read()

    def _connect(self) -> http.client.HTTPSConnection:
        if self._connection is None:
            context = ssl.create_default_context(cafile=str(self._account.folder / "ca.crt"))
            account = self._account
            self._connection = http.client.HTTPSConnection(
                account.host, account.port, timeout=TIMEOUT_S, context=context
            )
        return self._connection

    def close(self) -> None:
        """Hang up. The next request dials again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        value = {"message": raw[:200].decode(errors="replace")}
    return value if isinstance(value, dict) else {}


def _read(job: dict[str, Any]) -> JobSeen:
    spec = job.get("spec")
    return JobSeen(is_to_suspend=bool(spec.get("suspend")) if isinstance(spec, dict) else False)


def _wish(retry_after: str) -> float | None:
    return min(float(retry_after), _LONGEST_WAIT_S) if retry_after.isdecimal() else None
