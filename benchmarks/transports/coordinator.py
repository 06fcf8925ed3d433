"""A real coordinator process for a benchmark, and what it says of its rounds."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from muster_spec.loading import load
from muster_spec.resolving import resolve
from muster_wire.trust.authority import make_authority
from muster_wire.trust.identity import Role, name_identity
from muster_wire.trust.keys import Pair

TOKEN = "a-token-for-a-benchmark"  # noqa: S105
POOL = "p"
UID = "benchmark"
HOUR_S = 3600.0


class Coordinator:
    """One process, and its events as they come."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.address: str = self._read()["address"]

    def _read(self) -> dict[str, Any]:
        if self.process.stdout is None:
            raise RuntimeError("a process with a pipe has one")
        event: dict[str, Any] = json.loads(self.process.stdout.readline())
        return event

    def events(self, last: str = "finished") -> Iterator[dict[str, Any]]:
        """Everything it says, up to the last word."""
        while True:
            event = self._read()
            yield event
            if event["event"] == last:
                return


class Trust:
    """An authority of the job, the coordinator's files of it, and a certificate for each client."""

    def __init__(self) -> None:
        self._authority = make_authority(UID, time.time())

    @property
    def authorities(self) -> bytes:
        return self._authority.pem

    def pair(self, index: int) -> Pair:
        """A worker's own."""
        return self._authority.issue_client(name_identity(Role.WORKER, UID, POOL, (index,)), time.time(), HOUR_S)

    def flags(self, folder: Path) -> list[str]:
        """Files of the coordinator, and the words that name them to it."""
        server = self._authority.issue_server(("127.0.0.1",), time.time(), HOUR_S)
        contents = {"client-ca": self._authority.pem, "tls-cert": server.chain, "tls-key": server.key}
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return [word for name in contents for word in (f"--{name}", str(folder / name))]


@contextlib.contextmanager
def coordinator(clients: int, rounds: int, trust: Trust | None = None) -> Iterator[Coordinator]:
    """A job of so many clients and rounds, without evaluations; models travel as float32, with `trust` over TLS."""
    with tempfile.TemporaryDirectory(prefix="muster-benchmark-") as name:
        folder = Path(name)
        (folder / "token").write_text(TOKEN)
        command = [sys.executable, "-m", "muster_coordinator", "--job", str(_write_job(folder, clients, rounds))]
        command += ["--storage", str(folder / "storage"), "--listen", "127.0.0.1:0"]
        command += trust.flags(folder) if trust else ["--token-file", str(folder / "token")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            try:
                yield Coordinator(process)
            finally:
                process.kill()


def _write_job(folder: Path, clients: int, rounds: int) -> Path:
    document = {
        "apiVersion": "muster.dev/v1alpha1",
        "kind": "FederatedJob",
        "metadata": {"name": "benchmark"},
        "spec": {
            "task": {"entrypoint": "benchmark:Task"},
            "pools": [{"name": POOL, "inline": {"type": "Kubernetes", "clients": clients}}],
            "rounds": {"total": rounds, "deadlineSeconds": 600},
            "evaluation": {"central": {"type": "Never"}, "federated": False},
            "compression": {"preset": "none"},
        },
    }
    manifest = folder / "manifest.yaml"
    manifest.write_text(yaml.safe_dump(document))
    job = folder / "job.json"
    job.write_bytes(msgspec.json.encode(resolve(load([manifest]), uid=UID)))
    return job
