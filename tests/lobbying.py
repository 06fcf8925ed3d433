"""A lobby process with an API server made up for it, External pools, and what their sites and jobs have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml

from fakes.api_server import FakeApiServer
from muster_operator.issuing import encoded
from muster_spec.loading import load
from muster_spec.resolving import resolve
from muster_wire.trust.authority import make_authority
from muster_wire.trust.bundle import Bundle, make_pool_bundle
from muster_wire.trust.identity import Role, name_identity
from running import TASKS
from trusting import HOUR, Trust

POOL, POOL_UID = "site", "pool-1"
IMAGE = "registry/worker@sha256:" + "a" * 64
GIVE_UP_S = 60
NAME = "lobby.example.org"  # which no resolver knows
POLICY = """
apiVersion: muster.dev/v1alpha1
kind: SitePolicy
entrypoints: ["small:*"]
"""


class PoolTrust:
    """An External pool's authority, and what its site is given."""

    def __init__(self, name: str = POOL, uid: str = POOL_UID) -> None:
        self.name, self.uid = name, uid
        self.authority = make_authority(uid, time.time())

    def bundle(self, lobby: str, lobby_ca: bytes, valid_s: float = HOUR) -> Bundle:
        joiner = name_identity(Role.JOINER, self.uid, self.name)
        return make_pool_bundle(self.authority, lobby, lobby_ca.decode(), joiner, time.time(), valid_s)

    def objects(self, clients: int = 1, **external: Any) -> list[dict[str, Any]]:
        """The ClientPool as the operator leaves it, and the Secret of its authority."""
        pool = {
            "kind": "ClientPool",
            "metadata": {"name": self.name, "uid": self.uid},
            "spec": {"type": "External", "clients": clients, "external": {"certificateValidity": "1h"} | external},
            "status": {"enrolment": {"certificateAuthority": self.authority.pem.decode()}},
        }
        data = encoded({"ca.crt": self.authority.pem, "ca.key": self.authority.key_pem})
        secret = {"kind": "Secret", "metadata": {"name": f"{self.name}.authority", "uid": "s-1"}, "data": data}
        return [pool, secret]


class Lobby:
    """One process. Its certificate and who vouches for it are made here, unless they are given."""

    def __init__(
        self,
        folder: Path,
        kubeconfig: Path,
        listen: str = "127.0.0.1:0",
        arguments: Sequence[str] = (),
        certificate: Mapping[str, bytes] | None = None,
        authority: bytes = b"",
    ) -> None:
        self.trust = Trust(folder, "lobby")
        self.trust.issue_server(("127.0.0.1", NAME))
        self.log = folder / "lobby.log"
        if certificate:
            self.trust.cert.write_bytes(certificate["tls.crt"])
            self.trust.key.write_bytes(certificate["tls.key"])
            self.trust.ca.write_bytes(authority)
        command = [sys.executable, "-m", "muster_lobby", "--listen", listen, "--tls-cert", str(self.trust.cert)]
        command += ["--tls-key", str(self.trust.key), "--tls-ca", str(self.trust.ca), *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, "KUBECONFIG": str(kubeconfig)}
            )

    @property
    def address(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return str(json.loads(line)["address"])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(GIVE_UP_S)
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def lobby(folder: Path, kubeconfig: Path, listen: str = "127.0.0.1:0") -> Iterator[tuple[Lobby, str]]:
    folder.mkdir(exist_ok=True)
    running = Lobby(folder, kubeconfig, listen)
    try:
        yield running, running.address
    finally:
        running.stop()


class Job:
    """A job with one External pool: its manifest, its authority, and the files that its coordinator is started with."""

    def __init__(
        self, folder: Path, name: str, pool: PoolTrust, *, entrypoint: str = "small:Small", **spec: Any
    ) -> None:
        folder.mkdir()
        self.folder, self.name, self.uid = folder, name, f"uid-of-{name}"
        self.trust = Trust(folder, self.uid)
        self.spec: dict[str, Any] = {
            "task": {"entrypoint": entrypoint},
            "pools": [{"name": pool.name, "inline": {"type": "External", "clients": 1, "trusted": True}}],
            "rounds": {"total": 2, "deadlineSeconds": 60},
            "local": {"epochs": 1, "batchSize": 16, "learningRate": 0.1},
        } | spec
        head = {"apiVersion": "muster.dev/v1alpha1", "kind": "FederatedJob", "metadata": {"name": name}}
        manifest = folder / "manifest.yaml"
        manifest.write_text(yaml.safe_dump(head | {"spec": self.spec}))
        resolved = resolve(load([manifest]), uid=self.uid)
        pools = tuple(
            msgspec.structs.replace(each, uid=pool.uid) if each.name == pool.name else each for each in resolved.pools
        )
        self.file = folder / "job.json"
        self.file.write_bytes(msgspec.json.encode(msgspec.structs.replace(resolved, namespace="lab", pools=pools)))
        self.pools = folder / "pools"
        self.pools.mkdir()
        (self.pools / f"{pool.name}.crt").write_bytes(pool.authority.pem)

    @property
    def security(self) -> list[str]:
        return [*self.trust.enrolling, "--pool-authorities", str(self.pools)]

    def object(self, coordinator: str, pool: str = POOL, **status: Any) -> dict[str, Any]:
        """As the operator leaves it."""
        entry = {"name": pool, "clients": 1, "workersWanted": 1, "endpoint": coordinator, "image": IMAGE}
        whole = {
            "phase": "Running",
            "specDigest": "1234",
            "coordinator": {"certificateAuthority": self.trust.authority.pem.decode()},
            "pools": [entry],
        }
        spec = self.spec | {"pools": [{"name": each["name"]} for each in self.spec["pools"]]}
        return {
            "apiVersion": "muster.dev/v1alpha1",
            "kind": "FederatedJob",
            "metadata": {"name": self.name, "uid": self.uid, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec,
            "status": whole | status,
        }


class Site:
    """An External worker's process, and its files."""

    def __init__(self, folder: Path, bundle: Bundle, policy: str = POLICY) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.bundle, self.policy, self.log = folder / "bundle.json", folder / "site.yaml", folder / "worker.log"
        self.bundle.write_text(bundle.to_json())
        self.policy.write_text(policy)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "muster_cli.main", "worker", "--join", str(self.bundle)]
        command += ["--policy", str(self.policy), "--state", str(self.folder / "state"), *arguments]
        path = os.pathsep.join(filter(None, (str(TASKS), os.environ.get("PYTHONPATH"))))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stderr=log, stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path, **environment}
            )
        return self.process

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(GIVE_UP_S)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def audit(self) -> list[dict[str, Any]]:
        path = self.folder / "state" / "audit.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def events(self, **told: Any) -> list[str]:
        return [entry["event"] for entry in self.audit() if told.items() <= entry.items()]

    def until(self, event: str, **told: Any) -> None:
        wait_until(lambda: event in self.events(**told), f"{event} {told}; {self.audit()[-5:]}")


def wait_until(is_so: Callable[[], bool], what: str, within_s: float = GIVE_UP_S) -> None:
    deadline = time.monotonic() + within_s
    while not is_so():
        assert time.monotonic() < deadline, f"it never came about: {what}"
        time.sleep(0.1)


def follow_end(api: FakeApiServer, job: Job, process: subprocess.Popen[bytes]) -> threading.Thread:
    """What the operator does when a coordinator has ended: the job's phase says so."""

    def follow() -> None:
        code = process.wait()
        api.change("FederatedJob", job.name, status={"phase": "Complete" if code == 0 else "Failed"})

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread
