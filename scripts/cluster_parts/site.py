"""What a cluster is brought up with: programs that are started unless they run, and a way to ask the API server.

Both halves use it, the control plane (`lifecycle`) and the nodes (`nodes`). It keeps the state on disk in step.
"""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from cluster_parts.certificates import Pair, write_private
from cluster_parts.control_plane import Keys, build_kubeconfig
from cluster_parts.errors import ClusterError
from cluster_parts.processes import Process, is_running, start_process
from cluster_parts.state import State, save_state

_READY_WITHIN_S = 120.0
_LOG_LINES = 15


class Site:
    """One cluster that is being brought up."""

    def __init__(self, folder: Path, keys: Keys, programs: Mapping[str, Path], state: State) -> None:
        self.folder = folder
        self.keys = keys
        self.programs = programs
        self.state = state
        self._ensured: dict[str, Process] = {}

    def ensure_running(self, name: str, argv: Sequence[str]) -> Process:
        """Start `argv`, unless the process of that name is still there."""
        known = self.state.processes.get(name)
        if known is None or not is_running(known):
            known = start_process(argv, self.folder, self._log(name))
            self.state = self.state.with_process(name, known)
            save_state(self.folder, self.state)
        self._ensured[name] = known
        return known

    def ensure_program(self, name: str, arguments: Sequence[str]) -> Process:
        """Start a program of ours with these arguments, unless it runs."""
        return self.ensure_running(name, [str(self.programs[name]), *arguments])

    def wait(self, what: str, is_so: Callable[[], bool]) -> None:
        """Until it is so, as long as everything runs that has been seen to so far."""
        deadline = time.monotonic() + _READY_WITHIN_S
        while not is_so():
            for name, process in self._ensured.items():
                if not is_running(process):
                    raise ClusterError(f"{name} ended while waiting until {what}.\n{self._last_words(name)}")
            if time.monotonic() > deadline:
                last = list(self._ensured)[-1]
                raise ClusterError(f"Not within {_READY_WITHIN_S:.0f} s: {what}.\n{self._last_words(last)}")
            time.sleep(0.1)

    def read(self, path: str) -> Any:
        """The API server's JSON answer; None if there is none, or it isn't 200."""
        body = self._ask("GET", path)
        return None if body is None else json.loads(body)

    def answers(self, path: str) -> bool:
        """Whether the API server answers `path` with 200."""
        return self._ask("GET", path) is not None

    def apply(self, path: str, value: Mapping[str, Any]) -> None:
        """Make an object, or what of it isn't as it should be."""
        url = f"{path}/{value['metadata']['name']}?fieldManager=scripts-cluster&force=true"
        if self._ask("PATCH", url, json.dumps(value)) is None:
            raise ClusterError(f"The API server doesn't take {value['kind']} {value['metadata']['name']}.")

    def write_kubeconfig(self, name: str, user: Pair) -> Path:
        """A kubeconfig for one of the cluster's own users."""
        path = self.folder / name
        write_private(path, build_kubeconfig(self.keys, self.state.ports, user).encode())
        return path

    def _ask(self, method: str, path: str, body: str | None = None) -> bytes | None:
        context = ssl.create_default_context(cafile=str(self.keys.authority.pair.certificate))
        context.load_cert_chain(self.keys.admin.certificate, self.keys.admin.key)
        ports = self.state.ports
        connection = http.client.HTTPSConnection(ports.host, ports.api, context=context, timeout=5)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request(method, path, body, {"Content-Type": "application/apply-patch+yaml"} if body else {})
            response = connection.getresponse()
            content = response.read()
            return content if response.status in {HTTPStatus.OK, HTTPStatus.CREATED} else None
        return None

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name.replace('/', '-')}.log"

    def _last_words(self, name: str) -> str:
        lines = self._log(name).read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join([f"The end of {self._log(name)}:", *lines])
